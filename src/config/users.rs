//! `[[user]]` and `users_file`: people who sign in on a form of ours, where there is no provider or beside one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::gateway::Gateway;
use super::providers::Provider;
use super::reader::Section;
use super::secret_file;
use super::token::TokenEndpoint;
use crate::credential::CredentialKind;
use crate::policy::EmailAddress;
use crate::provider::local::{self, Account, AccountSource, PasswordHash, TotpKey};

/// The local accounts.
#[derive(Clone)]
pub struct Users {
    /// Those of the config.
    pub accounts: Vec<Account>,
    /// An htpasswd file with more of them, read again when it changes.
    pub file: Option<PathBuf>,
    /// What they are known by beside their names: the first `public_url`'s origin.
    pub issuer: String,
}

/// Where people can sign in: a provider, or the local accounts.
pub(super) struct SignInAt {
    pub(super) id: String,
    pub(super) issuer: String,
    /// What its people show: sessions where browsers sign in there, bearer tokens where the token endpoint gives them out, passwords
    /// where they are ours.
    pub(super) shows: Vec<CredentialKind>,
}

/// All of them: providers in file order, then the local accounts, then whose tokens the token endpoint takes.
pub(super) fn places(providers: &[Provider], users: Option<&Users>, token: Option<&TokenEndpoint>) -> Vec<SignInAt> {
    let by_browser = |id: &str, issuer: String| {
        let mut shows = vec![CredentialKind::Session];
        shows.extend(token.filter(|token| token.gives_sessions_of(id)).map(|_| CredentialKind::Bearer));
        // Passwords are those of local accounts.
        shows.extend((id == local::LOCAL).then_some(CredentialKind::Basic));
        SignInAt { id: id.to_owned(), issuer, shows }
    };
    let mut places: Vec<_> = providers.iter().map(|provider| by_browser(&provider.id, provider.issuer.clone())).collect();
    places.extend(users.map(|users| by_browser(local::LOCAL, users.issuer.clone())));
    let foreign = token.iter().flat_map(|token| &token.foreign);
    places.extend(
        foreign.filter_map(|one| Some(SignInAt { id: one.id.clone(), issuer: one.issuer()?, shows: vec![CredentialKind::Bearer] })),
    );
    places
}

pub(super) fn read(root: &Section<'_>, gateway: Option<&Gateway>, providers: &[Provider]) -> Option<Users> {
    let sections = root.sections("user");
    let file = root.file("users_file");
    if sections.is_empty() && file.is_none() {
        return None;
    }
    if let Some(provider) = providers.iter().find(|provider| provider.id == local::LOCAL) {
        root.problem("provider", format!("the id {:?} is that of the accounts in user and users_file; choose another", provider.id));
    }
    let mut names = BTreeSet::new();
    let mut accounts = Vec::new();
    for section in &sections {
        let account = read_user(section);
        if let Some(account) = &account
            && !names.insert(account.name.clone())
        {
            section.problem("name", format!("{:?} is the name of another user already", account.name));
        }
        accounts.extend(account);
    }
    if let Some(file) = &file {
        secret_file::warn_if_open(root, "users_file", file);
        match AccountSource::new(accounts.clone(), Some(file.clone())) {
            Ok(source) => {
                let all = source.current();
                if all.all().next().is_none() {
                    root.warning("users_file", "names nobody yet, so that nobody can sign in with a password");
                }
                let weak = all.all().filter(|account| !names.contains(&account.name) && is_weak(account)).count();
                if weak > 0 {
                    root.warning("users_file", format!("{weak} of its passwords can be guessed quickly by whoever gets hold of the file; a higher bcrypt cost helps (htpasswd -B -C 12), or `doorward hash-password`"));
                }
            }
            Err(wrong) => wrong.into_iter().for_each(|wrong| root.problem("users_file", format!("{}: {wrong}", file.display()))),
        }
    }
    // Where hosts share a session or not, one origin stands for the gateway.
    let issuer = gateway.map(|gateway| gateway.sites.first().origin().ascii_serialization()).unwrap_or_default();
    Some(Users { accounts, file, issuer })
}

fn read_user(section: &Section<'_>) -> Option<Account> {
    let name =
        section.required_text("name", "ann").and_then(|_| section.parsed("name", |text| local::check_name(text).map(|()| text.to_owned())));
    let password = secret_file::read(section, "password", 1);
    let given = ["password", "password_file"].into_iter().find(|key| section.has(key));
    match (&password, given) {
        (None, None) => section.problem("password", "is missing: the hash that `doorward hash-password` prints"),
        (Some(password), Some(key)) => match PasswordHash::parse(password.get().expose()) {
            Ok(hash) if hash.is_weak() => {
                section.warning(key, "can be guessed quickly by whoever gets hold of it; make it anew with `doorward hash-password`");
            }
            Ok(_) => {}
            Err(error) => section.problem(key, error),
        },
        _ => {}
    }
    let email = section.parsed("email", |text| match EmailAddress::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("expected an e-mail address such as \"ann@example.com\"; found {text:?}")),
    });
    let groups = section.list("groups").unwrap_or_default();
    let totp = secret_file::read(section, "totp", 1);
    if let (Some(totp), Some(key)) = (&totp, ["totp", "totp_file"].into_iter().find(|key| section.has(key)))
        && let Err(error) = TotpKey::parse(totp.get().expose())
    {
        section.problem(key, error);
    }
    section.finish();
    Some(Account { name: name?, password: password?, email, groups, totp })
}

fn is_weak(account: &Account) -> bool {
    PasswordHash::parse(account.password.get().expose()).is_ok_and(|hash| hash.is_weak())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::config::{Config, Problem, Severity, Sources, load};

    const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$jsAm5nlH+xspNzm7EUYjTA$gs9bE8Hm9/VZ41GEjHQBaW8W72ye0GJ9DNT347J+5vk";
    const WEAK: &str = "$2y$04$FvZ/Pz0vn2hJpe5GgaD/HezSF2u4sY7TBWxdpLaMFNa7vYtT.jky.";

    /// A gateway without a provider, from the environment alone.
    fn read(variables: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
        let rest = [
            ("DOORWARD_PUBLIC_URL", "https://app.test"),
            ("DOORWARD_UPSTREAM", "http://127.0.0.1:1"),
            ("DOORWARD_ALLOW", "any-authenticated"),
            ("DOORWARD_STORE__KIND", "memory"),
        ];
        let environment: BTreeMap<_, _> =
            rest.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        load(&Sources { environment, ..Sources::default() })
    }

    fn told(found: &[Problem], severity: Severity) -> Vec<(String, String)> {
        found.iter().filter(|one| one.severity == severity).map(|one| (one.path.clone(), one.message.clone())).collect()
    }

    #[test]
    fn users_alone_are_a_config() {
        let text = format!(r#"[{{"name": "ann", "password": "{HASH}", "email": "ann@x.test", "groups": ["staff"]}}]"#);
        let config = read(&[("DOORWARD_USER", &text)]).map_err(|problems| format!("{problems:?}")).unwrap();
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let users = config.users.unwrap();
        assert_eq!((users.issuer.as_str(), users.accounts.len()), ("https://app.test", 1));
        assert_eq!(
            (users.accounts[0].email.as_deref(), users.accounts[0].groups.as_slice()),
            (Some("ann@x.test"), &["staff".to_owned()][..])
        );
        let Err(problems) = read(&[]) else { panic!("nobody can sign in") };
        assert!(told(&problems, Severity::Error).iter().any(|(_, message)| message.contains("users_file")), "{problems:?}");
    }

    #[test]
    fn every_mistake_is_told_by_its_key_and_never_with_a_hash() {
        let user = |rest: &str| format!(r#"[{{"name": "ann", "password": "{HASH}"{rest}}}]"#);
        for (text, path, word) in [
            (r#"[{"name": "ann"}]"#.to_owned(), "user[0].password", "hash-password"),
            (format!(r#"[{{"password": "{HASH}"}}]"#), "user[0].name", "missing"),
            (format!(r#"[{{"name": "a:b", "password": "{HASH}"}}]"#), "user[0].name", "colon"),
            (r#"[{"name": "ann", "password": "hunter2-hunter2"}]"#.to_owned(), "user[0].password", "no password hash"),
            (r#"[{"name": "ann", "password": "{SHA}hunter2-hunter2"}]"#.to_owned(), "user[0].password", "SHA-1"),
            (user("").replace("m=19456", "m=4194304"), "user[0].password", "too much"),
            (user(r#", "emial": "x""#), "user[0].emial", "did you mean"),
            (user(r#", "email": "nobody""#), "user[0].email", "e-mail address"),
            (user(r#", "totp": "GEZDGNBV""#), "user[0].totp", "too short"),
            (user(r#", "totp": "GEZDGNBV-GY3TQOJQ-GEZDGNBV-GY3TQO10""#), "user[0].totp", "base32"),
            (user(r#", "totp_file": "/nowhere/totp""#), "user[0].totp_file", "cannot be read"),
            (user(&format!(r#"}}, {{"name": "ann", "password": "{HASH}""#)), "user[1].name", "another user"),
        ] {
            let Err(problems) = read(&[("DOORWARD_USER", &text)]) else { panic!("{text} is taken") };
            let errors = told(&problems, Severity::Error);
            assert!(errors.iter().any(|(found, message)| found == path && message.contains(word)), "{path} {word}: {errors:?}");
            assert!(!format!("{problems:?}").contains("hunter2") && !format!("{problems:?}").contains("gs9bE8Hm"), "{problems:?}");
        }
        let provider = [
            ("DOORWARD_PROVIDER__ID", "local"),
            ("DOORWARD_PROVIDER__ISSUER", "https://login.test"),
            ("DOORWARD_PROVIDER__CLIENT_ID", "app"),
            ("DOORWARD_PROVIDER__CLIENT_SECRET", "s3cret"),
            ("DOORWARD_USER", &user("")),
        ];
        let Err(problems) = read(&provider) else { panic!("two of one id") };
        assert!(told(&problems, Severity::Error).iter().any(|(path, message)| path == "provider" && message.contains("choose another")));
    }

    #[test]
    fn a_users_file_tells_its_lines_and_what_is_weak() {
        let path = std::env::temp_dir().join(format!("doorward-users-{}", crate::secret::encode(&crate::secret::random::<8>())));
        let name = path.display().to_string();
        std::fs::write(&path, format!("ann:{WEAK}\nbob:{HASH}\n")).unwrap();
        let config = read(&[("DOORWARD_USERS_FILE", &name)]).map_err(|problems| format!("{problems:?}")).unwrap();
        let warnings = told(&config.warnings, Severity::Warning);
        assert!(warnings.iter().any(|(path, message)| path == "users_file" && message.starts_with("1 of")), "{warnings:?}");
        let weak = format!(r#"[{{"name": "carol", "password": "{WEAK}"}}]"#);
        let config = read(&[("DOORWARD_USERS_FILE", &name), ("DOORWARD_USER", &weak)]).map_err(|problems| format!("{problems:?}")).unwrap();
        assert!(told(&config.warnings, Severity::Warning).iter().any(|(path, _)| path == "user[0].password"), "{:?}", config.warnings);

        std::fs::write(&path, "# nobody yet\n").unwrap();
        let config = read(&[("DOORWARD_USERS_FILE", &name)]).map_err(|problems| format!("{problems:?}")).unwrap();
        assert!(
            told(&config.warnings, Severity::Warning).iter().any(|(_, message)| message.contains("nobody yet")),
            "{:?}",
            config.warnings
        );
        std::fs::write(&path, "ann:{SHA}x\nbob\n").unwrap();
        let Err(problems) = read(&[("DOORWARD_USERS_FILE", &name)]) else { panic!("it is taken") };
        let errors = told(&problems, Severity::Error);
        assert!(errors.iter().filter(|(path, message)| path == "users_file" && message.contains(&name)).count() == 2, "{errors:?}");
        let twice = format!(r#"[{{"name": "ann", "password": "{HASH}"}}]"#);
        std::fs::write(&path, format!("ann:{HASH}\n")).unwrap();
        let Err(problems) = read(&[("DOORWARD_USERS_FILE", &name), ("DOORWARD_USER", &twice)]) else { panic!("it is taken") };
        assert!(
            told(&problems, Severity::Error).iter().any(|(_, message)| message.contains("account of the config already")),
            "{problems:?}"
        );
        std::fs::remove_file(&path).unwrap();
        let Err(problems) = read(&[("DOORWARD_USERS_FILE", &name)]) else { panic!("it is taken") };
        assert!(told(&problems, Severity::Error).iter().any(|(_, message)| message.contains("cannot be read")), "{problems:?}");
    }
}
