//! `tenants` of `[provider]`: Entra ID's organisations behind one address, each with an issuer of its own; and its shared addresses, which
//! are no issuer at all.

use url::Url;

use super::reader::Section;
use crate::identity::EmailVerification;
use crate::token::Issuer;

/// Entra ID, worldwide and national.
const HOSTS: [&str; 5] =
    ["login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn", "login.windows.net", "sts.windows.net"];
/// The one tenant of all personal accounts.
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
const EXAMPLE: &str = "[\"11111111-2222-3333-4444-555555555555\"]";

/// Whose tokens the provider's are. With problems it is the issuer as it was written, and the config is refused.
pub(super) fn read(section: &Section<'_>, issuer: &str, verification: EmailVerification) -> Issuer {
    let ids = section.parsed_list("tenants", parse_id);
    let one = || Issuer::One(issuer.to_owned());
    let Some(word) = shared_word(issuer, section.has("tenants")) else {
        if section.has("tenants") && !issuer.is_empty() {
            section.problem(
                "tenants",
                "is for an issuer whose path has \"organizations\" or \"common\" where the tenant stands, such as \"https://login.microsoftonline.com/organizations/v2.0\"; an issuer that names one tenant needs no list",
            );
        }
        return one();
    };
    match word {
        "consumers" => section.problem(
            "issuer",
            format!("names personal accounts by a word, and their tokens by a tenant; write issuer = \"https://login.microsoftonline.com/{CONSUMERS}/v2.0\""),
        ),
        "{tenantid}" => section.problem(
            "issuer",
            format!("holds {{tenantid}}, which stands for any tenant; write the tenant's id there, or \"organizations\" there and beside it tenants = {EXAMPLE}"),
        ),
        word if !section.has("tenants") => section.problem(
            "issuer",
            format!("is the address of all tenants ({word:?}) and no token's issuer; write the tenant's id in its place, or list those that are admitted: tenants = {EXAMPLE}"),
        ),
        _ => {}
    }
    let Some(ids) = ids else { return one() };
    if verification == EmailVerification::IfPresent {
        section.problem(
            "email_verified",
            "is \"if-present\" beside tenants, where every tenant's administrator may give people any address; leave it out, and write rules on groups, or on the claims tid and oid",
        );
    }
    let by_key = section.text("client_auth").is_some_and(|way| way == "private_key_jwt");
    if by_key && section.text("assertion_audience").is_none_or(|audience| audience != "token_endpoint") {
        section.problem(
            "assertion_audience",
            "has to be \"token_endpoint\" beside tenants: many issuers are behind it, and none is the one to name",
        );
    }
    Issuer::of_tenants(issuer, ids).unwrap_or_else(|| {
        if word != "consumers" && word != "{tenantid}" {
            section.problem(
                "issuer",
                "expected exactly one \"organizations\" or \"common\" in its path, in small letters, where the tenant stands",
            );
        }
        one()
    })
}

/// The piece of the path that stands for many tenants, or for one that is not named. Another provider may well have a realm named
/// "common": its issuer is one where nothing speaks of tenants.
fn shared_word(issuer: &str, tenants: bool) -> Option<&'static str> {
    let url = Url::parse(issuer).ok()?;
    let path = url.path().replace("%7B", "{").replace("%7D", "}");
    let microsoft = url.host_str().is_some_and(|host| HOSTS.contains(&host));
    let words = ["organizations", "common", "consumers", "{tenantid}"];
    let found = words.into_iter().find(|word| path.split('/').any(|piece| piece.eq_ignore_ascii_case(word)))?;
    let meant = microsoft || found == "{tenantid}" || (tenants && found != "consumers");
    meant.then_some(found)
}

fn parse_id(text: &str) -> Result<String, String> {
    let pieces: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
    let sound = lengths == [8, 4, 4, 4, 12] && pieces.iter().all(|piece| piece.bytes().all(|byte| byte.is_ascii_hexdigit()));
    // Tokens hold it in small letters.
    if sound { Ok(text.to_ascii_lowercase()) } else { Err(format!("expected tenants' ids such as {EXAMPLE}; found {text:?}")) }
}
