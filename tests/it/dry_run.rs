//! `dry_run`: whom the policy would refuse passes, and log, metric and `explain` say so. Who is not known is asked who they are.

use std::process::Command;

use serde_json::json;

use crate::harness::gateway::command;
use crate::harness::scene::{Scene, reason};
use crate::harness::temp::TempDir;

const TABLES: &str = r#"
[policy.staff]
groups = ["staff"]

[[route]]
id = "tried"
path = "/tried"
accept = ["session", "bearer"]
upstream = "@UPSTREAM@"
policy = "staff"
dry_run = true

[[route]]
id = "held"
path = "/held"
accept = ["session", "bearer"]
upstream = "@UPSTREAM@"
policy = "staff"

[[route]]
id = "quiet"
path = "/quiet"
accept = ["session", "bearer"]
upstream = "@UPSTREAM@"
policy = "staff"
dry_run = true
log = false

[[route]]
id = "strong"
path = "/strong"
accept = ["session", "bearer"]
upstream = "@UPSTREAM@"
policy = "staff"
acr = ["mfa"]
dry_run = true
"#;

async fn dry_runs(scene: &Scene, reason: &str) -> u64 {
    scene.gateway.metric(&format!("doorward_dry_run_total{{route=\"tried\",reason=\"{reason}\"}}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_policy_refuses_passes_and_is_told_and_counted() {
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]", TABLES);
    scene.provider.set_user(json!({ "sub": "bob", "groups": ["users"] }));
    let bob = scene.session().await;
    let (users, staff) = (scene.token(json!({ "sub": "u", "groups": ["users"] })), scene.token(json!({ "sub": "s", "groups": ["staff"] })));
    let (users, staff) = (format!("Bearer {users}"), format!("Bearer {staff}"));

    for shown in [("cookie", bob.as_str()), ("authorization", users.as_str())] {
        let held = scene.get("/held", &[shown]).await;
        assert_eq!((held.status.as_u16(), reason(&held).as_str()), (403, "not-allowed"), "without it they are refused");
    }
    assert_eq!(scene.upstream.count(), 0);

    assert_eq!(scene.get("/tried/one", &[("cookie", &bob)]).await.status, 200);
    assert_eq!(scene.upstream.last().header("x-forwarded-user").as_deref(), Some("bob"), "the upstream is told who it is");
    let line = scene.gateway.access_line("path=/tried/one").await;
    for word in [" 200 ", " reason=dry-run ", " would_be=not-allowed ", "in none of the groups", " route=tried ", " user=bob "] {
        assert!(line.contains(word), "no {word:?} in {line}");
    }
    assert_eq!(dry_runs(&scene, "not-allowed").await, 1);
    assert_eq!(scene.get("/tried/two", &[("authorization", &users)]).await.status, 200);
    assert_eq!(dry_runs(&scene, "not-allowed").await, 2);

    // Whom it lets in is nothing to tell of.
    assert_eq!(scene.get("/tried/three", &[("authorization", &staff)]).await.status, 200);
    let line = scene.gateway.access_line("path=/tried/three").await;
    assert!(line.contains(" reason=allowed ") && !line.contains("would_be"), "{line}");
    assert_eq!(dry_runs(&scene, "not-allowed").await, 2);

    // What would be a denial is told where permits are not.
    assert_eq!(scene.get("/quiet", &[("authorization", &users)]).await.status, 200);
    let line = scene.gateway.access_line("path=/quiet").await;
    assert!(line.contains(" would_be=not-allowed "), "{line}");

    // Forward-auth: the same.
    let host = scene.host();
    let question =
        [("x-original-method", "GET"), ("x-original-uri", "/tried/four"), ("x-forwarded-host", &host), ("x-forwarded-proto", "http")];
    let asked = async |endpoint: &str, shown: &[(&str, &str)]| {
        let headers: Vec<(&str, &str)> = question.iter().chain(shown).copied().collect();
        scene.get(endpoint, &headers).await
    };
    let answer = asked("/oauth2/auth", &[("cookie", &bob)]).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-auth-request-user")), (200, Some("bob")));
    assert_eq!(dry_runs(&scene, "not-allowed").await, 3);
    // A policy that the question names is not on trial.
    let answer = asked("/oauth2/auth?policy=staff", &[("cookie", &bob)]).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (403, "not-allowed"));
    assert_eq!(asked("/oauth2/auth", &[]).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_or_not_well_enough_is_refused_all_the_same() {
    let scene = Scene::start("", TABLES);
    scene.provider.set_user(json!({ "sub": "bob", "groups": ["users"] }));
    let bob = scene.session().await;
    let over = format!("Bearer {}", scene.token(json!({ "sub": "u", "groups": ["staff"], "exp": 1_000_000_000 })));
    for (path, shown, status, why) in [
        ("/tried", ("accept", "*/*"), 401, "no-credential"),
        ("/tried", ("cookie", "doorward=of-nobody"), 401, "no-credential"),
        ("/tried", ("authorization", over.as_str()), 401, "token-expired"),
        ("/tried", ("authorization", "Bearer none"), 401, "token-malformed"),
        ("/strong", ("cookie", bob.as_str()), 401, "login-too-weak"),
        ("/tried/%2f", ("cookie", bob.as_str()), 400, "encoded-slash"),
    ] {
        let answer = scene.get(path, &[shown]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (status, why), "{path} {}", shown.0);
    }
    assert_eq!(scene.upstream.count(), 0);
    assert!(!scene.gateway.metrics().await.contains("doorward_dry_run_total{"));
}

#[test]
fn check_and_explain_say_that_a_policy_is_on_trial_and_where_there_is_none_to_try() {
    let dir = TempDir::new("dry-run");
    let config = |route: &str| {
        let text = format!(
            "public_url = \"https://app.test\"\nstore.kind = \"memory\"\n[provider]\nissuer = \"https://login.test\"\nclient_id = \"app\"\n\
             client_secret = \"a-secret-of-the-test\"\n[[route]]\nid = \"r\"\nupstream = \"http://127.0.0.1:1\"\n{route}\ndry_run = true\n"
        );
        dir.write("config.toml", text).display().to_string()
    };
    let run = |arguments: &[&str]| {
        let output = Command::new(command()).args(arguments).env_clear().output().expect("the binary is built");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let sound = config("allow = { groups = [\"staff\"] }");
    let (code, out, err) = run(&["check", "--config", &sound]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("route[0].dry_run: is on") && out.contains("policy \"r\" in dry run"), "{out}{err}");
    let (code, out, err) = run(&["explain", "--config", &sound, "https://app.test/", "--as", "{\"sub\": \"bob\"}"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("in dry run") && out.contains("passes (dry-run; it would be not-allowed)"), "{out}");
    for (route, expected) in [
        ("access = \"public\"", "dry_run: stands beside access"),
        ("access = \"optional\"", "dry_run: stands beside access"),
        ("allow = \"any-authenticated\"", "dry_run: has nothing to try"),
    ] {
        let (code, _, err) = run(&["check", "--config", &config(route)]);
        assert_eq!(code, Some(1), "{route}: {err}");
        assert!(err.contains(expected), "{route}: {err}");
    }
}
