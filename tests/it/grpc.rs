//! gRPC from end to end: a client and a server of another hand, and the gateway between them.
#![allow(clippy::disallowed_methods, reason = "how soon a call ends is told by the machine's own clock, and calls run side by side")]

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::certs::CertificateAuthority;
use crate::harness::grpc::{GrpcServer, call, hold};
use crate::harness::scene::Scene;
use crate::harness::wait::{eventually, free_port};
use crate::harness::world::{Shape, World};

const ROUTE: &str = "[[route]]\npath = \"/test.Echo/\"\nupstream = \"@GRPC@\"\naccept = [\"bearer\"]\nallow = \"any-authenticated\"\n";

async fn scene(tables: &str) -> (GrpcServer, Scene) {
    let server = GrpcServer::start().await;
    let scene = Scene::start("", &tables.replace("@GRPC@", &server.url()));
    (server, scene)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_call_comes_through_with_its_metadata_and_status() {
    let (server, scene) = scene(ROUTE).await;
    let (target, bearer) = (scene.host(), format!("authorization=Bearer {}", scene.token(json!({ "sub": "alice" }))));
    for (method, messages, expected) in [
        ("unary", &["a"][..], &["echo a"][..]),
        ("count", &["3"], &["0", "1", "2"]),
        ("gather", &["a", "b", "c"], &["a+b+c"]),
        ("chat", &["a", "b"], &["echo a", "echo b"]),
    ] {
        let outcome = call(&target, method, &[&["--metadata", &bearer], messages].concat()).await;
        assert_eq!((outcome.status(), outcome.messages().as_slice()), ("OK", expected), "{method}: {outcome:?}");
        assert!(outcome.of("initial").contains(&"x-user=alice"), "{method}: {outcome:?}");
        assert_eq!(outcome.of("trailing"), ["x-sum=42", "x-data-bin=b'\\x00\\xff'"], "{method}");
    }
    assert_eq!(server.said("called"), 4);
    // An answer that is its head alone.
    let outcome = call(&target, "refuse", &["--metadata", &bearer, "mondays"]).await;
    assert_eq!((outcome.status(), outcome.details()), ("FAILED_PRECONDITION", "not today: mondays"));
    // What does not fit into any window at once.
    let down = call(&target, "large", &["--metadata", &bearer, "20"]).await;
    let up = call(&target, "size", &["--metadata", &bearer, "--megabytes", "20"]).await;
    assert_eq!((down.status(), down.of("bytes")), ("OK", vec!["20000000"]));
    assert_eq!((up.status(), up.messages()), ("OK", vec!["20000000"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_and_cancelled_calls_reach_the_server_and_its_connection_goes_on() {
    let (server, scene) = scene(ROUTE).await;
    let (target, bearer) = (scene.host(), format!("authorization=Bearer {}", scene.token(json!({ "sub": "alice" }))));
    let outcome = call(&target, "sleepy", &["--metadata", &bearer, "--timeout", "0.5"]).await;
    assert_eq!(outcome.status(), "DEADLINE_EXCEEDED");
    eventually("the end of the late call", || (server.said("ended sleepy") == 1).then_some(())).await;
    let outcome = call(&target, "forever", &["--metadata", &bearer, "--cancel-after", "3"]).await;
    assert_eq!(outcome.status(), "CANCELLED");
    eventually("the end of the cancelled call", || (server.said("ended forever") == 1).then_some(())).await;
    assert_eq!(call(&target, "unary", &["--metadata", &bearer, "a"]).await.status(), "OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_client_settles_http2_by_alpn() {
    let (authority, server) = (CertificateAuthority::new(), GrpcServer::start().await);
    let (leaf, port) = (authority.leaf(&["localhost"]), free_port());
    let tls = format!(
        "[tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n{}",
        leaf.certificate_file().display(),
        leaf.key_file().display(),
        ROUTE.replace("@GRPC@", &server.url())
    );
    let scene = Scene::start_on(port, "https://localhost:@PORT@", "", &tls);
    let bearer = format!("authorization=Bearer {}", scene.token(json!({ "sub": "alice" })));
    let (target, ca) = (format!("localhost:{port}"), authority.file().display().to_string());
    let outcome = call(&target, "chat", &["--ca", &ca, "--metadata", &bearer, "a", "b"]).await;
    assert_eq!((outcome.status(), outcome.messages()), ("OK", vec!["echo a", "echo b"]), "{outcome:?}");
    assert!(outcome.of("initial").contains(&"x-user=alice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_failures_are_statuses_to_the_client() {
    let staff = ROUTE.replace("\"any-authenticated\"", "{ groups = [\"staff\"] }");
    let (server, scene) = scene(&staff).await;
    let target = scene.host();
    let outcome = call(&target, "unary", &["a"]).await;
    assert_eq!(outcome.status(), "UNAUTHENTICATED", "{outcome:?}");
    scene.gateway.access_line("reason=no-credential").await;
    let bearer = format!("authorization=Bearer {}", scene.token(json!({ "sub": "alice", "groups": ["guests"] })));
    let outcome = call(&target, "unary", &["--metadata", &bearer, "a"]).await;
    assert_eq!(outcome.status(), "PERMISSION_DENIED", "{outcome:?}");
    scene.gateway.access_line("reason=not-allowed").await;
    assert_eq!(server.said("called"), 0);
    let bearer = format!("authorization=Bearer {}", scene.token(json!({ "sub": "alice", "groups": ["staff"] })));
    assert_eq!(call(&target, "unary", &["--metadata", &bearer, "a"]).await.status(), "OK");
    server.process.kill();
    let outcome = call(&target, "unary", &["--metadata", &bearer, "a"]).await;
    assert_eq!(outcome.status(), "UNAVAILABLE", "{outcome:?}");
    scene.gateway.access_line("reason=upstream-").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_calls_of_that_session_within_a_second_and_no_others() {
    let server = GrpcServer::start().await;
    let route = format!(
        "[[route]]\npath = \"/test.Echo/\"\nupstream = \"{}\"\nallow = \"any-authenticated\"\n\
         [[route]]\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\n",
        server.url()
    );
    let world = World::shaped(Shape { routes: Some(&route), ..Shape::default() }, |provider| provider);
    let target = world.gateway.address.to_string();
    let (mut browser, beside) = (world.signed_in().await, world.signed_in().await);
    let [cookie, other] = [&browser, &beside].map(|who| format!("cookie=doorward={}", world.session(who).expect("a session")));
    // The server streams; both do; only the client does, and the server has not said a word.
    let calls = [
        hold(&target, "forever", &["--metadata", &cookie]),
        hold(&target, "chat_held", &["--metadata", &cookie, "a"]),
        hold(&target, "gather_held", &["--metadata", &cookie, "a"]),
    ];
    let others = hold(&target, "chat_held", &["--metadata", &other, "b"]);
    calls[0].says("message 0").await;
    calls[1].says("message echo a").await;
    eventually("the call that is silent", || (server.said("begun gather_held") == 1).then_some(())).await;
    others.says("message echo b").await;
    let page = browser.get(&world.at("/oauth2/session")).await;
    let began = Instant::now();
    browser.submit(&page, &page.form_to("sign_out"), &[]).await;
    let mut statuses = Vec::new();
    for call in &calls {
        let left = Duration::from_secs(1).saturating_sub(began.elapsed());
        statuses.push(call.ends_within(left).await.expect("an end within a second").status().to_owned());
    }
    assert!(statuses[..2].iter().all(|status| status != "OK"), "{statuses:?}");
    assert_eq!(statuses[2], "UNAUTHENTICATED");
    assert!(world.gateway.access_line("reason=session-ended").await.contains("gather_held"));
    for (what, n) in [("ended forever", 1), ("ended gather_held", 1), ("ended chat_held", 1)] {
        eventually(what, || (server.said(what) == n).then_some(())).await;
    }
    assert!(others.ends_within(Duration::from_millis(300)).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_may_be_silent_for_longer_than_a_body_may() {
    let server = GrpcServer::start().await;
    let routes = format!(
        "[limits]\nbody_timeout = \"300ms\"\n{}[[route]]\naccess = \"public\"\nupstream = \"@UPSTREAM@\"\n",
        ROUTE.replace("accept = [\"bearer\"]\nallow = \"any-authenticated\"\n", "access = \"public\"\n").replace("@GRPC@", &server.url())
    );
    let scene = Scene::start("", &routes);
    let held = hold(&scene.host(), "chat_held", &["a"]);
    held.says("message echo a").await;
    assert!(held.ends_within(Duration::from_millis(900)).await.is_none());
    // Whatever else is silent is not waited for.
    let (sender, body) = crate::harness::body::streamed();
    let request = http::Request::post(scene.url("/x")).body(body).unwrap();
    let silent = tokio::spawn(crate::harness::http::fetch(request));
    assert!(sender.send("a").await);
    assert_eq!(silent.await.unwrap().status, 408);
}
