//! Login for mobile apps: e-mail and password, or a Facebook token, for one opaque access token sent in header, query or body.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::graph::{APP_ID, APP_SECRET, Graph};
use crate::harness::process::{Launch, Process};
use crate::harness::wait::{PATIENCE, within};
use crate::harness::world::{Shape, World};
use crate::local_accounts::CHEAP;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const PLACES: [&str; 3] = ["header", "query", "body"];

/// The app of `tests/mobile/app.py`, which knows nothing but the gateway's address.
struct MobileApp {
    process: Process,
    steps: std::cell::Cell<usize>,
}

impl MobileApp {
    fn start(base: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mobile/app.py");
        let process = Launch::new("python3").args([script, base]).with_stdin().start();
        Self { process, steps: std::cell::Cell::new(0) }
    }

    /// Takes one step; what came of it.
    async fn step(&self, step: Value) -> Value {
        assert!(self.process.write(&format!("{step}\n")), "the app is gone:\n{}", self.process.output());
        let before = self.steps.replace(self.steps.get() + 1);
        let answered = within(PATIENCE, || self.process.stdout().lines().nth(before).map(str::to_owned)).await;
        let line = answered.unwrap_or_else(|| panic!("no answer to {step}:\n{}", self.process.output()));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Signs in; the token.
    async fn token(&self, with: Value, kind: &str) -> String {
        let answer = self.step(json!({ "do": "sign_in", "with": with, "as": kind })).await;
        let told = &answer["body"];
        assert!(answer["status"] == 200 && told["token_type"] == "bearer" && told["expires_in"] == 2_592_000, "{answer}");
        assert!(told["created_at"].is_u64() && told.as_object().unwrap().len() == 4, "{answer}");
        told["access_token"].as_str().unwrap().to_owned()
    }

    async fn data(&self, token: Option<&str>, place: &str) -> Value {
        self.step(json!({ "do": "data", "path": "/data/notes", "token": token, "in": place })).await
    }
}

/// 401 as JSON, with the word of RFC 6750; never a page, never a redirect.
fn assert_unauthorized(answer: &Value, reason: &str) {
    let error = if reason == "no-credential" { "token_required" } else { "invalid_token" };
    assert_eq!(
        (&answer["status"], &answer["body"]["reason"], &answer["body"]["error"]),
        (&json!(401), &json!(reason), &json!(error)),
        "{answer}"
    );
    let headers = &answer["headers"];
    assert!(headers["content-type"] == "application/json" && headers.get("location").is_none(), "{headers}");
    assert!(headers["www-authenticate"].as_str().is_some_and(|value| value.starts_with("Bearer ")), "{headers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn login_for_mobile_apps_by_password_or_facebook_token_for_one_opaque_token_in_header_query_or_body() {
    for (table, status) in [("", 401), ("error_status = 400", 400)] {
        let graph = Graph::start();
        let tables = format!(
            "[token]\npath = \"/oauth/token\"\n{table}\n[[user]]\nname = \"ann@example.test\"\npassword = \"{CHEAP}\"\n\
             [[foreign_token]]\nid = \"facebook\"\nkind = \"facebook\"\napp_id = \"{APP_ID}\"\napp_secret = \"{APP_SECRET}\"\ngraph_url = \"{}\"\n",
            graph.url()
        );
        let routes = "[[route]]\nid = \"data\"\npath = \"/data/\"\nupstream = \"@UPSTREAM@\"\naccept = [\"bearer\"]\nallow = \"any-authenticated\"\n\
             bearer_in = [\"header\", \"query\", \"body\"]\n\
             [[route]]\nid = \"site\"\nupstream = \"@UPSTREAM@\"\nallow = { emails = [\"nobody@example.test\"], provider = [\"default\"] }\n";
        let world = World::shaped(Shape { tables: &tables, routes: Some(routes), ..Shape::default() }, |provider| provider);
        let app = MobileApp::start(&world.gateway.url);
        graph.give("EAAB-ann", json!({}), json!({}));

        // No token, no data; a wrong password, no token.
        assert_unauthorized(&app.data(None, "header").await, "no-credential");
        for with in [
            json!({ "grant_type": "password", "username": "ann@example.test", "password": "wrong" }),
            json!({ "grant_type": "password", "username": "nobody@example.test", "password": "correct horse" }),
            json!({ "facebook_token": "EAAB-of-nobody" }),
        ] {
            let answer = app.step(json!({ "do": "sign_in", "with": with })).await;
            assert_eq!((&answer["status"], &answer["body"]["error"]), (&json!(status), &json!("invalid_grant")), "{answer}");
            assert!(answer["body"]["error_description"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
        }
        assert_eq!(world.upstream.count(), 0);

        let password = json!({ "grant_type": "password", "username": "ann@example.test", "password": "correct horse" });
        let mut tokens = Vec::new();
        for (with, kind, user) in [
            (password.clone(), "form", "ann@example.test"),
            (password, "json", "ann@example.test"),
            (json!({ "facebook_token": "EAAB-ann" }), "form", "10215241773831025"),
            (json!({ "facebook_token": "EAAB-ann" }), "json", "10215241773831025"),
        ] {
            let token = app.token(with, kind).await;
            for place in PLACES {
                let answer = app.data(Some(&token), place).await;
                assert_eq!(answer["status"], 200, "{place}: {answer}");
                let seen = world.upstream.last();
                assert_eq!(seen.header("x-forwarded-user").as_deref(), Some(user), "{place}");
                assert!(!seen.everything().contains(&token), "the app behind was told the token in the {place}: {}", seen.everything());
            }
            tokens.push(token);
        }
        let reached = world.upstream.count();
        for place in PLACES {
            assert_unauthorized(&app.data(Some("made-up"), place).await, "token-malformed");
            assert_unauthorized(&app.data(Some(&format!("doorward_st_{}", "A".repeat(64))), place).await, "issued-token-unknown");
        }

        // There is no renewal: after its time the app signs in again.
        world.advance(30 * DAY + Duration::from_secs(60));
        for place in PLACES {
            assert_unauthorized(&app.data(Some(&tokens[0]), place).await, "issued-token-expired");
        }
        let renewal = json!({ "grant_type": "refresh_token", "refresh_token": tokens[0] });
        let answer = app.step(json!({ "do": "sign_in", "with": renewal })).await;
        assert_eq!((&answer["status"], &answer["body"]["error"]), (&json!(400), &json!("unsupported_grant_type")), "{answer}");
        assert_eq!(world.upstream.count(), reached, "something that was refused reached the upstream");
        let again = app.token(json!({ "facebook_token": "EAAB-ann" }), "form").await;
        assert_eq!(app.data(Some(&again), "header").await["status"], 200);
    }
}
