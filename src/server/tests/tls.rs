//! TLS with certificates made here.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::tls::{Look, ServerCertificate};
use super::super::tls_switch::server_config;
use super::*;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("doorward-tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).unwrap();
        folder
    }

    fn files(&self) -> CertificateFiles {
        CertificateFiles { certificate_file: self.0.join("tls.crt"), key_file: self.0.join("tls.key") }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// TLS with this certificate alone, which asks nobody for theirs.
fn showing(certificate: &Arc<ServerCertificate>) -> Arc<rustls::ServerConfig> {
    server_config(vec![Arc::clone(certificate)], None, TlsVersion::Tls12).unwrap()
}

/// Writes a new certificate for `localhost`; the certificate itself.
fn issue(at: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(at.join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(at.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

async fn handshake(address: SocketAddr, trusted: &CertificateDer<'static>, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

async fn get(mut stream: TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET /transport HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_decides_between_http2_and_http1() {
    let folder = Folder::new();
    let trusted = issue(&folder.0);
    let (certificate, _) = ServerCertificate::load(folder.files()).unwrap();
    let server = TestServer::start_with(limits(), 2, Some(showing(&certificate)));
    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let text = get(handshake(server.address, &trusted, alpn).await.unwrap()).await;
        assert!(text.ends_with("Tls HTTP/1.1 127.0.0.1"), "{text}");
    }
    let stream = handshake(server.address, &trusted, &[b"h2", b"http/1.1"]).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    Tasks::new(Handle::current()).background(async { drop(connection.await) });
    let response = sender.send_request(request("/transport")).await.unwrap();
    assert_eq!(text(response).await, "Tls HTTP/2.0 127.0.0.1");
    assert!(handshake(server.address, &trusted, &[b"spdy/3"]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_swapped_on_disk_is_served_without_a_restart() {
    let folder = Folder::new();
    let first = issue(&folder.0);
    let (certificate, mut watch) = ServerCertificate::load(folder.files()).unwrap();
    let server = TestServer::start_with(limits(), 1, Some(showing(&certificate)));
    let open = handshake(server.address, &first, &[]).await.unwrap();
    assert_eq!(watch.look(), Look::Same);

    let second = issue(&folder.0);
    assert_eq!(watch.look(), Look::Exchanged);
    assert!(handshake(server.address, &first, &[]).await.is_err());
    assert!(get(handshake(server.address, &second, &[]).await.unwrap()).await.contains("200 OK"));
    assert!(get(open).await.contains("200 OK"), "connections that are open go on");

    // A key that does not fit, then a half-written file, then none at all: the certificate stays.
    for spoil in [
        |at: &Path| fs::write(at, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap(),
        |at: &Path| fs::write(at, "-----BEGIN PRI").unwrap(),
        |at: &Path| {
            fs::remove_file(at).unwrap();
        },
    ] {
        spoil(&folder.0.join("tls.key"));
        for _ in 0..3 {
            assert_eq!(watch.look(), Look::Refused);
        }
        assert!(handshake(server.address, &second, &[]).await.is_ok());
    }
    let third = issue(&folder.0);
    assert_eq!(watch.look(), Look::Exchanged);
    assert!(handshake(server.address, &third, &[]).await.is_ok());
}

fn loaded(folder: &Folder) -> ServerTls {
    let settings = TlsSettings { certificates: vec![folder.files()], client_ca_file: None, min_version: TlsVersion::Tls12 };
    ServerTls::load(settings).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_into_the_switch_counts_for_new_connections_and_ends_the_watch_before() {
    let (one, two) = (Folder::new(), Folder::new());
    let [first, second] = [&one, &two].map(|folder| issue(&folder.0));
    let switch = TlsSwitch::new(None);
    let server = TestServer::start_as(limits(), 1, Listener::bind("127.0.0.1:0".parse().unwrap(), switch.clone()).unwrap());
    assert!(server.get("/transport").await.ends_with("Plain HTTP/1.1 127.0.0.1"));
    let before = loaded(&one).keep_in(&switch);
    let open = handshake(server.address, &first, &[]).await.unwrap();
    Tasks::new(Handle::current()).background(loaded(&two).keep_in(&switch));
    assert!(handshake(server.address, &first, &[]).await.is_err());
    assert!(handshake(server.address, &second, &[]).await.is_ok());
    assert!(get(open).await.contains("Tls HTTP/1.1"), "connections that are open go on");
    within(before).await;
    assert!(handshake(server.address, &second, &[]).await.is_ok(), "and it has changed nothing any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_kubernetes_swaps_are_followed() {
    let folder = Folder::new();
    for name in ["one", "two"] {
        fs::create_dir(folder.0.join(name)).unwrap();
    }
    issue(&folder.0.join("one"));
    let second = issue(&folder.0.join("two"));
    symlink("one", folder.0.join("..data")).unwrap();
    for file in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{file}"), folder.0.join(file)).unwrap();
    }
    let tls = loaded(&folder);
    let server = TestServer::start_with(limits(), 1, Some(Arc::clone(tls.config())));
    Tasks::new(Handle::current()).background(tls.keep_in(&TlsSwitch::new(None)));
    symlink("two", folder.0.join("..data_tmp")).unwrap();
    fs::rename(folder.0.join("..data_tmp"), folder.0.join("..data")).unwrap();
    within(async {
        while handshake(server.address, &second, &[]).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_go_on_is_cut() {
    let folder = Folder::new();
    issue(&folder.0);
    let (certificate, _) = ServerCertificate::load(folder.files()).unwrap();
    let limits = ConnectionLimits { tls_handshake_timeout: Duration::from_millis(200), ..limits() };
    let server = TestServer::start_with(limits, 1, Some(showing(&certificate)));
    for opening in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(opening).await.unwrap();
        closed_after(&mut stream).await;
    }
    eventually(|| server.counted("doorward_connections_cut_total{cause=\"handshake\"} 3")).await;
    assert_eq!(server.seen(), 0);
}

#[test]
fn a_file_that_is_wrong_is_named_with_what_was_expected() {
    let folder = Folder::new();
    let files = folder.files();
    let error = || ServerCertificate::load(folder.files()).err().unwrap().to_string();
    assert!(error().contains("tls.crt") && error().contains("cannot be read"), "{}", error());
    issue(&folder.0);
    let (certificate, key) = (fs::read(&files.certificate_file).unwrap(), fs::read(&files.key_file).unwrap());
    fs::write(&files.certificate_file, &key).unwrap();
    assert!(error().contains("tls.crt: no certificate in it; expected: PEM blocks `CERTIFICATE`"), "{}", error());
    fs::write(&files.certificate_file, &certificate).unwrap();
    fs::write(&files.key_file, &certificate).unwrap();
    assert!(error().contains("tls.key: no such block in it; expected: one PEM block `PRIVATE KEY`"), "{}", error());
    fs::write(&files.key_file, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(error().contains("tls.key: it is not the certificate's key"), "{}", error());
    fs::write(&files.key_file, "-----BEGIN PRIVATE KEY-----\nhunter2 hunter2!\n-----END PRIVATE KEY-----\n").unwrap();
    assert!(error().contains("tls.key: ") && !error().contains("hunter2"), "{}", error());
    fs::write(&files.key_file, key).unwrap();
    fs::set_permissions(&files.key_file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(ServerCertificate::load(folder.files()).is_ok(), "warned of, not refused");
}
