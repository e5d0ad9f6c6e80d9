//! What bearer tokens cost: `cargo bench --bench tokens`.
//!
//! One gateway in this process, on one core of its own, before an upstream of a few lines. Counted is the CPU time of the gateway's threads
//! alone, as the kernel tells it, a request; each figure is the median of ratios between neighbouring rounds of one run, so that a machine that is
//! slow for a while is slow for both sides.
//!
//! - a repeated JWT against a public route: at most 1.1; once against one that is asked without a token, and once against one that is asked with the
//!   very same bytes, where the token is the app's own and goes on to the upstream
//! - what the first sight of a JWT costs beyond a public route, against its bare verification alone: at most 2

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement: it fails loudly, and tells what it found"
)]

mod signer;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use doorward::app::{App, Options};
use doorward::clock::{Clock, SystemClock};
use doorward::config::{self, Sources};

use signer::{ISSUER, Key, parts};

/// Connections, each with one request under way.
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 15;
/// Requests a round.
const REQUESTS: usize = 16_000;
/// Tokens seen for the first time a round. They have to be signed first, which costs many times their verification.
const FRESH: usize = 1_600;

fn main() {
    let keys = [Key::rs256(), Key::es256()];
    let gateway = Gateway::start(&keys);
    let public = request("/public", None);
    let token = keys[0].token(0, SystemClock.now().0);
    let repeated = request("/api", Some(&token));
    let same = request("/public", Some(&token));
    let mut load = Load::new(gateway.address);
    // For a profiler: one kind of request and nothing else.
    let only = std::env::args().skip(1).find_map(|name| match name.as_str() {
        "public" => Some(&public),
        "same" => Some(&same),
        "repeated" => Some(&repeated),
        _ => None,
    });
    for _ in 0..2 {
        for request in [&public, &same, &repeated] {
            load.run(std::iter::repeat_n(only.unwrap_or(request), REQUESTS), 200);
        }
    }
    if let Some(only) = only {
        let costs = (0..ROUNDS).map(|_| load.run(std::iter::repeat_n(only, REQUESTS), 200)).collect();
        return println!("{:.2} us CPU a request", median(costs));
    }

    let [mut publics, mut sames, mut repeats, mut to_public, mut to_same] = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        let public = load.run(std::iter::repeat_n(&public, REQUESTS), 200);
        let repeated = load.run(std::iter::repeat_n(&repeated, REQUESTS), 200);
        let same = load.run(std::iter::repeat_n(&same, REQUESTS), 200);
        publics.push(public);
        sames.push(same);
        repeats.push(repeated);
        to_public.push(repeated / public);
        to_same.push(repeated / same);
    }
    println!("public route             {:7.2} us CPU a request", median(publics));
    println!("public route, same bytes {:7.2} us CPU a request", median(sames));
    println!(
        "repeated JWT             {:7.2} us CPU a request: {:.3} x a public route, {:.3} x one asked with the same bytes (at most 1.1)",
        median(repeats),
        median(to_public),
        median(to_same)
    );

    for (number, key) in keys.iter().enumerate() {
        let (mut ratios, mut first, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let tokens: Vec<String> =
                (0..FRESH).map(|n| key.token(1 + (number * ROUNDS + round) * FRESH + n, SystemClock.now().0)).collect();
            let requests: Vec<Vec<u8>> = tokens.iter().map(|token| request("/api", Some(token))).collect();
            let alone = alone(key, &tokens);
            let before = load.run(std::iter::repeat_n(&public, FRESH), 200);
            let seen = load.run(requests.iter(), 200);
            let after = load.run(std::iter::repeat_n(&public, FRESH), 200);
            let beyond = seen - f64::midpoint(before, after);
            ratios.push(beyond / alone);
            first.push(beyond);
            bare.push(alone);
        }
        println!(
            "{} first sight {:7.2} us CPU beyond a public route, bare verification {:.2} us, {:.3} x (at most 2)",
            key.algorithm,
            median(first),
            median(bare),
            median(ratios)
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of this process's threads whose name begins so, in nanoseconds: the first number of their `schedstat` (proc(5)).
fn cpu_of(name: &str) -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux's /proc");
    let cpu = threads.filter_map(|thread| {
        let folder = thread.ok()?.path();
        std::fs::read_to_string(folder.join("comm")).ok().filter(|comm| comm.starts_with(name))?;
        std::fs::read_to_string(folder.join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok()
    });
    cpu.sum()
}

fn own_cpu() -> u64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux's /proc");
    told.split(' ').next().expect("three numbers").parse().expect("a number")
}

/// What the signatures of these tokens cost alone, in microseconds of CPU each.
fn alone(key: &Key, tokens: &[String]) -> f64 {
    let ready: Vec<(&str, Vec<u8>)> = tokens.iter().map(|token| parts(token)).collect();
    let began = own_cpu();
    for one in &ready {
        key.check(one);
    }
    (own_cpu() - began) as f64 / 1000.0 / tokens.len() as f64
}

struct Gateway {
    address: SocketAddr,
    _app: App,
    folder: std::path::PathBuf,
}

impl Gateway {
    fn start(keys: &[Key]) -> Self {
        let folder = std::env::temp_dir().join(format!("doorward-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let jwks = folder.join("jwks.json");
        std::fs::write(&jwks, Key::set(keys)).unwrap();
        let upstream = upstream();
        let text = format!(
            "public_url = \"http://127.0.0.1:1\"\nlisten = \"127.0.0.1:0\"\nstore.kind = \"memory\"\nadmin.listen = \"127.0.0.1:0\"\n\
             [[token_issuer]]\nissuer = \"{ISSUER}\"\naudience = \"https://api.bench.test\"\njwks_file = \"{}\"\nemail_claim = \"email\"\n\
             groups_claim = \"groups\"\n\
             [[route]]\nid = \"public\"\npath = \"/public\"\nupstream = \"http://{upstream}\"\naccess = \"public\"\n\
             [[route]]\nid = \"api\"\npath = \"/api\"\nupstream = \"http://{upstream}\"\naccept = [\"bearer\"]\n\
             allow = {{ scopes = [\"orders:read\"] }}\n",
            jwks.display()
        );
        let file = folder.join("config.toml");
        std::fs::write(&file, text).unwrap();
        let config = config::load(&Sources { file: Some(&file), environment: BTreeMap::new(), flags: Vec::new() })
            .unwrap_or_else(|problems| panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")));
        let options = Options { access_lines: Box::new(std::io::sink()), cores: 1, level: None };
        let app = App::start_with(config, Arc::new(SystemClock), options).unwrap();
        Self { address: app.address(), _app: app, folder }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Answers every request with the same few bytes.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 16 * 1024];
                let mut length = 0;
                while let Ok(read) = stream.read(&mut buffer[length..]) {
                    length += read;
                    if read == 0 {
                        return;
                    }
                    if buffer[..length].ends_with(b"\r\n\r\n") {
                        length = 0;
                        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok").is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// As programs send it.
fn request(path: &str, token: Option<&str>) -> Vec<u8> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:1\r\nUser-Agent: bench/1\r\nAccept: application/json\r\n{authorization}\r\n")
        .into_bytes()
}

struct Load {
    connections: Vec<TcpStream>,
}

impl Load {
    fn new(address: SocketAddr) -> Self {
        let connect = |_| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        Self { connections: (0..CONNECTIONS).map(connect).collect() }
    }

    /// Sends them all and returns what each cost the gateway, in microseconds of CPU.
    fn run<'a>(&mut self, requests: impl ExactSizeIterator<Item = &'a Vec<u8>>, status: u16) -> f64 {
        let count = requests.len();
        let expected = format!("HTTP/1.1 {status} ");
        let began = cpu_of("doorward");
        let mut requests = requests.peekable();
        let mut buffer = [0; 16 * 1024];
        while requests.peek().is_some() {
            let mut busy = 0;
            for connection in &mut self.connections {
                let Some(request) = requests.next() else { break };
                connection.write_all(request).unwrap();
                busy += 1;
            }
            for connection in self.connections.iter_mut().take(busy) {
                let mut length = 0;
                while !buffer[..length].ends_with(b"\r\n\r\nok") {
                    let read = connection.read(&mut buffer[length..]).unwrap();
                    assert!(read > 0, "the gateway hung up after {}", String::from_utf8_lossy(&buffer[..length]));
                    length += read;
                    assert!(length < 9 || buffer.starts_with(expected.as_bytes()), "{}", String::from_utf8_lossy(&buffer[..length]));
                }
            }
        }
        (cpu_of("doorward") - began) as f64 / 1000.0 / count as f64
    }
}
