use super::super::tests::{load_text, problems};
use super::*;

const TOP: &str = "public_url = \"https://app.test\"\n[[route]]\npath = \"/\"\nupstream = \"http://127.0.0.1:1\"\naccept = [\"bearer\"]\n\
                   allow = \"any-authenticated\"\n";
const ISSUER: &str = "[[token_issuer]]\nissuer = \"https://i.test\"\n";
const SECRET: &str = "client_id = \"g\"\nclient_secret = \"s3cret\"\n";

fn issuers(tables: &str) -> Vec<TokenIssuer> {
    let told = |problems: Vec<super::super::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    load_text("config.toml", &format!("{TOP}{tables}"), &[])
        .map(|config| config.token_issuers)
        .unwrap_or_else(|problems| panic!("{}", told(problems)))
}

fn told(tables: &str) -> Vec<(String, String)> {
    problems(&format!("{TOP}{tables}"))
}

#[test]
fn an_issuer_is_read_with_where_its_keys_are() {
    let plain = issuers(&format!("{ISSUER}audience = \"x\""));
    assert!(plain[0].keys == TokenKeys::Discovered && plain[0].introspection.is_none() && plain[0].scope_claim.is_none());
    let at = issuers(&format!("{ISSUER}audience = \"x\"\njwks_uri = \"https://keys.test/jwks\"\nscope_claim = \"realm.scopes\""));
    assert_eq!(at[0].keys, TokenKeys::At("https://keys.test/jwks".parse().unwrap()));
    assert_eq!(at[0].scope_claim.as_ref().map(ClaimPath::as_str), Some("realm.scopes"));
    let id = issuers(&format!("{ISSUER}audience = \"app\"\ntyp = \"id_token\""));
    assert_eq!(id[0].typ, TokenTyp::IdToken);
}

#[test]
fn introspection_is_read_with_who_asks() {
    let found = issuers(&format!("{ISSUER}audience = \"x\"\nintrospection = true\n{SECRET}"));
    let asked = found[0].introspection.as_ref().unwrap();
    assert!(asked.endpoint.is_none() && asked.cache == CACHE && matches!(asked.auth, ClientAuthentication::Basic(_)));
    let rest = "introspection = \"http://127.0.0.1:9/i?realm=x\"\nclient_auth = \"post\"\nintrospection_cache = \"0s\"\n";
    let found = issuers(&format!("{ISSUER}audience = \"any\"\n{rest}{SECRET}"));
    let asked = found[0].introspection.as_ref().unwrap();
    assert_eq!(asked.endpoint.as_ref().map(Url::as_str), Some("http://127.0.0.1:9/i?realm=x"));
    assert!(asked.cache.is_zero() && matches!(asked.auth, ClientAuthentication::Post(_)) && found[0].audience.is_none());
}

#[test]
fn what_does_not_fit_together_is_told_with_what_to_write() {
    for (lines, key, words) in [
        ("audience = \"any\"\ntyp = \"id_token\"", "audience", "client_id"),
        ("audience = \"x\"\ntyp = \"jwt\"", "typ", "id_token"),
        ("audience = \"x\"\njwks_uri = \"http://keys.test/jwks\"", "jwks_uri", "https"),
        ("audience = \"x\"\njwks_uri = \"keys\"", "jwks_uri", "a URL"),
        ("audience = \"x\"\njwks_file = \"/nowhere/jwks.json\"", "jwks_file", "cannot be read"),
        ("audience = \"x\"\njwks_file = \"/dev/null\"", "jwks_file", "JWK Set"),
        ("audience = \"x\"\nbearer_file = \"/nowhere/token\"", "bearer_file", "cannot be read"),
        ("audience = \"x\"\nintrospection = false", "introspection", "leave it out"),
        ("audience = \"x\"\nintrospection = \"http://i.test/i\"\nclient_id = \"g\"\nclient_secret = \"s\"", "introspection", "https"),
        ("audience = \"x\"\nintrospection = true", "client_id", "is missing"),
        ("audience = \"x\"\nintrospection = true\nclient_id = \"g\"", "client_secret_file", "is missing"),
        ("audience = \"x\"\nintrospection = true\nclient_id = \"g\"\nclient_secret = \"\"", "client_secret", "empty"),
        (
            "audience = \"x\"\nintrospection = true\nclient_id = \"g\"\nclient_secret = \"s\"\nintrospection_cache = \"2h\"",
            "introspection_cache",
            "1h",
        ),
        ("audience = \"x\"\nclient_id = \"g\"", "client_id", "introspection only"),
        ("audience = \"x\"\nclient_secret = \"s\"", "client_secret", "introspection only"),
        ("audience = \"x\"\nintrospection_cache = \"1m\"", "introspection_cache", "introspection only"),
        ("audience = \"x\"\nscope_claim = \"a..b\"", "scope_claim", "a claim's name"),
    ] {
        let found = told(&format!("{ISSUER}{lines}"));
        let path = format!("token_issuer[0].{key}");
        assert!(found.iter().any(|(at, message)| *at == path && message.contains(words)), "{lines}: {found:?}");
    }
}

#[test]
fn opaque_tokens_are_one_issuers() {
    let one = |name: &str| format!("[[token_issuer]]\nissuer = \"https://{name}.test\"\naudience = \"x\"\nintrospection = true\n{SECRET}");
    assert!(told(&one("a")).is_empty());
    let found = told(&format!("{}{}", one("a"), one("b")));
    assert!(found.iter().any(|(at, message)| at == "token_issuer[1].introspection" && message.contains("https://a.test")), "{found:?}");
}

#[test]
fn keys_and_a_bearer_of_ones_own_lie_in_files() {
    let folder = std::env::temp_dir().join(format!("doorward-issuers-{}", crate::secret::random_token()));
    std::fs::create_dir(&folder).unwrap();
    let (jwks, bearer) = (folder.join("jwks.json"), folder.join("token"));
    std::fs::write(&bearer, "eyJ.token\n").unwrap();
    let lines = |rest: &str| format!("{ISSUER}audience = \"x\"\njwks_file = \"{}\"\n{rest}", jwks.display());
    std::fs::write(&jwks, "{\"keys\": [{\"kty\": \"oct\", \"k\": \"AA\"}]}").unwrap();
    assert!(told(&lines("")).iter().any(|(_, message)| message.contains("no public key")));
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    std::fs::write(&jwks, format!("{{\"keys\": [{{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"{x}\"}}]}}")).unwrap();
    assert_eq!(issuers(&lines(""))[0].keys, TokenKeys::File(jwks.clone()));
    assert!(told(&lines("jwks_uri = \"https://i.test/jwks\"")).iter().any(|(at, _)| at == "token_issuer[0].jwks_uri"));
    let with_bearer = format!("bearer_file = \"{}\"", bearer.display());
    assert!(
        told(&lines(&with_bearer))
            .iter()
            .any(|(at, message)| at == "token_issuer[0].bearer_file" && message.contains("nothing is fetched"))
    );
    assert!(told(&lines(&format!("{with_bearer}\nintrospection = true\n{SECRET}"))).is_empty());
    let found = issuers(&format!("{ISSUER}audience = \"x\"\n{with_bearer}"));
    assert_eq!(found[0].bearer.as_ref().unwrap().get().expose(), "eyJ.token");
    std::fs::remove_dir_all(&folder).unwrap();
}
