//! A DNS server of a few lines: it answers what a test says, with the TTL that it says, over UDP (RFC 1035).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

use super::background::Running;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// It answers until the value is dropped.
pub struct Dns {
    address: SocketAddr,
    zone: Arc<Zone>,
    _running: Running,
}

#[derive(Default)]
struct Zone {
    /// Addresses and TTL by name; a name that is not there does not exist.
    names: Mutex<HashMap<String, (Vec<IpAddr>, u32)>>,
    asked: AtomicUsize,
    /// Whether it answers nothing but failures.
    fails: std::sync::atomic::AtomicBool,
}

impl Dns {
    /// On a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a UDP port");
        let address = socket.local_addr().expect("a socket has an address");
        let zone = Arc::new(Zone::default());
        let answering = Arc::clone(&zone);
        let running = Running::start(async move {
            let mut query = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                if let Some(answer) = answering.answer(&query[..length]) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { address, zone, _running: running }
    }

    /// For `dns_servers`.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `name` leads to these.
    pub fn say(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        self.zone.names.lock().unwrap().insert(name.to_owned(), (addresses, ttl));
    }

    /// Whether every question is answered with SERVFAIL.
    pub fn fail(&self, fails: bool) {
        self.zone.fails.store(fails, Ordering::SeqCst);
    }

    /// How many questions came.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.zone.asked.load(Ordering::SeqCst)
    }
}

impl Zone {
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (mut name, mut at) = (String::new(), 12);
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(&String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
            at += length;
        }
        let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
        // With the question as it came: who asks may mix capitals into it and look for them.
        let question = query.get(12..at + 4)?;
        let known = self.names.lock().unwrap().get(&name).cloned();
        let code = if self.fails.load(Ordering::SeqCst) {
            2
        } else if known.is_some() {
            0
        } else {
            3
        };
        let (addresses, ttl) = known.filter(|_| code == 0).unwrap_or_default();
        let fits = |address: &&IpAddr| (kind == TYPE_A && address.is_ipv4()) || (kind == TYPE_AAAA && address.is_ipv6());
        let addresses: Vec<&IpAddr> = addresses.iter().filter(fits).collect();
        let mut answer = query.get(..2)?.to_vec();
        // A response, recursion desired and available.
        answer.extend([0x81, 0x80 | code, 0, 1]);
        answer.extend(u16::try_from(addresses.len()).ok()?.to_be_bytes());
        answer.extend([0; 4]);
        answer.extend(question);
        for address in addresses {
            // The name of the question, of that type, of the Internet.
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(ttl.to_be_bytes());
            let bytes = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            answer.extend(u16::try_from(bytes.len()).ok()?.to_be_bytes());
            answer.extend(bytes);
        }
        Some(answer)
    }
}
