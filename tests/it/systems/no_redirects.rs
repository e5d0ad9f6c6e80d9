//! Flow state: sequences of requests that end where they began are for people. The API side never sees a redirect: whatever a program shows, or shows no
//! more, it is told by status, challenge and JSON.

use std::time::Duration;

use http::{Method, Request};
use serde_json::json;

use crate::harness::body::full;
use crate::harness::http::fetch;
use crate::harness::jose::base64url;
use crate::harness::scene::{Scene, reason};

const FORM: &str = "application/x-www-form-urlencoded";

/// How a program's requests may look. The last is a browser's own, which leads no person to a login where nobody can sign in.
const LOOKS: [&[(&str, &str)]; 5] = [
    &[],
    &[("accept", "application/json, */*")],
    &[("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")],
    &[("accept", "text/html"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")],
    &[("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
];

/// What is shown, and where.
struct Shown {
    query: String,
    form: String,
    lines: Vec<(&'static str, String)>,
    /// What is refused, by the route for programs and by the one for people too.
    reason: &'static str,
}

fn shown(reason: &'static str) -> Shown {
    Shown { query: String::new(), form: "a=1".to_owned(), lines: Vec::new(), reason }
}

/// A token in each place.
fn in_each_place(token: &str, reason: &'static str) -> Vec<Shown> {
    let entry = format!("base64url.bearer.authorization.k8s.io.{}", base64url(token.as_bytes()));
    let line = |name: &'static str, value: String| Shown { lines: vec![(name, value)], ..shown(reason) };
    vec![
        line("authorization", format!("Bearer {token}")),
        line("x-token", token.to_owned()),
        line("sec-websocket-protocol", entry),
        Shown { query: format!("?access_token={token}"), ..shown(reason) },
        Shown { form: format!("access_token={token}"), ..shown(reason) },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn flow_state_the_api_side_never_sees_a_redirect() {
    let places = "bearer_in = [\"header\", \"query\", \"body\", \"header:X-Token\", \"subprotocol\"]";
    let route = |id: &str, accept: &str| {
        format!(
            "[[route]]\nid = \"{id}\"\npath = \"/{id}\"\nupstream = \"@UPSTREAM@\"\naccept = {accept}\nallow = \"any-authenticated\"\n{places}\n"
        )
    };
    let routes = [
        route("programs", "[\"bearer\"]"),
        route("both", "[\"session\", \"bearer\"]"),
        "[[route]]\nid = \"people\"\npath = \"/people\"\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\n".to_owned(),
        "[[route]]\nid = \"mfa\"\npath = \"/mfa\"\nupstream = \"@UPSTREAM@\"\naccept = [\"session\", \"bearer\"]\nallow = \"any-authenticated\"\nacr = [\"mfa\"]\n"
            .to_owned(),
    ];
    let scoped = "allow = { scopes = [\"orders:write\"] }";
    let routes = [routes.concat(), route("scoped", "[\"session\", \"bearer\"]").replace("allow = \"any-authenticated\"", scoped)];
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]\n", &routes.concat());
    let session = scene.session().await;
    let token = scene.token(json!({}));
    // Somebody who is known, and not well enough: told what would be, not sent to get it.
    scene.upstream.reset();
    let weak = Shown { lines: vec![("authorization", format!("Bearer {token}"))], ..shown("login-too-weak") };
    refused_everywhere(&scene, &weak, "mfa", &LOOKS, "login-too-weak").await;
    let fresh = Shown { lines: vec![("cookie", session.clone())], ..shown("login-too-weak") };
    refused_everywhere(&scene, &fresh, "mfa", &LOOKS[..4], "login-too-weak").await;
    // Nor is who may not do it.
    let lacking = Shown { lines: weak.lines, ..shown("insufficient-scope") };
    refused_everywhere(&scene, &lacking, "scoped", &LOOKS[..4], "insufficient-scope").await;

    // The session ends without use, the token by its own time. For an hour it is known that there was a session.
    scene.gateway.advance(Duration::from_secs(12 * 60 * 60 + 600));
    scene.upstream.reset();

    let mut cases = vec![shown("no-credential")];
    cases.extend(in_each_place(&token, "token-expired"));
    cases.extend(in_each_place("made-up", "token-malformed"));
    cases.push(Shown { lines: vec![("cookie", "doorward=nonsense".to_owned())], ..shown("no-credential") });
    cases.push(Shown { query: "?access_token=a&access_token=b".to_owned(), ..shown("token-repeated") });
    cases.push(Shown { query: "?access_token=".to_owned(), ..shown("token-unreadable") });
    let ended = Shown { lines: vec![("cookie", session.clone())], ..shown("session-idle") };
    let mut asked = 0;
    for case in &cases {
        asked += refused_everywhere(&scene, case, "programs", &LOOKS, case.reason).await;
        asked += refused_everywhere(&scene, case, "both", &LOOKS[..4], case.reason).await;
    }
    asked += refused_everywhere(&scene, &ended, "programs", &LOOKS, "no-credential").await;
    asked += refused_everywhere(&scene, &ended, "both", &LOOKS[..4], "session-idle").await;
    asked += refused_everywhere(&scene, &ended, "people", &LOOKS[..4], "session-idle").await;
    assert!(asked > 200, "the test found next to nothing to ask: {asked}");
}

/// Asks in every way; gives how many were asked.
async fn refused_everywhere(scene: &Scene, case: &Shown, route: &str, looks: &[&[(&str, &str)]], expected: &str) -> usize {
    let mut asked = 0;
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
        // A form is read for its token where it is none of GET.
        if method == Method::GET && case.form.starts_with("access_token") {
            continue;
        }
        for look in looks {
            let body = if method == Method::GET { String::new() } else { case.form.clone() };
            let mut request = Request::builder().method(&method).uri(scene.url(&format!("/{route}/x{}", case.query)));
            for (name, value) in *look {
                request = request.header(*name, *value);
            }
            for (name, value) in &case.lines {
                request = request.header(*name, value);
            }
            let answer = fetch(request.header("content-type", FORM).body(full(body)).expect("a request")).await;
            let what = format!("{method} /{route}{} {look:?} {:?}", case.query, case.lines);
            assert!(matches!(answer.status.as_u16(), 400 | 401 | 403), "{what}: {} {}", answer.status, answer.text());
            assert!(answer.location().is_none() && !answer.text().contains("http-equiv"), "{what}: {}", answer.text());
            let challenge = answer.header("www-authenticate").unwrap_or_else(|| panic!("{what}: no challenge"));
            assert!(challenge.starts_with(if route == "people" { "Doorward-Session " } else { "Bearer " }), "{what}: {challenge}");
            // A browser's window gets a page that says the same; everybody else JSON.
            if answer.header("content-type") == Some("application/json") {
                assert_eq!(reason(&answer), expected, "{what}");
            } else {
                assert!(look.contains(&("sec-fetch-mode", "navigate")) && answer.text().contains(expected), "{what}: {}", answer.text());
            }
            asked += 1;
        }
    }
    assert_eq!(scene.upstream.count(), 0, "/{route}{}", case.query);
    asked
}
