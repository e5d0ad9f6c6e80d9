//! How often a request allocates in the gateway, held.
//!
//! A binary of its own, whose tests take turns: every allocation of the process is counted. Client and upstream allocate nothing while they
//! speak, and the gateway has its connections and knows session and token by then, so what is counted is what each further request takes. A
//! block that grows counts again. `sessions` holds what a session takes that is cached.
//!
//! `ALLOCATION_SITES=session cargo test --test allocations` writes `dhat-heap.json` for one kind of request, with the places that allocate, for
//! DHAT's viewer; `ALLOCATION_SITES=cached` for cached sessions (<https://nnethercote.github.io/dh_view/dh_view.html>).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "test code fails loudly"
)]

#[allow(unused_imports, reason = "more than this one test needs")]
#[path = "../it/harness/mod.rs"]
mod harness;
mod sessions;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use harness::scene::Scene;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Who counts is alone.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Requests that are not counted: they fill caches and pools.
const WARM_UP: usize = 200;
const COUNTED: usize = 1_000;
/// By how many blocks a request may take fewer than is written here. Beyond that the number is to be lowered, so that it cannot creep back.
const SLACK: u64 = 2;

/// A kind of request, and what one may take.
struct Held {
    name: &'static str,
    request: Vec<u8>,
    blocks: u64,
    /// All blocks together. Most of it is the buffers that hyper reads into and the request's future.
    bytes: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_allocates_no_more_than_it_did() {
    let _alone = ALONE.lock().await;
    let upstream = upstream();
    let route = |id: &str, rest: &str| format!("[[route]]\nid = \"{id}\"\npath = \"/{id}/\"\nupstream = \"http://{upstream}\"\n{rest}\n");
    let routes = [
        route("public", "access = \"public\""),
        route("app", "allow = { groups = [\"staff\"] }"),
        route("api", "accept = [\"bearer\"]\nallow = { groups = [\"staff\"] }"),
    ];
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]", &routes.concat());
    scene.provider.set_user(json!({ "sub": "ann", "email": "ann@example.test", "email_verified": true, "groups": ["staff", "orders"] }));
    let host = scene.host();
    let request = |path: &str, lines: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{CHROME}{lines}\r\n").into_bytes();
    let session = format!("Cookie: theme=dark; {}; _ga=GA1.1.1234567890.1700000000\r\n", scene.session().await);
    let bearer = format!("Authorization: Bearer {}\r\n", scene.token(json!({ "groups": ["staff"] })));
    let question = format!(
        "X-Original-Method: GET\r\nX-Original-URI: /app/dashboard?tab=2\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-Proto: http\r\n{session}"
    );
    let held = [
        Held { name: "public", request: request("/public/dashboard?tab=2", ""), blocks: 22, bytes: 24_000 },
        Held { name: "session", request: request("/app/dashboard?tab=2", &session), blocks: 29, bytes: 25_000 },
        Held { name: "bearer", request: request("/api/dashboard?tab=2", &bearer), blocks: 26, bytes: 24_000 },
        Held { name: "forward-auth", request: request("/oauth2/auth", &question), blocks: 32, bytes: 19_000 },
    ];
    let mut client = Client::new(scene.gateway.address);
    let (mut told, mut kept) = (String::new(), true);
    for Held { name, request, blocks: most, bytes: most_bytes } in &held {
        let (blocks, bytes) = counted(name, &mut client, request);
        let verdict = if blocks > *most || bytes > *most_bytes {
            "more than"
        } else if blocks + SLACK < *most {
            "fewer, so lower what is held:"
        } else {
            "as is held:"
        };
        kept &= verdict.starts_with("as");
        writeln!(told, "{name}: {blocks} blocks and {bytes} bytes a request, {verdict} {most} blocks, {most_bytes} bytes").unwrap();
    }
    println!("{told}");
    assert!(kept, "\n{told}");
}

/// Blocks and bytes that one such request takes.
fn counted(name: &str, client: &mut Client, request: &[u8]) -> (u64, u64) {
    client.send(request, WARM_UP);
    let builder = dhat::Profiler::builder();
    let sites = std::env::var("ALLOCATION_SITES").is_ok_and(|wanted| wanted == name);
    let _profiler = if sites { builder.trim_backtraces(None).build() } else { builder.testing().build() };
    client.send(request, COUNTED);
    let taken = dhat::HeapStats::get();
    // The little that goes on beside requests is rounded off.
    (taken.total_blocks / COUNTED as u64, taken.total_bytes / COUNTED as u64)
}

/// What Chrome sends with a click.
const CHROME: &str = "Connection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Referer: http://127.0.0.1/\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Accept-Language: en-US,en;q=0.9\r\n";

/// One connection that is kept.
struct Client {
    stream: TcpStream,
    buffer: Box<[u8; 16 * 1024]>,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Box::new([0; 16 * 1024]) }
    }

    /// One after the other. Each is answered 200.
    fn send(&mut self, request: &[u8], count: usize) {
        for _ in 0..count {
            self.stream.write_all(request).unwrap();
            let mut length = 0;
            while !is_whole(&self.buffer[..length]) {
                let read = self.stream.read(&mut self.buffer[length..]).unwrap();
                assert!(read > 0, "the gateway hung up after {}", String::from_utf8_lossy(&self.buffer[..length]));
                length += read;
            }
            assert!(self.buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&self.buffer[..length]));
        }
    }
}

/// Answers end with the upstream's body, or have none.
fn is_whole(answer: &[u8]) -> bool {
    answer.ends_with(b"</html>") || (answer.ends_with(b"\r\n\r\n") && answer.windows(19).any(|line| line == b"content-length: 0\r\n"))
}

/// Answers every request with the same page.
fn upstream() -> SocketAddr {
    const PAGE: &[u8] =
        b"HTTP/1.1 200 OK\r\ndate: Sun, 01 Nov 2026 12:00:00 GMT\r\nserver: nginx\r\ncontent-type: text/html; charset=utf-8\r\n\
        cache-control: no-store\r\netag: \"5f3c\"\r\ncontent-length: 20\r\n\r\n<html>hello!!</html>";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 16 * 1024];
                let mut length = 0;
                while let Ok(read @ 1..) = stream.read(&mut buffer[length..]) {
                    length += read;
                    if buffer[..length].ends_with(b"\r\n\r\n") {
                        length = 0;
                        if stream.write_all(PAGE).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}
