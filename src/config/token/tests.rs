use std::collections::BTreeMap;

use super::*;
use crate::config::{Config, Problem, Severity, Sources, load};
use crate::credential::CredentialKind;

const USER: &str = r#"[{"name": "ann", "password": "$2b$12$PuJ1zw5RA5igaj0AntQ6geda9jWB2qDAkQ0guzSEqt5G57UbxYf7y"}]"#;
const FACEBOOK: &str = r#"{"id": "facebook", "kind": "facebook", "app_id": "7", "app_secret": "0123456789abcdef"}"#;
const CHECK: &str =
    r#"{"id": "google", "kind": "check", "check_url": "https://check.test/info", "token_in": "query:id_token", "audience": ["ours"]}"#;
const EXCHANGE: &str =
    r#"{"id": "other", "kind": "exchange", "provider": "corp", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}"#;

/// A gateway with a provider and an app for programs; `token`, `foreign` and `user` are JSON, empty ones are not there.
fn read(token: &str, foreign: &str, user: &str, allow: &str) -> Result<Config, Vec<Problem>> {
    read_with("", token, foreign, user, allow)
}

/// The same; `dpop` is the provider's.
fn read_with(dpop: &str, token: &str, foreign: &str, user: &str, allow: &str) -> Result<Config, Vec<Problem>> {
    let route = format!(r#"[{{"id": "api", "upstream": "http://127.0.0.1:1", "accept": ["bearer"], "allow": {allow}}}]"#);
    let pairs = [
        ("DOORWARD_PUBLIC_URL", "https://app.test"),
        ("DOORWARD_STORE__KIND", "memory"),
        ("DOORWARD_PROVIDER__ID", "corp"),
        ("DOORWARD_PROVIDER__ISSUER", "https://login.test"),
        ("DOORWARD_PROVIDER__CLIENT_ID", "app"),
        ("DOORWARD_PROVIDER__CLIENT_SECRET", "s3cret"),
        ("DOORWARD_PROVIDER__DPOP", dpop),
        ("DOORWARD_ROUTE", &route),
        ("DOORWARD_TOKEN", token),
        ("DOORWARD_FOREIGN_TOKEN", foreign),
        ("DOORWARD_USER", user),
    ];
    let environment: BTreeMap<_, _> =
        pairs.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(&Sources { environment, ..Sources::default() })
}

fn good(token: &str, foreign: &str, user: &str) -> TokenEndpoint {
    let config = read(token, foreign, user, r#""any-authenticated""#).map_err(|problems| format!("{problems:?}")).unwrap();
    assert_eq!(config.session.lifetimes.token, config.token.as_ref().unwrap().lifetime);
    config.token.unwrap()
}

#[test]
fn the_table_alone_takes_the_passwords_of_local_accounts() {
    let token = good("{}", "", USER);
    assert_eq!((token.passwords, token.issue, token.error_status), (Some(PasswordsAt::Local), Issue::Session, ErrorStatus::Unauthorized));
    assert_eq!((token.lifetime, token.path), (Duration::from_secs(2_592_000), None));
    let token = good(r#"{"path": "/oauth/token", "provider": "corp", "error_status": 400, "lifetime": "1d"}"#, "", USER);
    assert_eq!((token.passwords, token.error_status), (Some(PasswordsAt::Provider("corp".into())), ErrorStatus::BadRequest));
    assert_eq!((token.lifetime, token.path.as_deref()), (DAY, Some("/oauth/token")));
    assert!(good("{}", &format!("[{FACEBOOK}]"), "").passwords.is_none());
    assert!(good(r#"{"grants": ["foreign_token"]}"#, &format!("[{FACEBOOK}]"), USER).passwords.is_none());
    assert!(read("", "", USER, r#""any-authenticated""#).is_err(), "a route takes bearer tokens that nobody gives out");
}

#[test]
fn foreign_tokens_have_their_keys_by_kind() {
    let token = good("{}", &format!("[{FACEBOOK}, {CHECK}, {EXCHANGE}]"), "");
    let told: Vec<_> = token.foreign.iter().map(|one| (one.parameter.as_str(), one.issuer())).collect();
    assert_eq!(
        told,
        [
            ("facebook_token", Some("https://graph.facebook.com".to_owned())),
            ("google_token", Some("https://check.test".to_owned())),
            ("other_token", None)
        ]
    );
    assert!(token.gives_sessions_of("corp") && !token.gives_sessions_of("local"));
}

#[test]
fn every_mistake_is_told_by_its_key() {
    let change = |table: &str, from: &str, to: &str| format!("[{}]", table.replacen(from, to, 1));
    for (token, foreign, user, path, word) in [
        ("{}", String::new(), "", "token", "nothing to sign in with"),
        (r#"{"grants": ["password"]}"#, String::new(), "", "token.grants", "password grant"),
        (r#"{"grants": ["foreign_token"]}"#, String::new(), USER, "token.grants", "no [[foreign_token]]"),
        (r#"{"grants": ["code"]}"#, String::new(), USER, "token.grants", "expected"),
        (r#"{"grants": ["password"]}"#, format!("[{FACEBOOK}]"), USER, "token.grants", "leaves"),
        (r#"{"grants": ["foreign_token"], "provider": "corp"}"#, format!("[{FACEBOOK}]"), "", "token.provider", "remove one"),
        (r#"{"provider": "local"}"#, String::new(), "", "token.provider", "corp"),
        (r#"{"path": "oauth/token"}"#, String::new(), USER, "token.path", "/oauth/token"),
        (r#"{"path": "/oauth/../token"}"#, String::new(), USER, "token.path", "written as it is asked for"),
        (r#"{"path": "/"}"#, String::new(), USER, "token.path", "expected"),
        (r#"{"path": "/oauth2/tokens"}"#, String::new(), USER, "token.path", "prefix"),
        (r#"{"error_status": 403}"#, String::new(), USER, "token.error_status", "400 to 401"),
        (r#"{"lifetime": "2592000"}"#, String::new(), USER, "token.lifetime", "unit"),
        (r#"{"issue": "provider"}"#, String::new(), USER, "token.issue", "local accounts"),
        (r#"{"issue": "provider"}"#, format!("[{FACEBOOK}]"), "", "token.issue", "exchange"),
        (r#"{"issue": "provider", "provider": "corp", "lifetime": "1d"}"#, String::new(), "", "token.lifetime", "remove one"),
        (r#"{"lifetme": "1d"}"#, String::new(), USER, "token.lifetme", "did you mean"),
        ("", format!("[{FACEBOOK}]"), "", "foreign_token", "write [token]"),
        ("{}", change(FACEBOOK, r#""kind": "facebook", "#, ""), "", "foreign_token[0].kind", "missing"),
        ("{}", change(FACEBOOK, r#""id": "facebook""#, r#""id": "corp""#), "", "foreign_token[0].id", "names a provider"),
        ("{}", format!("[{FACEBOOK}, {FACEBOOK}]"), "", "foreign_token[1].id", "another foreign_token"),
        ("{}", change(FACEBOOK, "0123456789abcdef", "short"), "", "foreign_token[0].app_secret", "too short"),
        ("{}", change(FACEBOOK, r#", "app_secret": "0123456789abcdef""#, ""), "", "foreign_token[0].app_secret_file", "missing"),
        (
            "{}",
            change(FACEBOOK, r#""app_id": "7""#, r#""app_id": "7", "parameter": "password""#),
            "",
            "foreign_token[0].parameter",
            "meaning",
        ),
        (
            "{}",
            change(FACEBOOK, r#""app_id": "7""#, r#""app_id": "7", "graph_url": "http://graph.test""#),
            "",
            "foreign_token[0].graph_url",
            "https",
        ),
        (
            "{}",
            change(FACEBOOK, r#""app_id": "7""#, r#""app_id": "7", "check_url": "https://x.test""#),
            "",
            "foreign_token[0].check_url",
            "belongs to",
        ),
        ("{}", change(CHECK, r#", "audience": ["ours"]"#, ""), "", "foreign_token[0].audience", "another one would"),
        ("{}", change(CHECK, "query:id_token", "header:x"), "", "foreign_token[0].token_in", "bearer"),
        ("{}", change(EXCHANGE, r#""provider": "corp""#, r#""provider": "nobody""#), "", "foreign_token[0].provider", "corp"),
        (
            "{}",
            change(EXCHANGE, r#""provider""#, r#""parameters": {"scope": "x"}, "provider""#),
            "",
            "foreign_token[0].parameters",
            "itself",
        ),
        ("{}", change(EXCHANGE, r#""provider""#, r#""user_claim": "x", "provider""#), "", "foreign_token[0].user_claim", "provider"),
    ] {
        let Err(problems) = read(token, &foreign, user, r#""any-authenticated""#) else { panic!("{token} {foreign} is taken") };
        let errors: Vec<_> = problems.iter().filter(|one| one.severity == Severity::Error).map(|one| (&one.path, &one.message)).collect();
        assert!(errors.iter().any(|(found, message)| *found == path && message.contains(word)), "{path} {word}: {errors:?}");
        assert!(!format!("{problems:?}").contains("0123456789abcdef"), "{problems:?}");
    }
}

#[test]
fn a_rule_says_whose_where_tokens_of_several_count() {
    let rule = r#"{"email_domains": ["example.com"]}"#;
    let both = format!("[{FACEBOOK}]");
    let problems = read(r#"{"provider": "corp"}"#, &both, "", rule).err().map(|problems| format!("{problems:?}")).unwrap_or_default();
    assert!(problems.contains("but not whose") && problems.contains("facebook"), "{problems}");
    // Sessions of a provider whose people get no token are not shown on a route for tokens.
    for (token, foreign, allow) in [
        (r#"{"provider": "corp"}"#, "", rule),
        ("{}", both.as_str(), rule),
        (r#"{"provider": "corp"}"#, both.as_str(), r#"{"email_domains": ["example.com"], "provider": ["facebook"]}"#),
    ] {
        let config = read(token, foreign, "", allow).map_err(|problems| format!("{problems:?}")).unwrap();
        assert!(config.routes.table.routes()[0].takes(CredentialKind::Bearer));
    }
}

#[test]
fn tokens_that_only_the_gateway_can_show_are_given_to_nobody() {
    let exchange = format!("[{EXCHANGE}]");
    for (token, foreign) in [(r#"{"provider": "corp", "issue": "provider"}"#, ""), (r#"{"issue": "provider"}"#, exchange.as_str())] {
        let told = |dpop| read_with(dpop, token, foreign, "", r#""any-authenticated""#).err().unwrap_or_default();
        let is_it = |problem: &Problem| problem.path == "token.issue" && problem.message.contains("dpop = true of provider \"corp\"");
        assert!(told("true").iter().any(is_it) && !told("false").iter().any(is_it), "{token}: {:?}", told("true"));
    }
    // A session shows them inside.
    assert!(read_with("true", r#"{"provider": "corp"}"#, &exchange, "", r#""any-authenticated""#).is_ok());
}
