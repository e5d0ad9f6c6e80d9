use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::*;
use crate::clock::{Clock as _, SystemClock};

/// A peer that answers every connection's first request with these bytes, then ends it, or goes on sending without end.
#[derive(Clone, Copy)]
enum Peer {
    Says(&'static str),
    SaysForever(&'static str),
    Silent,
}

struct Server {
    address: SocketAddr,
    requests: Arc<std::sync::Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(peer: Peer, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(std::sync::Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let tasks = Tasks::new(Handle::current());
        let (seen, count, spawn) = (Arc::clone(&requests), Arc::clone(&connections), tasks.clone());
        tasks.background(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (seen, tls) = (Arc::clone(&seen), tls.clone());
                spawn.background(async move {
                    match tls {
                        None => converse(stream, peer, &seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                                converse(stream, peer, &seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, requests, connections }
    }

    fn url(&self, rest: &str) -> Url {
        Url::parse(&format!("http://{}{rest}", self.address)).unwrap()
    }

    fn request(&self) -> String {
        self.requests.lock().unwrap()[0].clone()
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer, seen: &std::sync::Mutex<Vec<String>>) {
    let mut request = vec![0; 4096];
    let read = stream.read(&mut request).await.unwrap_or(0);
    seen.lock().unwrap().push(String::from_utf8_lossy(&request[..read]).into_owned());
    match peer {
        Peer::Says(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Peer::SaysForever(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let rubbish = [b'x'; 4096];
            while stream.write_all(&rubbish).await.is_ok() {}
        }
        Peer::Silent => tokio::time::sleep(Duration::from_secs(60)).await,
    }
}

fn settings() -> HttpSettings {
    HttpSettings {
        connect_timeout: Duration::from_secs(2),
        deadline: Duration::from_secs(5),
        max_bytes: 64 * 1024,
        tls: TlsSettings::default(),
        proxy: None,
    }
}

fn http_with(settings: HttpSettings) -> Http {
    Http::new(settings, Tasks::new(Handle::current()))
}

async fn failure(peer: Peer) -> HttpError {
    let server = Server::start(peer, None).await;
    http_with(settings()).get_json(&server.url("/keys?secret=s3cret"), Some(&Secret::new("t0ken"))).await.unwrap_err()
}

#[tokio::test]
async fn a_json_document_is_fetched_with_the_bearer() {
    let server =
        Server::start(Peer::Says("HTTP/1.1 200 OK\r\ncontent-length: 8\r\ncache-control: max-age=5\r\n\r\n{\"a\": 1}"), None).await;
    let http = http_with(settings());
    let json = http.get_json(&server.url("/doc?x=1"), Some(&Secret::new("t0ken"))).await.unwrap();
    assert_eq!(json, serde_json::json!({"a": 1}));
    let request = server.request().to_ascii_lowercase();
    assert!(request.starts_with("get /doc?x=1 http/1.1\r\n"), "{request}");
    for line in ["authorization: bearer t0ken", "accept: application/json", "user-agent: doorward"] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
    }
}

#[tokio::test]
async fn a_post_goes_out_as_it_is_and_its_status_comes_back() {
    let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 25\r\n\r\n{\"error\":\"invalid_grant\"}";
    let server = Server::start(Peer::Says(answer), None).await;
    let request = Request::post(server.url("/token").as_str()).body(b"grant_type=authorization_code".to_vec()).unwrap();
    let http = http_with(settings());
    let response = http.send(request).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.body(), br#"{"error":"invalid_grant"}"#);
    let request = server.request();
    assert!(request.starts_with("POST /token HTTP/1.1\r\n") && request.ends_with("\r\n\r\ngrant_type=authorization_code"), "{request}");
}

#[tokio::test]
async fn a_redirect_is_an_error_and_is_not_followed() {
    let elsewhere = Server::start(Peer::Says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), None).await;
    for status in [301, 302, 303, 307, 308] {
        let head = format!("HTTP/1.1 {status} Away\r\nLocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url("/"));
        let server = Server::start(Peer::Says(head.leak()), None).await;
        let http = http_with(settings());
        assert_eq!(http.get_json(&server.url("/"), None).await.unwrap_err().failure, HttpFailure::Redirect);
        let request = Request::post(server.url("/token").as_str()).body(Vec::new()).unwrap();
        assert_eq!(http.send(request).await.unwrap_err().failure, HttpFailure::Redirect);
    }
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn huge_and_endless_answers_end_at_the_limit() {
    for head in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffff\r\n",
    ] {
        assert_eq!(failure(Peer::SaysForever(head)).await.failure, HttpFailure::TooLarge, "{head}");
    }
    let endless_head = failure(Peer::SaysForever("HTTP/1.1 200 OK\r\nx-long: ")).await;
    assert_eq!(endless_head.failure, HttpFailure::Unreachable, "{endless_head}");
}

#[tokio::test]
async fn a_silent_peer_ends_at_the_deadline() {
    for peer in [Peer::Silent, Peer::Says("")] {
        let server = Server::start(peer, None).await;
        let http = http_with(HttpSettings { deadline: Duration::from_millis(100), ..settings() });
        let began = SystemClock.instant();
        let error = http.get_json(&server.url("/"), None).await.unwrap_err();
        let expected = if matches!(peer, Peer::Silent) { HttpFailure::Timeout } else { HttpFailure::Unreachable };
        assert_eq!(error.failure, expected, "{error}");
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn what_is_no_success_or_no_json_is_an_error() {
    for (answer, expected) in [
        ("HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}", HttpFailure::Status(StatusCode::INTERNAL_SERVER_ERROR)),
        ("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", HttpFailure::Status(StatusCode::NOT_FOUND)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n<p>s3cret</p>", HttpFailure::NotJson),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", HttpFailure::NotJson),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}", HttpFailure::Unreachable),
        ("SSH-2.0-OpenSSH_9.2\r\n", HttpFailure::Unreachable),
    ] {
        let error = failure(Peer::Says(answer)).await;
        assert_eq!(error.failure, expected, "{answer}");
        let said = format!("{error} {error:?}");
        assert!(!said.contains("s3cret") && !said.contains("t0ken"), "{said}");
        assert!(error.to_string().starts_with("http://127.0.0.1:") && error.at.ends_with("/keys"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable_without_naming_credentials() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = Url::parse(&format!("http://user:pa55@{free}/x?code=c0de")).unwrap();
    let error = http_with(settings()).get_json(&url, None).await.unwrap_err();
    assert_eq!(error.failure, HttpFailure::Unreachable);
    assert_eq!(error.at, format!("http://{free}/x"));
    let said = format!("{error} {error:?}");
    assert!(!said.contains("pa55") && !said.contains("c0de"), "{said}");
    for uri in ["/relative", "ftp://h/x", "localhost:80"] {
        let request = Request::get(uri).body(Vec::new()).unwrap();
        let error = http_with(settings()).send(request).await.unwrap_err();
        assert_eq!(error.failure, HttpFailure::Address, "{error}");
    }
    let error = http_with(settings()).get_json(&Url::parse("file:///etc/passwd").unwrap(), None).await.unwrap_err();
    assert_eq!(error.to_string(), "file:///etc/passwd: not an http or https address with a host");
}

#[tokio::test]
async fn tls_trusts_the_config_s_roots_and_nobody_else() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let server = Server::start(Peer::Says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), Some(Arc::new(tls))).await;
    let url = Url::parse(&format!("https://localhost:{}/", server.address.port())).unwrap();

    let folder = std::env::temp_dir().join(format!("doorward-roots-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (good, empty) = (folder.join("good.pem"), folder.join("empty.pem"));
    std::fs::write(&good, made.cert.pem()).unwrap();
    std::fs::write(&empty, "nothing").unwrap();

    let trusting =
        |ca_file: Option<PathBuf>| http_with(HttpSettings { tls: TlsSettings { ca_file, ..TlsSettings::default() }, ..settings() });
    assert!(trusting(Some(good.clone())).get_json(&url, None).await.is_ok());
    for (roots, said) in [(None, ""), (Some(empty), "holds no certificate"), (Some(folder.join("absent.pem")), "absent.pem")] {
        let error = trusting(roots).get_json(&url, None).await.unwrap_err();
        assert_eq!(error.failure, HttpFailure::Unreachable);
        assert!(error.to_string().contains(said), "{error}");
    }

    // The name in the certificate counts.
    let by_address = Url::parse(&format!("https://127.0.0.1:{}/", server.address.port())).unwrap();
    assert!(trusting(Some(good.clone())).get_json(&by_address, None).await.is_err());

    // A file put right is seen at the next call.
    let late = folder.join("late.pem");
    let http = trusting(Some(late.clone()));
    assert!(http.get_json(&url, None).await.is_err());
    std::fs::copy(good, late).unwrap();
    assert!(http.get_json(&url, None).await.is_ok());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_call_runs_on_the_control_runtime_though_a_thread_without_io_awaits_it() {
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = control.block_on(Server::start(Peer::Says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), None));
    let http = Http::new(settings(), Tasks::new(control.handle().clone()));
    let bare = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(bare.block_on(http.get_json(&server.url("/"), None)).is_ok());
}
