//! A whole gateway that is sent whatever bytes there are: on the wire, through its parser, to a route.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use doorward::app::{App, Options};
use doorward::clock::SystemClock;
use doorward::config::{self, Sources};

/// A public route, one for those who sign in, one that asks for tokens or a password, and forward-auth from whoever connects.
const CONFIG: &str = r#"
public_url = "http://127.0.0.1:4180"
listen = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1"]
admin = { listen = "127.0.0.1:0" }
store = { kind = "memory" }

[provider]
issuer = "http://127.0.0.1:9"
client_id = "app"
client_secret = "not-a-secret-at-all"

[[token_issuer]]
issuer = "http://127.0.0.1:9"
audience = ["orders"]

[[user]]
name = "ann"
password = "$2b$04$1IZ4c0mZ0vFJ0cB6v7zUbeZk1n1o7n6yq2v8Cz0zq2Y0b0XgW1o7y"

[[route]]
id = "public"
path = "/public/"
access = "public"
upstream = "static:202"

[[route]]
id = "protected"
upstream = "static:204"
accept = ["session", "bearer", "basic"]
allow = "any-authenticated"
"#;

/// Where it listens; it runs for as long as this process does.
static GATEWAY: LazyLock<SocketAddr> = LazyLock::new(|| {
    let file = std::env::temp_dir().join(format!("doorward-fuzz-{}.toml", std::process::id()));
    std::fs::write(&file, CONFIG).expect("a config");
    let config = config::load(&Sources { file: Some(&file), environment: BTreeMap::new(), flags: Vec::new() });
    let config = config.unwrap_or_else(|problems| panic!("{problems:?}"));
    let options = Options { access_lines: Box::new(std::io::sink()), cores: 1, level: None };
    let app = App::start_with(config, Arc::new(SystemClock), options).expect("it starts");
    Box::leak(Box::new(app)).address()
});

/// Nobody gets through who is nobody, nothing panics, and what is answered is HTTP.
pub fn whole(data: &[u8]) {
    let mut stream = TcpStream::connect(*GATEWAY).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let _ = stream.write_all(data);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    // HTTP/2 begins with a SETTINGS frame: type 4.
    assert!(answer.is_empty() || text.starts_with("HTTP/1.") || answer.get(3) == Some(&4), "{text}");
    for status in text.split("HTTP/1.").skip(1).filter_map(|answer| answer.get(2..5)) {
        assert!(!matches!(status, "204" | "500"), "{text}");
    }
}
