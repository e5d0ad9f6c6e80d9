//! Tokens that others issued, shown at the token endpoint: they count when they were issued for us, and for nobody else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::harness::answer::Answer;
use crate::harness::body::TestBody;
use crate::harness::graph::{APP_ID, APP_SECRET, Failure, Graph};
use crate::harness::hostile::{Endpoint, HostileBuilder, Lie};
use crate::harness::hostile_answer::json_answer;
use crate::harness::hostile_direct::{Exchanged, TOKEN_EXCHANGE};
use crate::harness::http::pairs;
use crate::harness::mutual_tls::MutualTls;
use crate::harness::scene::reason;
use crate::harness::server::{Listen, Server};
use crate::harness::temp::TempDir;
use crate::harness::world::{Shape, World};
use crate::local_accounts::CHEAP;
use crate::token_endpoint::{get, granted, post};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// Facebook's people may come to `/api`, and to `/friends` and `/corp` who the rules there name.
const ROUTES: &str = r#"
[[route]]
id = "api"
path = "/api/"
upstream = "@UPSTREAM@"
accept = ["bearer"]
allow = "any-authenticated"
[[route]]
id = "friends"
path = "/friends/"
upstream = "@UPSTREAM@"
accept = ["bearer"]
provider = ["@ID@"]
allow = { email_domains = ["example.test"], provider = ["@ID@"] }
[[route]]
id = "people"
upstream = "@UPSTREAM@"
accept = ["session"]
provider = ["default"]
allow = "any-authenticated"
"#;

fn shaped(top: &str, id: &str, foreign: &str, kind: impl FnOnce(HostileBuilder) -> HostileBuilder) -> World {
    let top = format!("limits.provider_timeout = \"500ms\"\n{top}");
    let tables = format!("[token]\n[[foreign_token]]\n{foreign}\n");
    World::shaped(Shape { top: &top, tables: &tables, routes: Some(&ROUTES.replace("@ID@", id)), ..Shape::default() }, kind)
}

fn facebook(top: &str, more: &str) -> (World, Graph) {
    let graph = Graph::start();
    let table = format!(
        "id = \"facebook\"\nkind = \"facebook\"\napp_id = \"{APP_ID}\"\napp_secret = \"{APP_SECRET}\"\ngraph_url = \"{}/v23.0\"\n{more}",
        graph.url()
    );
    (shaped(top, "facebook", &table, |provider| provider), graph)
}

fn shown(parameter: &str, token: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair(parameter, token).finish()
}

impl World {
    async fn show(&self, parameter: &str, token: &str) -> Answer {
        post(&self.at("/oauth2/token"), FORM, shown(parameter, token)).await
    }

    async fn data(&self, path: &str, token: &str) -> Answer {
        get(&self.at(path), &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// 401 `invalid_grant`, or 503; no token either way.
    async fn turns_away(&self, parameter: &str, token: &str, status: u16, expected: &str) {
        let answer = self.show(parameter, token).await;
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()));
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (status, expected), "{token}: {told}");
        let word = match status {
            401 => "invalid_grant",
            503 => "temporarily_unavailable",
            _ => "server_error",
        };
        assert!(told["error"] == word && told.get("access_token").is_none(), "{told}");
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
        assert!(!answer.text().contains(token) && !answer.text().contains(APP_SECRET), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_facebook_token_of_our_application_gets_a_token_of_ours() {
    let (world, graph) = facebook("session.revalidate = \"1m\"", "email_verified = \"if-present\"");
    graph.give("EAAB-ann", json!({}), json!({}));
    let bodies = [
        (FORM, "facebook_token=EAAB-ann".to_owned()),
        (FORM, "grant_type=password&facebook_token=EAAB-ann&client_id=app".to_owned()),
        (JSON, json!({ "facebook_token": "EAAB-ann" }).to_string()),
    ];
    for (kind, body) in bodies {
        graph.reset();
        let (token, told) = granted(&post(&world.at("/oauth2/token"), kind, body).await);
        assert!(token.starts_with("doorward_st_") && told["expires_in"] == 2_592_000, "{told}");
        let asked = graph.asked();
        let param = |n: usize, name: &str| asked[n].1.get(name).cloned().unwrap_or_default();
        assert_eq!(asked.iter().map(|(edge, _)| edge.as_str()).collect::<Vec<_>>(), ["debug_token", "me"]);
        assert_eq!((param(0, "input_token"), param(0, "access_token")), ("EAAB-ann".to_owned(), format!("{APP_ID}|{APP_SECRET}")));
        assert_eq!((param(1, "access_token"), param(1, "fields")), ("EAAB-ann".to_owned(), "id,name,email".to_owned()));
        assert_eq!(param(1, "appsecret_proof").len(), 64);

        for path in ["/api/x", "/friends/x"] {
            assert_eq!(world.data(path, &token).await.status, 200, "{path}");
            let seen = world.upstream.last();
            assert_eq!(seen.header("x-forwarded-user").as_deref(), Some("10215241773831025"));
            assert_eq!(seen.header("x-forwarded-email").as_deref(), Some("ann@example.test"));
        }
        let told: Value = serde_json::from_slice(&world.data("/oauth2/userinfo", &token).await.body).unwrap();
        assert_eq!((&told["iss"], &told["sub"]), (&json!(graph.url()), &json!("10215241773831025")), "{told}");
        // Facebook is asked no more: neither while the token is good, nor where sessions are asked about again.
        world.advance(2 * DAY);
        assert_eq!(world.data("/api/x", &token).await.status, 200);
        assert_eq!(graph.asked().len(), 2);
    }
    assert_eq!(world.gateway.metric("doorward_logins_total{provider=\"facebook\",outcome=\"success\"}").await, 3);
    assert!(!world.gateway.access_lines().contains("EAAB") && !world.gateway.access_lines().contains(APP_SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_that_facebook_does_not_vouch_for_opens_nothing_by_itself() {
    let (world, graph) = facebook("", "");
    graph.give("EAAB-ann", json!({}), json!({}));
    let (token, _) = granted(&world.show("facebook_token", "EAAB-ann").await);
    let answer = world.data("/friends/x", &token).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str(), world.upstream.count()), (403, "email-not-verified", 0));
    assert_eq!(world.data("/api/x", &token).await.status, 200);
    assert_eq!(world.upstream.last().header("x-forwarded-email"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_issued_for_another_application_is_refused_before_anybody_asks_whose_it_is() {
    let (world, graph) = facebook("", "");
    // It is good, it is Ann's, and `me` would say so: another application got it from her.
    graph.give("EAAB-stolen", json!({ "app_id": "999999999999999", "application": "Quiz of the day" }), json!({}));
    world.turns_away("facebook_token", "EAAB-stolen", 401, "foreign-token-audience").await;
    // As Graph answers where the asking application has no business with the token.
    graph.fail("debug_token", Some(Failure::Error(100)));
    world.turns_away("facebook_token", "EAAB-stolen", 401, "foreign-token-audience").await;
    assert!(graph.asked().iter().all(|(edge, _)| edge == "debug_token"), "{:?}", graph.asked().len());
    assert_eq!((world.upstream.count(), world.outcomes("success").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_facebook_may_say_against_a_token_is_a_refusal_of_its_own() {
    let (world, graph) = facebook("limits.guesses_per_address = 1000", "");
    let over = json!({
        "is_valid": false, "expires_at": 1_570_820_400, "scopes": [],
        "error": { "code": 190, "subcode": 463, "message": "Error validating access token: Session has expired" },
    });
    let withdrawn =
        json!({ "is_valid": false, "scopes": [], "error": { "code": 190, "subcode": 460, "message": "The user changed the password" } });
    for (debug, me, expected) in [
        (over, json!({}), "foreign-token-expired"),
        (withdrawn, json!({}), "foreign-token-refused"),
        (json!({ "is_valid": "true" }), json!({}), "foreign-token-refused"),
        (json!({ "is_valid": null }), json!({}), "foreign-token-refused"),
        (json!({ "expires_at": 1_570_820_400 }), json!({}), "foreign-token-expired"),
        (json!({ "expires_at": null }), json!({}), "foreign-token-refused"),
        (json!({ "data_access_expires_at": 1_576_687_825 }), json!({}), "foreign-token-expired"),
        (json!({ "app_id": null }), json!({}), "foreign-token-audience"),
        (json!({ "type": "PAGE", "profile_id": "1" }), json!({}), "foreign-token-subject"),
        (json!({ "user_id": null }), json!({}), "foreign-token-subject"),
        (json!({}), json!({ "id": "666" }), "foreign-token-subject"),
        (json!({}), json!({ "id": null }), "foreign-token-subject"),
    ] {
        graph.give("EAAB-bad", debug.clone(), me.clone());
        world.turns_away("facebook_token", "EAAB-bad", 401, expected).await;
    }
    world.turns_away("facebook_token", "EAAB-unknown", 401, "foreign-token-refused").await;
    graph.give("EAAB-ann", json!({}), json!({}));
    for code in [190, 102] {
        graph.fail("me", Some(Failure::Error(code)));
        world.turns_away("facebook_token", "EAAB-ann", 401, "foreign-token-refused").await;
    }
    graph.fail("me", None);
    assert_eq!(world.show("facebook_token", "EAAB-ann").await.status, 200);
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_does_not_answer_is_503_and_no_guess() {
    let (world, graph) = facebook("limits.guesses_per_address = 1", "");
    graph.give("EAAB-ann", json!({}), json!({}));
    // Codes: our own token is no good, too many calls, a fault over there, an argument of ours that does not fit.
    for (edge, codes) in [("debug_token", &[190, 4, 2, 1][..]), ("me", &[4, 2, 100][..])] {
        let mut failures: Vec<Failure> = codes.iter().map(|code| Failure::Error(*code)).collect();
        failures.extend([Failure::Broken, Failure::Page, Failure::NotJson, Failure::OtherJson, Failure::Redirect, Failure::Silent]);
        for failure in failures {
            graph.fail(edge, Some(failure));
            let answer = world.show("facebook_token", "EAAB-ann").await;
            assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (503, "token-check-unreachable"), "{edge} {failure:?}");
        }
        graph.fail(edge, None);
    }
    assert_eq!(world.show("facebook_token", "EAAB-ann").await.status, 200);
    drop(graph);
    world.turns_away("facebook_token", "EAAB-ann", 503, "token-check-unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_tokens_count_as_guesses_of_their_address() {
    let (world, graph) = facebook("limits.guesses_per_address = 3", "");
    graph.give("EAAB-ann", json!({}), json!({}));
    for n in 0..3 {
        world.turns_away("facebook_token", &format!("EAAB-{n}"), 401, "foreign-token-refused").await;
    }
    let asked = graph.asked().len();
    let answer = world.show("facebook_token", "EAAB-ann").await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (429, "guesses-of-address"));
    assert!(answer.header("retry-after").is_some() && graph.asked().len() == asked, "Facebook was asked all the same");
    let answer = post(&world.at("/oauth2/token"), FORM, "facebook_token=a&grant_type=refresh_token").await;
    assert_eq!(answer.status, 400, "nothing was shown that could be guessed");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_things_at_once_or_a_grant_that_is_off_are_refused() {
    let (world, graph) = facebook("", "");
    graph.give("EAAB-ann", json!({}), json!({}));
    for (body, error) in [
        ("facebook_token=EAAB-ann&username=ann&password=x&grant_type=password", "invalid_request"),
        ("facebook_token=EAAB-ann&facebook_token=EAAB-ann", "invalid_request"),
        ("facebook_token=EAAB-ann&grant_type=client_credentials", "unsupported_grant_type"),
        ("facebook_token=", "invalid_request"),
        ("username=ann&password=x&grant_type=password", "unsupported_grant_type"),
    ] {
        let answer = post(&world.at("/oauth2/token"), FORM, body).await;
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status.as_u16(), told["error"].as_str().unwrap()), (400, error), "{body}");
    }
    assert!(graph.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_config_does_not_list_among_its_grants_is_off() {
    for (grants, password, foreign) in
        [("", true, true), ("grants = [\"foreign_token\"]\n", false, true), ("grants = [\"password\", \"foreign_token\"]\n", true, true)]
    {
        let graph = Graph::start();
        graph.give("EAAB-ann", json!({}), json!({}));
        let tables = format!(
            "[[user]]\nname = \"ann\"\npassword = \"{CHEAP}\"\n[token]\n{grants}[[foreign_token]]\nid = \"facebook\"\nkind = \"facebook\"\n\
             app_id = \"{APP_ID}\"\napp_secret = \"{APP_SECRET}\"\ngraph_url = \"{}/v23.0\"\n",
            graph.url()
        );
        let world =
            World::shaped(Shape { tables: &tables, routes: Some(&ROUTES.replace("@ID@", "facebook")), ..Shape::default() }, |kind| kind);
        for (body, granted) in
            [("grant_type=password&username=ann&password=correct%20horse", password), ("facebook_token=EAAB-ann", foreign)]
        {
            let answer = post(&world.at("/oauth2/token"), FORM, body).await;
            let told: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!((answer.status == 200, told.get("access_token").is_some()), (granted, granted), "{grants}{body}: {told}");
            assert!(granted || told["error"] == "unsupported_grant_type", "{told}");
        }
    }
}

/// A place that says of each token what a test has put there, and remembers how it was asked.
struct Checker {
    server: Server,
    state: Arc<Mutex<CheckerState>>,
}

#[derive(Default)]
struct CheckerState {
    status: u16,
    answer: Value,
    asked: Vec<String>,
}

impl Checker {
    fn start() -> Self {
        Self::start_on(Listen::Tcp)
    }

    fn start_on(listen: Listen) -> Self {
        let state = Arc::<Mutex<CheckerState>>::default();
        let answering = Arc::clone(&state);
        let respond = move |request: Request<Incoming>, _| {
            let state = Arc::clone(&answering);
            Box::pin(async move { check(request, &state).await }) as std::pin::Pin<Box<dyn Future<Output = Response<TestBody>> + Send>>
        };
        Self { server: Server::start(listen, Arc::new(respond)), state }
    }

    fn says(&self, status: u16, answer: Value) {
        let mut state = self.state.lock().unwrap();
        (state.status, state.answer) = (status, answer);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

async fn check(request: Request<Incoming>, state: &Mutex<CheckerState>) -> Response<TestBody> {
    use http_body_util::BodyExt as _;
    let (head, body) = request.into_parts();
    let form = pairs(&body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default());
    let bearer = head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut state = state.lock().unwrap();
    state.asked.push(format!("{} {} {bearer}{}", head.method, head.uri, form.get("token").map(String::as_str).unwrap_or_default()));
    json_answer(StatusCode::from_u16(state.status).unwrap(), &state.answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_place_that_says_for_whom_a_token_was_issued_will_do() {
    for (token_in, asked) in [
        ("query:id_token", "GET /info?v=3&id_token=tok-1 "),
        ("form:token", "POST /info?v=3 tok-1"),
        ("bearer", "GET /info?v=3 Bearer tok-1"),
    ] {
        let checker = Checker::start();
        let table = format!(
            "id = \"other\"\nkind = \"check\"\ncheck_url = \"http://{}/info?v=3\"\ntoken_in = \"{token_in}\"\naudience_claim = \"app.id\"\n\
             audience = [\"our-app\", \"our-other-app\"]\nsub_claim = \"user.id\"\nuser_claim = \"user.nick\"\ngroups_claim = \"user.teams\"\nexpires_claim = \"ends\"\nemail_claim = \"user.mail\"\nemail_verified = \"if-present\"\n",
            checker.server.address()
        );
        let world = shaped("limits.guesses_per_address = 1000", "other", &table, |provider| provider);
        let good = json!({ "app": { "id": "our-app" }, "user": { "id": 7, "nick": "ann", "teams": ["red"], "mail": "ann@example.test" }, "ends": 4_102_444_800_u64,
            "email_verified": true });
        let but = |patch: Value| {
            let mut all = good.clone();
            for (name, value) in patch.as_object().unwrap() {
                all[name] = value.clone();
            }
            all
        };
        checker.says(200, good.clone());
        let (token, _) = granted(&world.show("other_token", "tok-1").await);
        assert_eq!(checker.asked(), [asked]);
        assert_eq!(world.data("/friends/x", &token).await.status, 200);
        let seen = world.upstream.last();
        assert_eq!((seen.header("x-forwarded-user").as_deref(), seen.header("x-forwarded-groups").as_deref()), (Some("ann"), Some("red")));
        let reached = world.upstream.count();

        for (status, answer, turned, why) in [
            (200, but(json!({ "app": { "id": "another-app" } })), 401, "foreign-token-audience"),
            (200, but(json!({ "app": {} })), 401, "foreign-token-audience"),
            (200, but(json!({ "ends": 1_570_820_400 })), 401, "foreign-token-expired"),
            (200, but(json!({ "ends": null })), 401, "foreign-token-refused"),
            (200, but(json!({ "user": { "nick": "ann" } })), 401, "foreign-token-subject"),
            (200, but(json!({ "user": { "id": 7 } })), 401, "foreign-token-subject"),
            (200, json!({}), 401, "foreign-token-audience"),
            (400, json!({ "error": "invalid_token" }), 401, "foreign-token-refused"),
            (401, json!({}), 401, "foreign-token-refused"),
            (403, json!({}), 503, "token-check-unreachable"),
            (429, json!({}), 503, "token-check-unreachable"),
            (500, good.clone(), 503, "token-check-unreachable"),
            (200, json!(["no object"]), 503, "token-check-unreachable"),
        ] {
            checker.says(status, answer);
            world.turns_away("other_token", "tok-1", turned, why).await;
        }
        assert_eq!(world.upstream.count(), reached);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_checks_tokens_is_told_by_its_certificate_and_is_shown_ours() {
    let both = MutualTls::new();
    let checker = Checker::start_on(both.listen());
    checker.says(200, json!({ "aud": "our-app", "sub": "7" }));
    let port = checker.server.address().port();
    let ways = both.ways();
    let table = |n: usize, tls: &str| {
        format!(
            "[[foreign_token]]\nid = \"way-{n}\"\nparameter = \"p{n}\"\nkind = \"check\"\ncheck_url = \"https://localhost:{port}/info\"\n\
             token_in = \"bearer\"\naudience = [\"our-app\"]\n{tls}"
        )
    };
    let tables: String = ways.iter().enumerate().map(|(n, (tls, _))| table(n, tls)).collect();
    let (tables, routes) = (format!("[token]\n{tables}"), ROUTES.replace("@ID@", "way-0"));
    let world = World::shaped(Shape { tables: &tables, routes: Some(&routes), ..Shape::default() }, |provider| provider);
    for (n, (tls, fits)) in ways.iter().enumerate() {
        if *fits {
            let (token, _) = granted(&world.show(&format!("p{n}"), "tok-1").await);
            assert_eq!((checker.asked().len(), world.data("/api/x", &token).await.status.as_u16()), (1, 200), "{tls}");
            world.upstream.reset();
        } else {
            world.turns_away(&format!("p{n}"), "tok-1", 503, "token-check-unreachable").await;
            assert_eq!((checker.asked(), world.upstream.count()), (vec![], 0), "a token was shown: {tls}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_our_application_may_lie_in_a_file_and_is_the_one_of_now() {
    let (graph, dir) = (Graph::start(), TempDir::new("graph"));
    graph.give("EAAB-ann", json!({}), json!({}));
    let file = dir.write_secret("secret", "another-secret-of-the-test");
    let table = format!(
        "id = \"facebook\"\nkind = \"facebook\"\napp_id = \"{APP_ID}\"\napp_secret_file = \"{}\"\ngraph_url = \"{}/v23.0\"\n",
        file.display(),
        graph.url()
    );
    let world = shaped("", "facebook", &table, |provider| provider);
    world.turns_away("facebook_token", "EAAB-ann", 503, "token-check-unreachable").await;
    dir.write_secret("secret", format!("{APP_SECRET}\n"));
    let (token, _) = granted(&world.show("facebook_token", "EAAB-ann").await);
    assert_eq!((world.upstream.count(), world.data("/api/x", &token).await.status.as_u16()), (0, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_exchanges_a_token_of_others_for_its_own() {
    let table = "id = \"sdk\"\nkind = \"exchange\"\nprovider = \"default\"\nparameter = \"sdk_grant\"\n\
         subject_token_type = \"urn:ietf:params:oauth:token-type:access_token\"\nparameters = { \"subject_issuer\" = \"facebook\" }\n";
    let world = shaped("limits.guesses_per_address = 1000", "default", table, |provider| provider.refresh(true));
    for exchanged in [Exchanged::Tokens, Exchanged::IdToken, Exchanged::AccessJwt] {
        world.provider.reset_counts();
        world.provider.take_foreign("sdk-1", exchanged);
        let (token, _) = granted(&world.show("sdk_grant", "sdk-1").await);
        let asked = &world.provider.token_requests()[0];
        for (name, value) in [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", "sdk-1"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_issuer", "facebook"),
        ] {
            assert_eq!(asked.get(name).map(String::as_str), Some(value), "{name}");
        }
        // A session of the provider's: its people, its rules.
        assert_eq!(world.data("/friends/x", &token).await.status, 200, "{exchanged:?}");
        assert_eq!(world.upstream.last().header("x-forwarded-user").as_deref(), Some("alice"));
        assert_eq!(world.provider.complaints(), Vec::<String>::new(), "{exchanged:?}");
    }
    let reached = world.upstream.count();
    for (exchanged, why) in [(Exchanged::Opaque, "token-response"), (Exchanged::ForeignJwt, "token-response")] {
        world.provider.take_foreign("sdk-1", exchanged);
        world.turns_away("sdk_grant", "sdk-1", 502, why).await;
    }
    world.provider.take_foreign("sdk-1", Exchanged::AccessJwt);
    for (lie, why) in [(Lie::BadSignature, "token-response"), (Lie::AlgNone, "token-response"), (Lie::UserinfoOtherSub, "userinfo-subject")]
    {
        world.provider.set(lie.clone());
        world.turns_away("sdk_grant", "sdk-1", 502, why).await;
    }
    world.provider.take_foreign("sdk-1", Exchanged::Tokens);
    for (lie, why) in [(Lie::WrongAud, "id-token-audience"), (Lie::BadSignature, "id-token-signature"), (Lie::WrongIss, "id-token-issuer")]
    {
        world.provider.set(lie.clone());
        world.turns_away("sdk_grant", "sdk-1", 502, why).await;
    }
    world.provider.set(Lie::None);
    world.turns_away("sdk_grant", "sdk-of-nobody", 401, "foreign-token-refused").await;
    for word in ["invalid_grant", "invalid_token", "invalid_request"] {
        world.provider.refuse_direct(Some(word));
        world.turns_away("sdk_grant", "sdk-1", 401, "foreign-token-refused").await;
    }
    for word in ["invalid_client", "unauthorized_client", "invalid_target", "unsupported_grant_type"] {
        world.provider.refuse_direct(Some(word));
        world.turns_away("sdk_grant", "sdk-1", 503, "token-check-unreachable").await;
    }
    world.provider.refuse_direct(None);
    for lie in [Lie::Status(Endpoint::Token, 500), Lie::Silent(Endpoint::Token)] {
        world.provider.set(lie);
        world.turns_away("sdk_grant", "sdk-1", 503, "token-check-unreachable").await;
    }
    assert_eq!(world.upstream.count(), reached);
}
