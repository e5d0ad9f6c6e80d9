//! Which claims of the provider say what, and when an address counts.

use super::super::Out;
use super::super::document::{inline, text, texts};
use super::super::given::Givens;
use super::super::old::Old;
use super::super::report::Part;
use super::provider::Profile;

/// The provider there that tells roles as groups.
const KEYCLOAK: &str = "keycloak-oidc";

/// Which claims say what.
pub(super) fn map(old: &Old, givens: &Givens, profile: &Profile, kind: &str, out: &mut Out) {
    let by_email = old.rest.switched("prefer-email-to-user", true);
    let user = if by_email.is_some() { "email" } else { profile.user };
    let from: Vec<&str> = by_email.iter().map(|given| given.said.as_str()).collect();
    out.document.table("[provider]").set("user_claim", text(user), &from).explain("What X-Forwarded-User was; apps keep accounts by it.");
    if let Some(given) = by_email {
        out.report.say(Part::Taken, given, "user_claim = \"email\"");
    }
    let email = [givens.text("oidc-email-claim"), givens.text("user-id-claim")].into_iter().flatten().find(|(_, claim)| *claim != "email");
    match email {
        Some((given, claim)) => {
            out.document.table("[provider]").set("email_claim", text(claim), &[&given.said]);
            out.report.say(Part::Taken, given, "email_claim");
        }
        None if kind == "adfs" => {
            out.document
                .table("[provider]")
                .set("email_claim", text("upn"), &[])
                .explain("AD FS sends the address as upn where it sends no email.");
            out.report.note(Part::Different, "adfs", "upn stood in for a missing e-mail; it is email_claim here");
        }
        None => {}
    }
    if let Some((given, claim)) = givens.text("oidc-groups-claim") {
        if claim != "groups" {
            out.document.table("[provider]").set("groups_claim", text(claim), &[&given.said]);
        }
        out.report.say(Part::Taken, given, "groups_claim: a literal name first, then a path");
    }
    let id_alone = givens.switched("skip-claims-from-profile-url", true);
    let (roles, asking) = keycloak_roles(givens, kind);
    let roles = !roles.is_empty() || !asking.is_empty();
    if roles || id_alone.is_some() {
        let mut places = vec!["id_token"];
        places.extend(id_alone.is_none().then_some("userinfo"));
        places.extend(roles.then_some("access_token"));
        let from: Vec<&str> = id_alone.iter().map(|given| given.said.as_str()).collect();
        let table = out.document.table("[provider]").set("claims_from", texts(places), &from);
        if roles {
            table.explain("Keycloak keeps roles in the access token.");
        }
    }
    if let Some(given) = id_alone {
        out.report.say(Part::Taken, given, "claims_from without \"userinfo\"");
    }
    role_places(givens, kind, out);
    verified(givens, profile, kind, out);
}

/// The roles that rules name, without `role:`, and the options that name them; `allowed-group` may name one as `role:NAME` too.
fn keycloak_roles(givens: &Givens, kind: &str) -> (Vec<String>, Vec<String>) {
    let mut roles = givens.list("allowed-role");
    let mut asking: Vec<String> =
        givens.get("allowed-role").filter(|given| !given.values.is_empty()).map(|given| given.said.clone()).into_iter().collect();
    let groups: Vec<String> =
        givens.list("allowed-group").iter().filter_map(|group| Some(group.strip_prefix("role:")?.to_owned())).collect();
    if kind == KEYCLOAK && !groups.is_empty() {
        asking.extend(givens.get("allowed-group").map(|given| given.said.clone()));
        roles.extend(groups);
    }
    (roles, asking)
}

/// Roles are groups with `role:` before them.
fn role_places(givens: &Givens, kind: &str, out: &mut Out) {
    let (roles, asking) = keycloak_roles(givens, kind);
    let groups = givens.text("oidc-groups-claim").map_or("groups", |(_, claim)| claim);
    if roles.is_empty() {
        if kind == KEYCLOAK {
            let text = format!(
                "Keycloak's roles stood among the groups that apps are told, as role:NAME and role:CLIENT:NAME; for those of the realm write \
                 claims_from = [\"id_token\", \"userinfo\", \"access_token\"] and groups_claim = {{ {groups} = \"\", \"realm_access.roles\" = \"role:\" }}"
            );
            out.report.note(Part::Different, "roles", text);
        }
        return;
    }
    let mut places = vec![(groups.to_owned(), text("")), ("realm_access.roles".to_owned(), text("role:"))];
    for client in roles.iter().filter_map(|role| role.split_once(':')).map(|(client, _)| client) {
        let place = (format!("resource_access.{client}.roles"), text(&format!("role:{client}:")));
        if !places.contains(&place) {
            places.push(place);
        }
    }
    out.document
        .table("[provider]")
        .set("groups_claim", inline(places), &asking.iter().map(String::as_str).collect::<Vec<_>>())
        .explain("A place for each kind, and what stands before its names.");
}

fn verified(givens: &Givens, profile: &Profile, kind: &str, out: &mut Out) {
    let tenants = !givens.list("entra-id-allowed-tenant").is_empty();
    let lax = givens.switched("insecure-oidc-allow-unverified-email", true);
    if tenants {
        let text = "with several tenants addresses do not count, since people there choose their own: go by groups, or by claims";
        out.report.note(Part::Different, "email_verified", text);
        if let Some(given) = lax {
            out.report.say(Part::Missing, given, text);
        }
        return;
    }
    if let Some(given) = lax {
        let text = "email_verified = \"if-present\": an address counts where the provider says nothing of it; where it says false it does not. Have it mark addresses verified, or go by groups";
        out.report.say(Part::Missing, given, text);
    }
    if lax.is_some() || !profile.verifies {
        let from: Vec<&str> = lax.iter().map(|given| given.said.as_str()).collect();
        out.document.table("[provider]").set("email_verified", text("if-present"), &from).explain(
            "An address counted there unless the provider said email_verified: false. \"required\" is safer, where the provider says true.",
        );
        out.report.note(
            Part::Different,
            "email_verified",
            format!("a missing email_verified counted as verified there, and \"required\" is the default here; {kind} may not send it, so that \"if-present\" is written"),
        );
    } else {
        out.report.note(Part::Different, "email_verified", format!("an address counts only with email_verified: true, which {kind} sends"));
    }
}
