//! Who is allowed: every rule with somebody whom it lets in and somebody whom it refuses, each refusal with its reason and nothing sent on.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::harness::body::empty;
use crate::harness::browser::Browser;
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::hostile::{Endpoint, HostileProvider, Lie};
use crate::harness::http::{fetch, get};
use crate::harness::upstream::EchoUpstream;

const ROUTES: &str = r#"
[policy.staff]
groups = ["staff", "board"]

[policy.company]
email_domains = ["company.com"]

[[route]]
path = "/any"
allow = "any-authenticated"

[[route]]
path = "/emails"
allow = { emails = ["Ann@Company.com", "guest@elsewhere.test"] }

[[route]]
path = "/domains"
allow = { email_domains = ["company.com", "partner.test"] }

[[route]]
path = "/groups"
allow = { groups = ["staff", "board"] }

[[route]]
path = "/claims"
allow = { claims = { "tenant.id" = ["blue", "green"], "level" = ["7"] } }

[[route]]
path = "/all-of"
allow = { groups = ["staff"], email_domains = ["company.com"] }

[[route]]
path = "/any-of"
allow = { any_of = [{ groups = ["staff"] }, { emails = ["guest@elsewhere.test"] }] }

[[route]]
path = "/any-of-and"
allow = { email_domains = ["company.com"], any_of = [{ groups = ["staff"] }, { claims = { "tenant.id" = ["blue"] } }] }

[[route]]
path = "/scopes"
allow = { scopes = ["read"] }

[[route]]
path = "/named"
policy = "staff"

[[route]]
path = "/named-and"
policy = "staff"
allow = { email_domains = ["company.com"] }

[[route]]
path = "/optional"
access = "optional"

[[route]]
path = "/public"
access = "public"
"#;

/// Ann, who is in everything.
fn ann() -> Value {
    json!({
        "sub": "ann", "email": "ann@company.com", "email_verified": true, "groups": ["staff"], "tenant": { "id": "blue" }, "level": 7,
    })
}

/// Ann, but for this.
fn ann_but(patch: Value) -> Value {
    let mut ann = ann();
    for (name, value) in patch.as_object().expect("claims") {
        match value {
            Value::Null => drop(ann.as_object_mut().expect("claims").remove(name)),
            value => ann[name] = value.clone(),
        }
    }
    ann
}

struct World {
    provider: HostileProvider,
    upstream: EchoUpstream,
    gateway: Gateway,
}

impl World {
    fn start(provider_keys: &str) -> Self {
        let hostile = HostileProvider::start();
        let upstream = EchoUpstream::start();
        let people = provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret());
        let routes = ROUTES.replace("[[route]]", &format!("[[route]]\nupstream = \"{}\"", upstream.url()));
        let gateway = Gateway::start(&format!("{TOP}store.kind = \"memory\"\n{people}{provider_keys}\n{routes}"));
        Self { provider: hostile, upstream, gateway }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.gateway.url)
    }

    /// Signs somebody in on a route that takes everybody.
    async fn signed_in(&self, claims: Value) -> Browser {
        self.provider.set_user(claims);
        let mut browser = Browser::new();
        let page = browser.get(&self.url("any")).await;
        let page = browser.follow_all(page).await;
        assert_eq!(page.status, 200, "{}", page.text());
        self.upstream.reset();
        browser
    }

    /// Why the browser's person gets an answer on a route: `allowed`, or the reason of a 403 with which nothing was sent on.
    async fn verdict(&self, browser: &mut Browser, path: &str) -> String {
        let before = self.upstream.count();
        let answer = browser.fetch_api(Method::GET, &self.url(path), &[], b"").await;
        if answer.status == 200 {
            assert_eq!(self.upstream.count(), before + 1, "{path}");
            return "allowed".to_owned();
        }
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        assert_eq!(self.upstream.count(), before, "{path}");
        assert!(answer.set_cookies().is_empty(), "the session stays");
        answer.json()["reason"].as_str().unwrap_or_default().to_owned()
    }

    async fn verdict_on(&self, claims: Value, path: &str) -> String {
        let mut browser = self.signed_in(claims).await;
        self.verdict(&mut browser, path).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_lets_in_whom_it_names_and_nobody_else() {
    let world = World::start("");
    let mut ann_herself = world.signed_in(ann()).await;
    let everywhere =
        ["any", "emails", "domains", "groups", "claims", "all-of", "any-of", "any-of-and", "named", "named-and", "optional", "public"];
    for path in everywhere {
        assert_eq!(world.verdict(&mut ann_herself, path).await, "allowed", "{path}");
    }
    // A session has no scopes.
    assert_eq!(world.verdict(&mut ann_herself, "scopes").await, "insufficient-scope");

    let (guest, outside) = (json!({ "email": "guest@elsewhere.test" }), json!({ "email": "ann@elsewhere.test" }));
    for (but, refused_on) in [
        (json!({ "email": "bob@company.com" }), &["emails"][..]),
        (guest.clone(), &["domains", "all-of", "any-of-and", "named-and"]),
        (outside, &["emails", "domains", "all-of", "any-of-and", "named-and"]),
        (json!({ "email": null }), &["emails", "domains", "all-of", "any-of-and", "named-and"]),
        (json!({ "groups": ["users"] }), &["groups", "all-of", "any-of", "named", "named-and"]),
        (json!({ "groups": ["Staff", "staff ", "sta", "staff,board"] }), &["groups", "all-of", "any-of", "named", "named-and"]),
        (json!({ "groups": null }), &["groups", "all-of", "any-of", "named", "named-and"]),
        (json!({ "groups": { "staff": true } }), &["groups", "all-of", "any-of", "named", "named-and"]),
        (json!({ "groups": ["board"] }), &["all-of", "any-of"]),
        (json!({ "tenant": { "id": "red" } }), &["claims"]),
        (json!({ "tenant": "blue" }), &["claims"]),
        (json!({ "level": 70 }), &["claims"]),
        (json!({ "level": null }), &["claims"]),
        (json!({ "groups": ["users"], "tenant": { "id": "green" } }), &["groups", "all-of", "any-of", "any-of-and", "named", "named-and"]),
    ] {
        let mut browser = world.signed_in(ann_but(but.clone())).await;
        for path in everywhere {
            let expected = if refused_on.contains(&path) { "not-allowed" } else { "allowed" };
            assert_eq!(world.verdict(&mut browser, path).await, expected, "{but} on {path}");
        }
    }
    let mut both = world.signed_in(ann_but(json!({ "email": guest["email"], "groups": ["users"] }))).await;
    assert_eq!(world.verdict(&mut both, "any-of").await, "allowed");
    // One group as a text, and a literal claim name with a dot in it.
    assert_eq!(world.verdict_on(ann_but(json!({ "groups": "staff" })), "groups").await, "allowed");
    assert_eq!(world.verdict_on(ann_but(json!({ "tenant": null, "tenant.id": "green" })), "claims").await, "allowed");
    let lines = world.gateway.access_line("path=/all-of reason=not-allowed").await;
    assert!(lines.contains("route=route-5") && lines.contains("user=ann"), "{lines}");
    assert!(world.provider.complaints().is_empty(), "{:?}", world.provider.complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_person_reads_who_they_are_and_stays_signed_in() {
    let world = World::start("");
    let mut browser = world.signed_in(ann_but(json!({ "groups": [], "name": "Ann <b>Archer</b>" }))).await;
    let page = browser.get(&world.url("groups")).await;
    assert_eq!(page.status, 403);
    assert!(page.text().contains("not-allowed") && !page.text().contains("<b>Archer"), "{}", page.text());
    assert!(page.visible_text().contains("Archer"), "{}", page.visible_text());
    assert!(page.set_cookies().is_empty());
    assert_eq!(world.upstream.count(), 0);
    assert_eq!(world.verdict(&mut browser, "any").await, "allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_that_is_not_what_it_seems_opens_nothing() {
    let world = World::start("");
    for (email, reason) in [
        ("a@evil.com@company.com", "email-malformed"),
        ("a@company.com@evil.com", "email-malformed"),
        ("a@company.com ", "email-malformed"),
        (" a@company.com", "email-malformed"),
        ("\"a@company.com \"", "email-malformed"),
        ("\"a@evil.com\"@company.com", "email-malformed"),
        ("a@company.com\0.evil.com", "email-malformed"),
        ("a@evil.com\0@company.com", "email-malformed"),
        ("@company.com", "email-malformed"),
        ("a@", "email-malformed"),
        ("a@.company.com", "email-malformed"),
        ("a@company.com.", "email-malformed"),
        ("a@evil.com,a@company.com", "email-malformed"),
        ("a@evil.com\r\na@company.com", "email-malformed"),
        ("<a@company.com>", "email-malformed"),
        ("company.com", "email-malformed"),
        ("a@sub.company.com", "not-allowed"),
        ("a@notcompany.com", "not-allowed"),
        ("a@company.com.evil.com", "not-allowed"),
        ("a@company-com", "not-allowed"),
        ("a@xn--company.com", "not-allowed"),
    ] {
        assert_eq!(world.verdict_on(ann_but(json!({ "email": email })), "domains").await, reason, "{email:?}");
    }
    let mut first = world.signed_in(ann_but(json!({ "email": "ann@company.com@company.com" }))).await;
    assert_eq!(world.verdict(&mut first, "emails").await, "email-malformed");
    assert_eq!(world.verdict_on(ann_but(json!({ "email": "ANN@Company.COM" })), "emails").await, "allowed");
    // A list of addresses is no address.
    assert_eq!(world.verdict_on(ann_but(json!({ "email": ["ann@company.com"] })), "emails").await, "not-allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_counts_when_it_is_verified_by_json_true() {
    let strict = World::start("");
    let lenient = World::start("email_verified = \"if-present\"");
    let refused = "email-not-verified";
    for (verified, when_required, if_present) in [
        (json!(true), "allowed", "allowed"),
        (json!(false), refused, refused),
        (json!("true"), refused, refused),
        (json!(1), refused, refused),
        (json!("yes"), refused, refused),
        (json!([true]), refused, refused),
        (Value::Null, refused, "allowed"), // absent
    ] {
        for path in ["emails", "domains"] {
            let claims = ann_but(json!({ "email_verified": verified }));
            assert_eq!(strict.verdict_on(claims.clone(), path).await, when_required, "{verified} on {path}");
            assert_eq!(lenient.verdict_on(claims, path).await, if_present, "{verified} on {path}");
        }
    }
    // One that does not count is not told to the app either.
    let mut browser = strict.signed_in(ann_but(json!({ "email_verified": false }))).await;
    assert_eq!(strict.verdict(&mut browser, "any").await, "allowed");
    assert_eq!(strict.upstream.last().header("x-forwarded-email"), None);
    assert_eq!(strict.upstream.last().header("x-forwarded-user").as_deref(), Some("ann"));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_the_provider_left_out_are_not_no_groups() {
    let world = World::start("");
    for lie in [Lie::GroupsOverage, Lie::GroupsOverageHasgroups] {
        world.provider.set(lie.clone());
        let mut browser = world.signed_in(ann()).await;
        for path in ["groups", "named", "named-and", "all-of", "any-of"] {
            assert_eq!(world.verdict(&mut browser, path).await, "groups-overage", "{lie:?} on {path}");
        }
        assert_eq!(world.verdict(&mut browser, "any").await, "allowed");
        assert_eq!(world.upstream.last().header("x-forwarded-groups"), None);
        // Another way in is as good as ever.
        assert_eq!(world.verdict(&mut browser, "any-of-and").await, "allowed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_names_its_provider_counts_for_nobody_elses_people() {
    let (corp, guests) = (HostileProvider::builder().name("corp").start(), HostileProvider::builder().name("guests").start());
    let upstream = EchoUpstream::start();
    let table = |id: &str, hostile: &HostileProvider| {
        provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret())
            .replace("[provider]", &format!("[[provider]]\nid = \"{id}\""))
    };
    let route = |path: &str, rest: &str| format!("[[route]]\npath = \"/{path}\"\nupstream = \"{}\"\n{rest}\n", upstream.url());
    let gateway = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\n{}{}{}",
        table("corp", &corp),
        table("guests", &guests),
        [
            route("corp", "provider = [\"corp\"]\nallow = { groups = [\"admin\"] }"),
            route("rule", "allow = { groups = [\"admin\"], provider = [\"corp\"] }"),
            route(
                "either",
                "allow = { any_of = [{ provider = [\"corp\"], groups = [\"admin\"] }, { provider = [\"guests\"], emails = [\"g@guests.test\"] }] }"
            ),
            route("guests", "provider = [\"guests\"]\nallow = \"any-authenticated\""),
            route("any", "allow = \"any-authenticated\""),
        ]
        .concat()
    ));
    let admin = json!({ "sub": "same", "email": "a@corp.test", "email_verified": true, "groups": ["admin"] });
    corp.set_user(admin.clone());
    guests.set_user(admin);
    let url = |path: &str| format!("{}/{path}", gateway.url);
    let sign_in = async |first: &str| {
        let mut browser = Browser::new();
        let page = browser.get(&url(first)).await;
        let page = browser.follow_all(page).await;
        assert_eq!(page.status, 200, "{}", page.text());
        upstream.reset();
        browser
    };
    let verdicts = async |browser: &mut Browser| {
        let mut found = Vec::new();
        for path in ["corp", "rule", "either", "guests", "any"] {
            let before = upstream.count();
            let answer = browser.fetch_api(Method::GET, &url(path), &[], b"").await;
            if answer.status == 200 {
                found.push("allowed".to_owned());
            } else {
                assert_eq!((answer.status.as_u16(), upstream.count()), (403, before), "{}", answer.text());
                found.push(answer.json()["reason"].as_str().unwrap_or_default().to_owned());
            }
        }
        found
    };
    let mut of_corp = sign_in("corp").await;
    assert_eq!(verdicts(&mut of_corp).await, ["allowed", "allowed", "allowed", "wrong-provider", "allowed"]);
    let mut of_guests = sign_in("guests").await;
    assert_eq!(verdicts(&mut of_guests).await, ["wrong-provider", "wrong-provider", "not-allowed", "allowed", "allowed"]);

    // A person is led to the login that would do; the session stays until that one is there.
    upstream.reset();
    for path in ["corp", "rule"] {
        let page = of_guests.get(&url(path)).await;
        assert_eq!(page.status, 303, "{}", page.text());
        gateway.access_line(&format!("path=/{path} reason=wrong-provider")).await;
        if path == "corp" {
            assert!(page.location().is_some_and(|to| to.starts_with(&format!("{}/authorize?", corp.issuer()))), "{}", page.summary());
        }
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(of_guests.fetch_api(Method::GET, &url("guests"), &[], b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_credentials_that_a_route_accepts_are_read_there() {
    let hostile = HostileProvider::start();
    let upstream = EchoUpstream::start();
    let route = |path: &str, rest: &str| format!("[[route]]\npath = \"/{path}\"\nupstream = \"{}\"\n{rest}\n", upstream.url());
    let gateway = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\n{}[[token_issuer]]\nissuer = \"{}\"\naudience = \"api\"\n{}",
        provider(&hostile.issuer(), hostile.client_id(), hostile.client_secret()),
        hostile.issuer(),
        [
            route("sessions", "accept = [\"session\"]\nallow = \"any-authenticated\""),
            route("tokens", "accept = [\"bearer\"]\nallow = \"any-authenticated\""),
            route("posts", "methods = [\"POST\"]\nallow = \"any-authenticated\""),
            route("judged", "accept = [\"bearer\"]\nallow = \"any-authenticated\""),
            route("passed", "accept = [\"bearer\"]\nallow = \"any-authenticated\"\npreflight = \"pass\""),
            route("optional", "accept = [\"session\", \"bearer\"]\naccess = \"optional\""),
            route("optional-sessions", "access = \"optional\""),
            route("public", "access = \"public\""),
        ]
        .concat()
    ));
    let url = |path: &str| format!("{}/{path}", gateway.url);
    let mut browser = Browser::new();
    let page = browser.get(&url("sessions")).await;
    assert_eq!(browser.follow_all(page).await.status, 200);
    upstream.reset();
    let cookies = browser.cookie_header(&url(""));
    let token = hostile.access_token(json!({ "aud": "api" }), "at+jwt");
    let bearer = format!("Bearer {token}");
    let ask = async |path: &str, headers: &[(&str, &str)]| {
        let request = headers.iter().fold(Request::get(url(path)), |request, (name, value)| request.header(*name, *value));
        let answer = fetch(request.body(empty()).expect("a request")).await;
        let reason = if answer.status == 200 { "ok".to_owned() } else { answer.json()["reason"].as_str().unwrap_or_default().to_owned() };
        (answer.status.as_u16(), reason)
    };
    let refused = |status: u16, reason: &str| (status, reason.to_owned());

    // A session where tokens count, a token where sessions count, a method that no route takes.
    assert_eq!(ask("tokens", &[("cookie", &cookies)]).await, refused(401, "no-credential"));
    assert_eq!(ask("sessions", &[("authorization", &bearer)]).await, refused(401, "no-credential"));
    assert_eq!(ask("posts", &[("cookie", &cookies)]).await, refused(404, "no-route"));
    assert_eq!(upstream.count(), 0);
    assert_eq!(ask("tokens", &[("authorization", &bearer)]).await.0, 200);
    assert_eq!(ask("sessions", &[("cookie", &cookies)]).await.0, 200);

    // Optional: a good credential counts, none is fine, a bad token is still a bad token.
    let forged = ("x-forwarded-user", "root");
    let told = || upstream.last().header("x-forwarded-user");
    assert_eq!(ask("optional", &[forged]).await.0, 200);
    assert_eq!(told(), None);
    assert_eq!(ask("optional", &[forged, ("cookie", &cookies)]).await.0, 200);
    assert_eq!(told().as_deref(), Some("alice"));
    assert_eq!(ask("optional", &[forged, ("authorization", &bearer)]).await.0, 200);
    assert_eq!(told().as_deref(), Some("program"));
    assert_eq!(ask("optional", &[forged, ("cookie", "doorward=AAAA")]).await.0, 200);
    assert_eq!(told(), None);
    assert_eq!(upstream.last().header("cookie"), None);
    upstream.reset();
    assert_eq!(ask("optional", &[("authorization", "Bearer abc"), ("cookie", &cookies)]).await, refused(401, "token-malformed"));
    let foreign = format!("Bearer {}", hostile.access_token(json!({ "aud": "else" }), "at+jwt"));
    assert_eq!(ask("optional", &[("authorization", &foreign)]).await, refused(401, "token-audience"));
    assert_eq!(upstream.count(), 0);
    assert_eq!(ask("optional-sessions", &[("authorization", &foreign)]).await.0, 200);
    assert_eq!(told(), None);

    // Public: nothing is read, nothing of ours is passed on, what we do not read is the app's own.
    assert_eq!(ask("public", &[forged, ("cookie", &format!("a=b; {cookies}")), ("authorization", "Bearer abc")]).await.0, 200);
    let seen = upstream.last();
    assert_eq!((seen.header("x-forwarded-user"), seen.header("cookie").as_deref()), (None, Some("a=b")), "{}", seen.everything());
    assert_eq!(seen.header("authorization").as_deref(), Some("Bearer abc"));

    // A preflight brings no credentials: judged like everything by default, let through bare where the route says so.
    upstream.reset();
    let preflight = |path: &str| {
        let request = Request::options(url(path)).header("origin", "https://app.test").header("access-control-request-method", "PUT");
        request
            .header("authorization", &bearer)
            .header("cookie", &cookies)
            .header("x-forwarded-user", "root")
            .body(empty())
            .expect("a request")
    };
    let mut bare = preflight("judged");
    bare.headers_mut().remove("authorization");
    let answer = fetch(bare).await;
    assert_eq!((answer.status.as_u16(), answer.json()["reason"].as_str()), (401, Some("no-credential")));
    assert_eq!(upstream.count(), 0);
    assert_eq!(fetch(preflight("passed")).await.status, 200);
    let seen = upstream.last();
    let told = (seen.header("authorization"), seen.header("cookie"), seen.header("x-forwarded-user"));
    assert_eq!(told, (None, None, None), "{}", seen.everything());
    upstream.reset();
    // OPTIONS alone is no preflight.
    let options = Request::options(url("passed")).body(empty()).expect("a request");
    assert_eq!(fetch(options).await.status, 401);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_503_on_optional_routes_and_nothing_on_public_ones() {
    let hostile = HostileProvider::start();
    let upstream = EchoUpstream::start();
    let route = |path: &str, rest: &str| format!("[[route]]\npath = \"/{path}\"\nupstream = \"{}\"\n{rest}\n", upstream.url());
    let gateway = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\n[[token_issuer]]\nissuer = \"{}\"\naudience = \"api\"\n{}{}",
        hostile.issuer(),
        route("optional", "access = \"optional\""),
        route("public", "access = \"public\"")
    ));
    hostile.set(Lie::Status(Endpoint::Jwks, 500));
    let token = hostile.access_token(json!({ "aud": "api" }), "at+jwt");
    let show = |path: &str| {
        let request = Request::get(format!("{}/{path}", gateway.url)).header("authorization", format!("Bearer {token}"));
        request.body(empty()).expect("a request")
    };
    let answer = fetch(show("optional")).await;
    assert_eq!((answer.status.as_u16(), answer.json()["reason"].as_str()), (503, Some("keys-unreachable")), "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert_eq!(upstream.count(), 0);
    assert_eq!(fetch(show("public")).await.status, 200);
    assert_eq!(fetch(get(&format!("{}/optional", gateway.url))).await.status, 200);
    let reasons = gateway.metrics().await;
    for series in [
        "route=\"route-0\",reason=\"keys-unreachable\"} 1",
        "route=\"route-0\",reason=\"optional-anonymous\"} 1",
        "route=\"route-1\",reason=\"public\"} 1",
    ] {
        assert!(reasons.contains(series), "{series} not in\n{reasons}");
    }
}
