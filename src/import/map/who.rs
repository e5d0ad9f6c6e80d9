//! Who may pass: domains, addresses, groups and roles become one `allow`.

use super::super::Out;
use super::super::document::{inline, text, texts};
use super::super::given::Given;
use super::super::old::Old;
use super::super::options::Kind;
use super::super::report::Part;
use super::provider::Mapped;

/// Who may pass.
pub struct Who {
    /// What `allow` says, in TOML.
    pub allow: String,
    /// Options that it came from.
    pub from: Vec<String>,
    /// Tables as `[policy.NAME]` takes them; `None`: everybody who can sign in.
    pub keys: Option<Table>,
    /// What `deny` says, in TOML.
    pub deny: Option<String>,
}

/// Keys of one table, each with its value in TOML.
pub type Table = Vec<(&'static str, String)>;

/// What stands where an answer of the input is missing; it lets nobody in.
const NOBODY: &str = "fill-in.example.com";
/// The same for groups.
const NO_GROUP: &str = "fill-in";

pub(super) fn map(old: &Old, provider: &Mapped, out: &mut Out) -> Who {
    let mut from = Vec::new();
    let emails = emails(old, &mut from, out);
    let groups = groups(provider, &mut from, out);
    let emails = match emails {
        Emails::Anybody => None,
        Emails::Tables(tables) => Some(tables),
        Emails::Unsaid => {
            out.report.first(format!(
                "say who may pass: the input does not say whose addresses do (email-domain), without which oauth2-proxy does not start; {NOBODY} stands in its place and lets nobody in"
            ));
            Some(vec![vec![("email_domains", texts([NOBODY]))]])
        }
    };
    // By address an unverified one never counts. Where no rule goes by addresses, nobody else would ask.
    let deny = if emails.is_some() { None } else { unverified(provider, old, out) };
    let both = |left: &Table, right: &Table| left.iter().chain(right).cloned().collect::<Table>();
    let alternatives: Vec<Table> = match (emails, groups) {
        (None, None) => Vec::new(),
        (Some(one), None) | (None, Some(one)) => one,
        (Some(emails), Some(groups)) => emails.iter().flat_map(|email| groups.iter().map(move |group| both(email, group))).collect(),
    };
    Who { deny, ..with_local(old, provider, alternatives, from, out) }
}

/// It signed nobody in whose address the provider called unverified, whatever the rule, so that nobody could come under another's.
fn unverified(provider: &Mapped, old: &Old, out: &mut Out) -> Option<String> {
    let givens = &provider.givens;
    let other = ["oidc-email-claim", "user-id-claim"].iter().any(|option| givens.text(option).is_some_and(|(_, claim)| claim != "email"));
    if other || givens.switched("insecure-oidc-allow-unverified-email", true).is_some() {
        return None;
    }
    out.report.note(
        Part::Different,
        "e-mail",
        "whoever had no address, or one that the provider calls unverified, was not signed in there, whatever the rule; `deny` on the routes keeps out the unverified, and who has no address at all passes",
    );
    let mut keys: Table = Vec::new();
    if old.rest.text("htpasswd-file").is_some() || provider.vouching.len() > 1 {
        keys.push(("provider", texts(&provider.vouching)));
    }
    keys.push(("claims", inline([("email_verified", texts(["false"]))])));
    Some(inline(keys))
}

enum Emails {
    Anybody,
    Unsaid,
    Tables(Vec<Table>),
}

fn emails(old: &Old, from: &mut Vec<String>, out: &mut Out) -> Emails {
    let mut domains: Vec<String> = Vec::new();
    let mut tables = Vec::new();
    let mut anybody = false;
    if let Some(given) = old.rest.get("email-domain") {
        from.push(given.said.clone());
        let listed = old.rest.list("email-domain");
        anybody = listed.iter().any(|domain| domain == "*");
        if anybody {
            out.report.say(Part::Taken, given, "whoever can sign in passes, as far as no other rule says otherwise");
        }
        if let Some(place) = given.kept.as_ref().filter(|_| !anybody) {
            out.report.say(Part::Missing, given, format!("its value is kept elsewhere ({place}): write it into email_domains"));
            out.report.first(format!("write the domains of {} into email_domains: the input does not hold them ({place})", given.said));
        }
        for domain in listed.iter().filter(|_| !anybody) {
            if domain.starts_with('@') {
                out.report.say(Part::Missing, given, format!("{domain} fitted no address there; without its @ it is a domain"));
                continue;
            }
            match domain.strip_prefix("*.").or_else(|| domain.strip_prefix('.')) {
                Some(parent) => {
                    out.report.say(
                        Part::Missing,
                        given,
                        format!("{domain} meant every domain below {parent} and not {parent} itself; a domain is exact here: name each in email_domains"),
                    );
                    out.report.first(format!("name the domains below {parent} in email_domains; fill-in.{parent} stands in their place"));
                    domains.push(format!("fill-in.{parent}"));
                }
                None => {
                    out.report.say(Part::Taken, given, "email_domains; a domain is exact, compared without case");
                    domains.push(domain.to_ascii_lowercase());
                }
            }
        }
    }
    if !anybody && !domains.is_empty() {
        tables.push(vec![("email_domains", texts(&domains))]);
    }
    if let Some((given, file)) = old.rest.text("authenticated-emails-file") {
        if anybody {
            out.report.say(Part::Different, given, "did nothing beside email-domain = *, and is left out");
        } else {
            from.push(given.said.clone());
            out.report.say(Part::Taken, given, "emails_file: one address a line, # begins a comment; read again when it changes");
            tables.push(vec![("emails_file", text(file))]);
        }
    }
    match (anybody, tables.is_empty()) {
        (true, _) => Emails::Anybody,
        (false, true) => Emails::Unsaid,
        (false, false) => Emails::Tables(tables),
    }
}

/// One of these is enough.
fn groups(provider: &Mapped, from: &mut Vec<String>, out: &mut Out) -> Option<Vec<Table>> {
    let givens = &provider.givens;
    let mut names: Vec<String> = Vec::new();
    for option in ["allowed-group", "keycloak-group", "gitlab-group", "google-group"] {
        let Some(given) = givens.get(option) else { continue };
        let listed = givens.list(option);
        if listed.is_empty() {
            continue;
        }
        from.push(given.said.clone());
        let (part, text) = if option == "google-group" {
            let text = "groups; Google's ID tokens hold none, so that nobody passes until something tells them: Dex's Google connector does, or name the people in emails_file instead";
            out.report.first("Google tells no groups: choose emails, emails_file, or a provider between (Dex) before people come; until then nobody passes");
            (Part::Missing, text)
        } else {
            (Part::Taken, "groups: a member of one of them passes")
        };
        out.report.say(part, given, text);
        names.extend(listed);
    }
    github(provider, &mut names, from, out);
    if let Some(given) = givens.get("allowed-role") {
        let listed = givens.list("allowed-role");
        if !listed.is_empty() {
            from.push(given.said.clone());
            let text = "groups with role: before the name, out of the access token: realm_access.roles, and resource_access.CLIENT.roles of the clients that the rule names";
            out.report.say(Part::Taken, given, text);
            names.extend(listed.iter().map(|role| format!("role:{role}")));
        }
    }
    if names.is_empty() {
        let unknown: Vec<&Given> = NARROWING.iter().filter_map(|option| givens.get(option)).filter(|given| said(Some(given))).collect();
        for given in &unknown {
            from.push(given.said.clone());
            names = vec![NO_GROUP.to_owned()];
            let place = given.kept.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
            out.report
                .first(format!("say whom {} let pass{place}: groups = [{NO_GROUP:?}] stands in its place and lets nobody in", given.said));
            if given.kept.is_some() {
                out.report.say(Part::Missing, given, format!("its value is kept elsewhere{place}: write it into groups"));
            }
        }
    }
    let mut tables: Vec<Table> = Vec::new();
    if !names.is_empty() {
        tables.push(vec![("groups", texts(&names))]);
    }
    (!tables.is_empty()).then_some(tables)
}

/// Each let only some of those pass who could sign in. One that cannot be carried over lets nobody in.
const NARROWING: [&str; 12] = [
    "allowed-group",
    "allowed-role",
    "keycloak-group",
    "gitlab-group",
    "gitlab-project",
    "google-group",
    "github-org",
    "github-team",
    "github-repo",
    "github-user",
    "bitbucket-team",
    "bitbucket-repository",
];

/// Organisations and teams, as Dex's connector shows them.
fn github(provider: &Mapped, names: &mut Vec<String>, from: &mut Vec<String>, out: &mut Out) {
    let givens = &provider.givens;
    let org = givens.text("github-org");
    if let Some((given, teams)) = givens.text("github-team") {
        from.push(given.said.clone());
        let slugs = teams.split(',').map(str::trim).filter(|team| !team.is_empty());
        names.extend(slugs.map(|team| org.map_or_else(|| team.to_owned(), |(_, org)| format!("{org}:{team}"))));
        out.report.say(
            Part::Missing,
            given,
            "groups = [\"ORG:TEAM\"], as Dex's GitHub connector shows teams; Doorward itself does not ask GitHub",
        );
    }
    if let Some((given, name)) = org {
        if givens.text("github-team").is_none() {
            from.push(given.said.clone());
            names.push(name.to_owned());
        }
        out.report.say(Part::Missing, given, "groups, as Dex's GitHub connector shows organisations; Doorward itself does not ask GitHub");
    }
    if let Some(given) = givens.get("github-user").filter(|given| !given.values.is_empty()) {
        let text = "not taken over: with Dex between, claims = { preferred_username = [..] } beside groups in any_of lets single people in";
        out.report.say(Part::Missing, given, text);
    }
}

/// People of a password file pass without an address; and where several vouch, every rule says whose word counts.
fn with_local(old: &Old, provider: &Mapped, alternatives: Vec<Table>, mut from: Vec<String>, out: &mut Out) -> Who {
    let local = old.rest.text("htpasswd-file").is_some();
    let theirs: Vec<String> = old.rest.list("htpasswd-user-group");
    let mut tables = alternatives;
    let wants_groups = tables.iter().any(|table| table.iter().any(|(key, _)| *key == "groups"));
    if tables.is_empty() {
        return Who { allow: text("any-authenticated"), from, keys: None, deny: None };
    }
    if local || provider.vouching.len() > 1 {
        for table in &mut tables {
            table.insert(0, ("provider", texts(&provider.vouching)));
        }
    }
    if let (true, Some((given, _))) = (local, old.rest.text("htpasswd-file")) {
        let wanted = tables.iter().flatten().filter(|(key, _)| *key == "groups");
        let reached = !wants_groups || theirs.iter().any(|group| wanted.clone().any(|(_, names)| names.contains(&text(group))));
        if reached {
            from.push(given.said.clone());
            tables.push(vec![("provider", texts(["local"]))]);
        } else {
            out.report
                .first("people of the password file are in none of the groups that the rule asks for, so that they do not pass, as before");
        }
    }
    let keys = match tables.as_slice() {
        [one] => one.clone(),
        several => vec![("any_of", super::super::document::array(several.iter().map(|table| inline(table.iter().cloned()))))],
    };
    Who { allow: inline(keys.iter().cloned()), from, keys: Some(keys), deny: None }
}

/// A rule that a query narrowed: `?allowed_groups=…`.
pub(super) fn narrowed(query: &[(String, String)], provider: &Mapped) -> Table {
    let mut keys: Table = Vec::new();
    let words = [("allowed_groups", "groups"), ("allowed_emails", "emails"), ("allowed_email_domains", "email_domains")];
    if provider.vouching.len() > 1 {
        keys.push(("provider", texts(&provider.vouching)));
    }
    for (word, key) in words {
        let values = query.iter().filter(|(name, _)| name == word).flat_map(|(_, value)| value.split(','));
        let values: Vec<&str> = values.map(str::trim).filter(|value| !value.is_empty()).collect();
        if !values.is_empty() {
            keys.push((key, texts(&values)));
        }
    }
    keys
}

/// Whether an option says anything.
pub(super) fn said(given: Option<&Given>) -> bool {
    // A list of an empty text does, and an empty text does not.
    given.is_some_and(|given| given.kept.is_some() || (given.row.kind == Kind::List && !given.values.is_empty()) || given.text().is_some())
}
