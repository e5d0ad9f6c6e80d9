use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::identity::{ClaimMapping, ClaimPath, EmailVerification, Source as Vouches};
use crate::secret::{decode_standard, encode_standard};

fn identity(claims: Value) -> Identity {
    let path = |text| ClaimPath::parse(text).unwrap();
    let mapping = ClaimMapping {
        user: path("sub"),
        email: Some(path("email")),
        groups: Some(path("groups").into()),
        email_verification: EmailVerification::Required,
    };
    Identity::from_claims("https://i.test", Vouches::Provider("p".into()), &mapping, claims.as_object().unwrap().clone()).unwrap()
}

/// A file that holds `held`, or none.
fn file(held: &Arc<Mutex<Option<String>>>) -> HeaderFile {
    let held = Arc::clone(held);
    HeaderFile::new(
        "/run/secret",
        Arc::new(move || held.lock().unwrap().as_ref().map(|text| Arc::new(Secret::new(text.as_str()))).ok_or_else(|| "gone".to_owned())),
    )
}

fn holding(text: &str) -> Arc<Mutex<Option<String>>> {
    Arc::new(Mutex::new(Some(text.to_owned())))
}

fn rendered(template: &str, claims: Value) -> Result<Option<String>, Reason> {
    let held = holding("pa:ss%word");
    let template = HeaderTemplate::parse(template, &|_| Ok(file(&held))).unwrap_or_else(|error| panic!("{template}: {error}"));
    let token = Secret::new("opaque");
    let tokens = TokensToTell { access_token: Some(&token), id_token: Some("a.b.c"), session_ends_at: Some(UnixTime(1234)) };
    template.render(&identity(claims), tokens).map_err(|fault| fault.reason)
}

#[test]
fn what_is_known_stands_where_the_template_has_it() {
    let claims = json!({"sub": "änn", "email": "a@b.test", "email_verified": true, "groups": ["a,b", "c;%", " d \"e\""],
        "tenant": {"id": "bl,ue"}, "roles": ["x", "y"], "level": 3, "none": [], "null": null});
    for (template, expected) in [
        ("{user}", Some("%C3%A4nn")),
        ("u={user} <{email}>", Some("u=%C3%A4nn <a@b.test>")),
        ("{groups}", Some("a%2Cb,c;%25,%20d \"e\"")),
        ("{groups|join}", Some("a%2Cb,c;%25,%20d \"e\"")),
        ("{groups|join(;)}", Some("a,b;c%3B%25;%20d \"e\"")),
        ("{groups|join( )}", Some("a,b c;%25 %20d%20\"e\"")),
        ("{claims.roles|join(|)}", Some("x|y")),
        ("{claims.tenant.id}", Some("bl%2Cue")),
        ("{claims.level}", Some("3")),
        ("{user|quoted}", Some("\"%C3%A4nn\"")),
        ("{groups|quoted}", Some("\"a%2Cb,c;%25,%20d \\\"e\\\"\"")),
        ("{access_token} {id_token}", Some("opaque a.b.c")),
        ("{session.expires_at}", Some("1234")),
        ("Key {file:/run/secret}", Some("Key pa:ss%word")),
        ("fixed", Some("fixed")),
        ("{claims.nothing}", None),
        ("x{claims.none}", None),
        ("x{claims.null}", None),
    ] {
        assert_eq!(rendered(template, claims.clone()), Ok(expected.map(str::to_owned)), "{template}");
    }
}

#[test]
fn base64_holds_the_bytes_themselves() {
    let claims = json!({"sub": "änn \u{1F600}", "groups": ["a,b", "c%"]});
    let bytes = |template: &str| {
        let value = rendered(template, claims.clone()).unwrap().unwrap();
        String::from_utf8(decode_standard(&value).unwrap()).unwrap()
    };
    assert_eq!(bytes("{user|base64}"), "änn \u{1F600}");
    assert_eq!(bytes("{groups|base64}"), "a%2Cb,c%25");
    assert_eq!(bytes("{groups|join(;)|base64}"), "a,b;c%25");
    assert_eq!(bytes("{file:/run/secret|base64}"), "pa:ss%word");
    assert_eq!(
        rendered("{user|base64|quoted}", claims.clone()).unwrap().unwrap(),
        format!("\"{}\"", encode_standard("änn \u{1F600}".as_bytes()))
    );
}

#[test]
fn basic_tells_a_name_and_a_password_and_no_other_name() {
    let credentials = |text: &str| Ok(Some(format!("Basic {}", encode_standard(text.as_bytes()))));
    let who = |sub: &str| json!({"sub": sub, "roles": ["a", "b"], "one": ["a"], "empty": ""});
    assert_eq!(rendered("{basic:{user}:/run/secret}", who("änn")), credentials("änn:pa:ss%word"));
    assert_eq!(rendered("{basic:app-{user}:/run/secret}", who("ann")), credentials("app-ann:pa:ss%word"));
    assert_eq!(rendered("{basic:gateway:/run/secret}", who("ann")), credentials("gateway:pa:ss%word"));
    assert_eq!(rendered("{basic:{claims.one}:/run/secret}", who("ann")), credentials("a:pa:ss%word"));
    assert_eq!(rendered("{basic:{claims.nothing}:/run/secret}", who("ann")), Ok(None));
    for (template, sub) in [
        ("{basic:{user}:/run/secret}", "admin:x"),
        ("{basic:{user}:/run/secret}", "a\nb"),
        ("{basic:{claims.roles}:/run/secret}", "ann"),
        ("{basic:{claims.empty}:/run/secret}", "ann"),
    ] {
        assert_eq!(rendered(template, who(sub)), Err(Reason::BasicNameUnfit), "{template} {sub:?}");
    }
}

#[test]
fn a_file_that_is_gone_leaves_no_header_and_its_text_is_in_no_message() {
    let held = holding("s3cr3t");
    for text in ["{file:/run/secret}", "{basic:x:/run/secret}"] {
        *held.lock().unwrap() = Some("s3cr3t".to_owned());
        let template = HeaderTemplate::parse(text, &|_| Ok(file(&held))).unwrap();
        assert!(template.tells_secrets() && !template.tells_tokens());
        assert!(!format!("{template:?}").contains("s3cr3t"), "{template:?}");
        *held.lock().unwrap() = None;
        let fault = template.render(&identity(json!({"sub": "ann"})), TokensToTell::default()).unwrap_err();
        assert_eq!((fault.reason, fault.detail.as_str()), (Reason::HeaderFileUnreadable, "/run/secret: gone"));
    }
    // What no header takes is told at the start.
    let wrong = HeaderTemplate::parse("{file:/run/secret}", &|_| Ok(file(&holding("pässword")))).unwrap_err();
    assert!(wrong.contains("|base64") && !wrong.contains("ssword"), "{wrong}");
    assert!(HeaderTemplate::parse("{file:/run/secret|base64}", &|_| Ok(file(&holding("pässword")))).is_ok());
}

#[test]
fn templates_say_what_they_expected() {
    let held = holding("x");
    for (text, told) in [
        ("", "a template such as"),
        ("{", "closing }"),
        ("{user", "closing }"),
        ("}", "printable ASCII around"),
        ("a\nb", "printable ASCII around"),
        ("{name}", "expected {user}, {email}"),
        ("{claims.}", "expected {user}, {email}"),
        ("{claims.a..b}", "expected {user}, {email}"),
        ("{User}", "expected {user}, {email}"),
        ("{user|upper}", "expected the filters"),
        ("{user|base64x}", "expected the filters"),
        ("{user|base64|base64}", "each filter once"),
        ("{user|quoted|base64}", "each filter once"),
        ("{groups|base64|join}", "each filter once"),
        ("{user|join}", "expected |join on"),
        ("{groups|join()}", "one to three of"),
        ("{groups|join(a)}", "one to three of"),
        ("{groups|join(;}", "closing )"),
        ("{file:secret}", "absolute path"),
        ("{file:}", "absolute path"),
        ("{basic:x}", "a name, a colon"),
        ("{basic:x:secret}", "absolute path"),
        ("{basic::/run/secret}", "as the name in"),
        ("{basic:{groups}:/run/secret}", "as the name in"),
        ("{basic:{user|base64}:/run/secret}", "as the name in"),
        ("{basic:{access_token}:/run/secret}", "as the name in"),
    ] {
        let wrong = HeaderTemplate::parse(text, &|_| Ok(file(&held))).expect_err(text);
        assert!(wrong.contains(told), "{text}: {wrong}");
    }
    let wrong = HeaderTemplate::parse("{file:/none}", &|path| Err(format!("{path}: cannot be read"))).unwrap_err();
    assert_eq!(wrong, "/none: cannot be read");
}

mod kept {
    use http::HeaderMap;

    use super::*;
    use crate::header::{IdentityHeader, Naming, PreparedHeaders, Telling};

    #[test]
    fn ready_made_headers_follow_the_file_that_stands_in_them() {
        let last = Arc::new(Mutex::new(Ok(Arc::new(Secret::new("first")))));
        let reads = Arc::clone(&last);
        let watched = HeaderFile::new("/run/secret", Arc::new(move || reads.lock().unwrap().clone()));
        let template = HeaderTemplate::parse("Bearer {file:/run/secret}", &|_| Ok(watched.clone())).unwrap();
        let rules = [HeaderRule { name: http::header::AUTHORIZATION, template }];
        let telling = Telling { route: 3, names: &[IdentityHeader::User], rules: &rules };
        let (prepared, who) = (PreparedHeaders::default(), identity(json!({"sub": "ann", "groups": ["a"]})));
        let get = || prepared.get(&who, TokensToTell::default(), telling, Naming::Upstream);
        let told = |headers: &crate::header::IdentityHeaders| {
            let mut map = HeaderMap::new();
            headers.set(&mut map);
            assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-forwarded-user", "authorization"]);
            assert!(map["authorization"].is_sensitive());
            map["authorization"].to_str().unwrap().to_owned()
        };
        let first = get().unwrap();
        assert_eq!(told(&first), "Bearer first");
        assert!(Arc::ptr_eq(&first, &get().unwrap()), "made once");
        *last.lock().unwrap() = Ok(Arc::new(Secret::new("second")));
        assert_eq!(told(&get().unwrap()), "Bearer second");
        *last.lock().unwrap() = Err("gone".to_owned());
        assert_eq!(get().unwrap_err().reason, Reason::HeaderFileUnreadable);
        *last.lock().unwrap() = Ok(Arc::new(Secret::new("third")));
        assert_eq!(told(&get().unwrap()), "Bearer third");
        assert!(!format!("{prepared:?}").contains("third"));
    }
}
