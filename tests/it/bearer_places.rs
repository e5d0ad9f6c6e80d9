//! Bearer tokens elsewhere than in `Authorization`: in the query, in a form, in a header of another name, in a WebSocket's subprotocols. Only where the
//! route says so, one at a time, and never seen by the upstream.

use http::Request;
use http::header::HeaderMap;
use serde_json::json;

use crate::harness::answer::Answer;
use crate::harness::body::{TestBody, empty, full, streamed};
use crate::harness::browser::Browser;
use crate::harness::http::{HttpClient, Protocol, fetch};
use crate::harness::jose::base64url;
use crate::harness::raw::RawConnection;
use crate::harness::scene::{Scene, reason};
use crate::harness::websocket::WebSocket;

const FORM: &str = "application/x-www-form-urlencoded";
const SUBPROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

fn scene() -> Scene {
    let route = |path: &str, places: &str| {
        format!(
            "[[route]]\nid = \"{path}\"\npath = \"/{path}\"\nupstream = \"@UPSTREAM@\"\naccept = [\"session\", \"bearer\"]\n\
             allow = \"any-authenticated\"\n{places}\n"
        )
    };
    let routes = [
        route("plain", ""),
        route("query", "bearer_in = [\"header\", \"query\"]"),
        route("body", "bearer_in = [\"header\", \"body\"]"),
        route("named", "bearer_in = [\"header:X-Token\"]"),
        route("socket", "bearer_in = [\"header\", \"subprotocol\"]"),
        route("all", "bearer_in = [\"header\", \"query\", \"body\", \"header:X-Token\", \"header:X-Other\", \"subprotocol\"]"),
        route("preflight", "bearer_in = [\"query\", \"header:X-Token\"]\npreflight = \"pass\""),
        "[[route]]\nid = \"anybody\"\npath = \"/anybody\"\nupstream = \"@UPSTREAM@\"\naccess = \"optional\"\naccept = [\"bearer\"]\n\
         bearer_in = [\"query\"]\n"
            .to_owned(),
        "[[route]]\nid = \"public\"\npath = \"/public\"\nupstream = \"@UPSTREAM@\"\naccess = \"public\"\n".to_owned(),
        "[[route]]\nid = \"asked\"\npath = \"/asked\"\naccept = [\"bearer\"]\nallow = \"any-authenticated\"\n\
         bearer_in = [\"query\", \"header:X-Token\"]\n"
            .to_owned(),
    ];
    Scene::start("trusted_proxies = [\"127.0.0.1\"]\n", &routes.concat())
}

fn token(scene: &Scene) -> String {
    scene.token(json!({}))
}

/// A request with a form.
fn post(scene: &Scene, path: &str, content_type: &str, form: impl Into<bytes::Bytes>) -> Request<TestBody> {
    Request::post(scene.url(path)).header("content-type", content_type).body(full(form)).expect("a request")
}

/// The program is let in, and the upstream saw no token.
#[track_caller]
fn taken(scene: &Scene, answer: &Answer, token: &str) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(scene.upstream.count(), 1);
    let seen = scene.upstream.last();
    assert_eq!(seen.header("x-forwarded-user").as_deref(), Some("program"), "{}", seen.everything());
    assert!(!seen.everything().contains(token), "{}", seen.everything());
    assert!(!seen.everything().contains(&base64url(token.as_bytes())), "{}", seen.everything());
    scene.upstream.reset();
}

/// Refused with this status and reason, the challenge that belongs to it, and nothing sent on.
#[track_caller]
fn refused(scene: &Scene, answer: &Answer, status: u16, expected: &str) {
    assert_eq!((answer.status.as_u16(), reason(answer).as_str()), (status, expected), "{}", answer.text());
    assert_eq!(scene.upstream.count(), 0, "{expected}");
    let challenge = answer.header_all("www-authenticate").join("\n");
    match (status, expected) {
        (400, _) => assert!(challenge.starts_with("Bearer realm=\"doorward\", error=\"invalid_request\""), "{challenge}"),
        (401, "no-credential") => {
            assert!(challenge.starts_with("Bearer realm=\"doorward\"") && !challenge.contains("error"), "{challenge}")
        }
        (401, _) => assert!(challenge.starts_with("Bearer realm=\"doorward\", error=\"invalid_token\""), "{challenge}"),
        _ => assert_eq!(challenge, "", "{expected}"),
    }
    assert!(answer.location().is_none() && answer.set_cookies().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_query_counts_where_the_route_says_so_and_goes_before_the_request_goes_on() {
    let scene = scene();
    let token = token(&scene);
    for (query, left) in [
        (format!("?access_token={token}"), ""),
        (format!("?access_token={token}&a=%2b+%c3%a9&&b"), "?a=%2b+%c3%a9&&b"),
        (format!("?a=1&access_token={token}&b=[x]"), "?a=1&b=[x]"),
        (format!("?a=1&access%5Ftoken={}", token.replace('.', "%2E")), "?a=1"),
    ] {
        for (method, path) in [("GET", "/query/x"), ("POST", "/query"), ("GET", "/all"), ("DELETE", "/anybody")] {
            let answer = scene.send(Protocol::Http2, method, &format!("{path}{query}"), &[]).await;
            assert_eq!(scene.upstream.last().target, format!("{path}{left}"));
            taken(&scene, &answer, &token);
        }
    }
    // A form's parameter of this name is not read here, so it is the app's.
    let answer = fetch(post(&scene, &format!("/query?access_token={token}"), FORM, "access_token=mine")).await;
    assert_eq!(scene.upstream.last().body, "access_token=mine");
    taken(&scene, &answer, &token);
    // The log never holds a query, and a page that failed links to none with a token.
    let line = scene.gateway.access_line("route=query").await;
    assert!(line.contains("credential=bearer") && !scene.gateway.access_lines().contains("access_token"), "{line}");
    let page = scene.get(&format!("/query/close?access_token={token}&x=1"), &[("accept", "text/html")]).await;
    assert!(!page.text().contains(&token), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_access_token_is_the_apps_own_parameter() {
    let scene = scene();
    let token = token(&scene);
    let bearer = format!("Bearer {token}");
    for path in ["/plain", "/body", "/named", "/socket"] {
        let target = format!("{path}?access_token={token}");
        refused(&scene, &scene.get(&target, &[]).await, 401, "no-credential");
        let shown: &[(&str, &str)] = if path == "/named" { &[("x-token", &token)] } else { &[("authorization", &bearer)] };
        assert_eq!(scene.get(&target, shown).await.status, 200);
        assert_eq!(scene.upstream.last().target, target);
        scene.upstream.reset();
    }
    for path in ["/plain", "/query", "/named"] {
        let form = format!("access_token={token}");
        refused(&scene, &fetch(post(&scene, path, FORM, form.clone())).await, 401, "no-credential");
        let more = [("x-token", token.as_str()), ("sec-websocket-protocol", "x")];
        let mut request = post(&scene, path, FORM, form.clone());
        request.headers_mut().insert("authorization", bearer.parse().unwrap());
        more.iter().for_each(|(name, value)| drop(request.headers_mut().insert(*name, value.parse().unwrap())));
        assert_eq!(fetch(request).await.status, 200);
        let seen = scene.upstream.last();
        assert_eq!(seen.body, form);
        // Where `Authorization` is not listed it belongs to the app, as does X-Token where that is not.
        assert_eq!(seen.header("authorization").is_some(), path == "/named");
        assert_eq!(seen.header("x-token").is_some(), path != "/named");
        scene.upstream.reset();
    }
    // A public route reads nothing, and takes nothing out.
    let answer = scene.get(&format!("/public?access_token={token}"), &[("x-token", &token), ("authorization", &bearer)]).await;
    assert_eq!(answer.status, 200);
    assert!(scene.upstream.last().target.ends_with(&token) && scene.upstream.last().header("x-token").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_form_counts_and_the_form_goes_on_without_it() {
    let scene = scene();
    let token = token(&scene);
    for (form, left) in [
        (format!("access_token={token}"), ""),
        (format!("a=1&access_token={token}&b=%2b+x&&c"), "a=1&b=%2b+x&&c"),
        (format!("a=%zz;&%61ccess_token={token}"), "a=%zz;"),
    ] {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for content_type in [FORM, "Application/X-WWW-Form-URLencoded; charset=UTF-8"] {
                let answer = HttpClient::new().speaking(protocol).fetch(post(&scene, "/body", content_type, form.clone())).await;
                let seen = scene.upstream.last();
                assert_eq!(seen.body, left);
                assert_eq!(seen.header_all("content-length"), [left.len().to_string()]);
                assert_eq!(seen.header("content-type").as_deref(), Some(content_type));
                taken(&scene, &answer, &token);
            }
        }
    }
    // In pieces and with trailers: it arrives whole, and says how long it is.
    let (sender, body) = streamed();
    let request = Request::post(scene.url("/body")).header("content-type", FORM).header("trailer", "x-sum").body(body).expect("a request");
    let sending = async {
        for piece in ["a=1&acce", "ss_tok", "en=", token.as_str(), "&b=2"] {
            assert!(sender.send(piece.to_owned()).await);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        sender.trailers(trailers).await
    };
    let (answer, sent) = tokio::join!(fetch(request), sending);
    assert!(sent);
    let seen = scene.upstream.last();
    assert_eq!((&seen.body[..], seen.header_all("content-length")), (&b"a=1&b=2"[..], vec!["7".to_owned()]));
    assert!(seen.header("transfer-encoding").is_none() && seen.header("trailer").is_none() && seen.trailers.is_empty());
    taken(&scene, &answer, &token);
    // A form without a token goes on as it came, for whoever shows one in the header.
    let mut request = post(&scene, "/body", FORM, "a=1&\u{e9}=%zz&access_tokens=x");
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let answer = fetch(request).await;
    assert_eq!(scene.upstream.last().body, "a=1&\u{e9}=%zz&access_tokens=x");
    taken(&scene, &answer, &token);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_whole_urlencoded_form_that_is_not_got_is_looked_into() {
    let scene = scene();
    let token = token(&scene);
    let form = format!("access_token={token}");
    for content_type in ["text/plain", "application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded2", ""] {
        refused(&scene, &fetch(post(&scene, "/body", content_type, form.clone())).await, 401, "no-credential");
    }
    let mut coded = post(&scene, "/body", FORM, form.clone());
    coded.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    refused(&scene, &fetch(coded).await, 401, "no-credential");
    let got = Request::get(scene.url("/body")).header("content-type", FORM).body(full(form.clone())).expect("a request");
    refused(&scene, &fetch(got).await, 401, "no-credential");
    // RFC 6750 §2.2: in ASCII alone.
    refused(&scene, &fetch(post(&scene, "/body", FORM, format!("a=\u{e9}&{form}"))).await, 400, "token-unreadable");
    // Other bodies of such a route stream, as long as they are.
    let (sender, body) = streamed();
    let request = Request::post(scene.url("/body/mirror"))
        .header("content-type", "text/plain")
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .expect("a request");
    sender.send("first").await;
    let mut answer = HttpClient::new().open(request).await.expect("the answer begins before the body has ended");
    assert_eq!(answer.next().await.as_deref(), Some(&b"first"[..]));
    sender.send(vec![b'x'; 100 << 10]).await;
    drop(sender);
    assert_eq!(answer.whole().await.expect("the rest").body.len(), 100 << 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_too_long_is_413_and_reaches_nobody() {
    let scene = scene();
    let token = token(&scene);
    let form = |bytes: usize| {
        let start = format!("access_token={token}&a=");
        format!("{start}{}", "x".repeat(bytes - start.len()))
    };
    let answer = fetch(post(&scene, "/body", FORM, form(64 << 10))).await;
    assert_eq!(scene.upstream.last().body.len(), (64 << 10) - "access_token=&".len() - token.len());
    taken(&scene, &answer, &token);
    let bearer = format!("Bearer {token}");
    for shown in [None, Some(&bearer)] {
        let mut request = post(&scene, "/body", FORM, form((64 << 10) + 1));
        shown.map(|bearer| request.headers_mut().insert("authorization", bearer.parse().unwrap()));
        refused(&scene, &fetch(request).await, 413, "body-too-large");
    }
    // A form that breaks off is no form.
    let mut connection = RawConnection::open(scene.gateway.address).await;
    let head =
        format!("POST /body HTTP/1.1\r\nHost: {}\r\nContent-Type: {FORM}\r\nContent-Length: 5000\r\n\r\n{}", scene.host(), form(2000));
    connection.send(head).await;
    connection.finish().await;
    scene.gateway.access_line("reason=body-broken").await;
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tokens_are_an_invalid_request_wherever_they_stand() {
    let scene = scene();
    let token = token(&scene);
    let session = scene.sign_in().await;
    scene.upstream.reset();
    let (bearer, dpop) = (format!("Bearer {token}"), format!("DPoP {token}"));
    let entry = format!("{SUBPROTOCOL}{}", base64url(token.as_bytes()));
    let query = format!("?access_token={token}");
    let form = format!("access_token={token}");
    let cookies = session.cookie_header(&scene.url("/all"));
    for (target, body, lines) in [
        (format!("/all{query}"), "", &[("authorization", bearer.as_str())][..]),
        (format!("/all{query}"), "", &[("authorization", dpop.as_str())]),
        (format!("/all{query}"), "", &[("x-token", token.as_str())]),
        (format!("/all{query}"), form.as_str(), &[]),
        (format!("/all{query}"), "", &[("sec-websocket-protocol", entry.as_str())]),
        ("/all".to_owned(), form.as_str(), &[("authorization", bearer.as_str())]),
        ("/all".to_owned(), form.as_str(), &[("x-token", token.as_str())]),
        ("/all".to_owned(), "", &[("x-token", token.as_str()), ("x-other", token.as_str())]),
        ("/all".to_owned(), "", &[("x-token", token.as_str()), ("x-token", token.as_str())]),
        // Twice in one place.
        (format!("/all{query}&{form}"), "", &[]),
        (format!("/all{query}&access%5Ftoken=x"), "", &[]),
        (format!("/query{query}&access_token="), "", &[]),
        (format!("/query{query}"), "", &[("authorization", bearer.as_str())]),
        ("/body".to_owned(), &format!("{form}&{form}"), &[]),
        ("/body".to_owned(), form.as_str(), &[("authorization", bearer.as_str())]),
        // A bad one beside a good one is still two.
        ("/all?access_token=bad".to_owned(), "", &[("authorization", bearer.as_str())]),
    ] {
        // A good session beside them changes nothing.
        for cookie in ["", cookies.as_str()] {
            let mut request = post(&scene, &target, FORM, body.to_owned());
            for (name, value) in lines.iter().chain((!cookie.is_empty()).then_some(&("cookie", cookie))) {
                request.headers_mut().append(*name, value.parse().unwrap());
            }
            let answer = fetch(request).await;
            refused(&scene, &answer, 400, "token-repeated");
            assert_eq!(answer.json()["error"], "invalid_request");
        }
    }
    for target in ["/all?access_token=", "/query?access_token", "/all?access_token=a%20b", "/query?access_token=%22"] {
        refused(&scene, &scene.get(target, &[("cookie", &cookies)]).await, 400, "token-unreadable");
    }
    refused(&scene, &scene.get("/named", &[("x-token", "")]).await, 400, "token-unreadable");
    let long = "a".repeat(17 << 10);
    refused(&scene, &scene.get(&format!("/query?access_token={long}"), &[]).await, 400, "token-unreadable");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_credential_counts_alone_and_a_bad_one_never_falls_back() {
    let scene = scene();
    let token = token(&scene);
    let session: Browser = scene.sign_in().await;
    scene.upstream.reset();
    let cookies = session.cookie_header(&scene.url("/all"));
    let bad = scene.token(json!({ "aud": "somebody-else" }));
    let with_session = [("cookie", cookies.as_str())];
    // The session alone is good there.
    assert_eq!(scene.get("/all", &with_session).await.status, 200);
    assert_eq!(scene.upstream.last().header("x-forwarded-user").as_deref(), Some("alice"), "{}", scene.upstream.last().everything());
    scene.upstream.reset();
    // The token counts, not the session beside it.
    taken(&scene, &scene.get(&format!("/all?access_token={token}"), &with_session).await, &token);
    taken(&scene, &scene.get("/all", &[("x-token", &token), with_session[0]]).await, &token);
    let entry = format!("{SUBPROTOCOL}{}", base64url(bad.as_bytes()));
    for (target, lines) in [
        (format!("/all?access_token={bad}"), &[][..]),
        (format!("/query?access_token={bad}"), &[]),
        ("/all".to_owned(), &[("x-token", bad.as_str())]),
        ("/all".to_owned(), &[("x-other", bad.as_str())]),
        ("/socket".to_owned(), &[("sec-websocket-protocol", entry.as_str())]),
        (format!("/anybody?access_token={bad}"), &[]),
    ] {
        let lines: Vec<_> = lines.iter().copied().chain(with_session).collect();
        refused(&scene, &scene.get(&target, &lines).await, 401, "token-audience");
    }
    let mut request = post(&scene, "/all", FORM, format!("access_token={bad}"));
    request.headers_mut().insert("cookie", cookies.parse().unwrap());
    refused(&scene, &fetch(request).await, 401, "token-audience");
    // A scheme that the route does not read is the app's, whatever else is shown.
    let answer = scene.get(&format!("/all?access_token={token}"), &[("authorization", "Basic YTpi")]).await;
    assert_eq!(scene.upstream.last().header("authorization").as_deref(), Some("Basic YTpi"));
    taken(&scene, &answer, &token);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_another_name_is_the_token_whole_or_after_its_scheme() {
    let scene = scene();
    let token = token(&scene);
    for value in [token.clone(), format!("Bearer {token}"), format!("bearer  {token}")] {
        for path in ["/named", "/all"] {
            let answer = scene.get(path, &[("X-Token", &value)]).await;
            assert_eq!(scene.upstream.last().header("x-token"), None);
            taken(&scene, &answer, &token);
        }
    }
    refused(&scene, &scene.get("/named", &[("authorization", &format!("Bearer {token}"))]).await, 401, "no-credential");
    refused(&scene, &scene.get("/named", &[("x-token", &format!("Basic {token}"))]).await, 400, "token-unreadable");
    refused(&scene, &scene.get("/plain", &[("x-token", &token)]).await, 401, "no-credential");
    // A preflight that passes brings no credential to the upstream, wherever it stood.
    let lines = [("origin", "https://a.test"), ("access-control-request-method", "GET"), ("x-token", token.as_str())];
    let answer = scene.send(Protocol::Http1, "OPTIONS", &format!("/preflight?access_token={token}&a"), &lines).await;
    assert_eq!(answer.status, 200);
    let seen = scene.upstream.last();
    assert_eq!((seen.target.as_str(), seen.header("x-token")), ("/preflight?a", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_a_token_in_the_query_is_for_no_shared_cache() {
    let scene = scene();
    let token = token(&scene);
    let bearer = format!("Bearer {token}");
    for (wanted, expected) in
        [("", "private, no-cache"), ("&cache-control=public,max-age=60", "private, max-age=60"), ("&cache-control=no-store", "no-store")]
    {
        let answer = scene.get(&format!("/query/headers?access_token={token}{wanted}"), &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header_all("cache-control")), (200, vec![expected]));
    }
    let answer = scene.get("/query/headers?cache-control=public", &[("authorization", &bearer)]).await;
    assert_eq!(answer.header("cache-control"), Some("private"), "wherever the token stood");
    let answer = scene.get(&format!("/query/status/404?access_token={token}"), &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (404, Some("private, no-cache")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_shows_its_token_among_its_subprotocols() {
    let scene = scene();
    let token = token(&scene);
    let entry = format!("{SUBPROTOCOL}{}", base64url(token.as_bytes()));
    let http = HttpClient::new();
    let url = scene.url("/socket/ws");
    // The app chooses among the others, and sees none but them.
    let both = [("sec-websocket-protocol", format!("{entry}, chat.v1"))];
    let lines: Vec<(&str, &str)> = both.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut socket = WebSocket::connect(&http, &url, &lines).await.unwrap_or_else(|answer| panic!("{}", answer.text()));
    assert!(socket.echo("hello").await);
    let seen = scene.upstream.last();
    assert_eq!(seen.header_all("sec-websocket-protocol"), ["chat.v1"]);
    assert_eq!(seen.header("x-forwarded-user").as_deref(), Some("program"));
    socket.close().await;
    // The token alone: a browser wants one of its subprotocols chosen, and there is no other.
    for (offered, chosen) in [(entry.clone(), entry.clone()), (format!("chat.v1,{entry}"), "chat.v1".to_owned())] {
        let request = Request::get(&url)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", offered)
            .header("origin", "https://elsewhere.test");
        let answer = http.open(request.body(empty()).expect("a request")).await.expect("an answer");
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["sec-websocket-protocol"], chosen.as_str());
        assert!(!scene.upstream.last().everything().contains(&entry));
    }
    scene.upstream.reset();
    let bad = format!("{SUBPROTOCOL}{}", base64url(scene.token(json!({ "aud": "x" })).as_bytes()));
    for (path, line, status, expected) in [
        ("/socket/ws", bad.as_str(), 401, "token-audience"),
        ("/socket/ws", &format!("{SUBPROTOCOL}%%%"), 400, "token-unreadable"),
        ("/socket/ws", &format!("{entry}, {entry}"), 400, "token-repeated"),
        ("/plain/ws", entry.as_str(), 401, "no-credential"),
    ] {
        let refusal = WebSocket::connect(&http, &scene.url(path), &[("sec-websocket-protocol", line)]).await.err();
        refused(&scene, &refusal.expect("it is refused"), status, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_auth_reads_the_query_of_the_request_that_it_is_asked_about() {
    let scene = scene();
    let token = token(&scene);
    let host = scene.host();
    let ask = async |endpoint: &str, uri: &str, more: &[(&str, &str)]| {
        let about = [("x-original-method", "GET"), ("x-original-uri", uri), ("x-forwarded-host", &host), ("x-forwarded-proto", "http")];
        let lines: Vec<(&str, &str)> = about.into_iter().chain(more.iter().copied()).collect();
        scene.get(endpoint, &lines).await
    };
    for endpoint in ["/oauth2/auth", "/oauth2/forward"] {
        for path in ["/asked", "/query"] {
            let answer = ask(endpoint, &format!("{path}?a=1&access_token={token}"), &[]).await;
            assert_eq!((answer.status.as_u16(), answer.header("x-auth-request-user")), (200, Some("program")), "{}", answer.text());
        }
        assert_eq!(ask(endpoint, "/asked", &[("x-token", &token)]).await.status, 200);
        for (uri, more, status, expected) in [
            ("/plain?access_token=TOKEN", &[][..], 401, "no-credential"),
            ("/asked?access_token=bad", &[], 401, "token-malformed"),
            ("/asked", &[("authorization", "Bearer TOKEN")], 401, "no-credential"),
            // What is 400 elsewhere is a bad credential here.
            ("/asked?access_token=TOKEN&access_token=TOKEN", &[], 401, "token-repeated"),
            ("/asked?access_token=TOKEN", &[("x-token", "TOKEN")], 401, "token-repeated"),
        ] {
            let more: Vec<(&str, String)> = more.iter().map(|(name, value)| (*name, value.replace("TOKEN", &token))).collect();
            let lines: Vec<(&str, &str)> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = ask(endpoint, &uri.replace("TOKEN", &token), &lines).await;
            assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (status, expected), "{uri}");
            assert!(!answer.text().contains(&token), "{}", answer.text());
        }
        // The endpoint's own query is no place for a token.
        let answer = ask(&format!("{endpoint}?access_token={token}"), "/asked", &[]).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (403, "parameter-invalid"));
    }
    assert!(!scene.gateway.access_lines().contains(&token));
}
