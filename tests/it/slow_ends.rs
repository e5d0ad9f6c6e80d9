//! Bodies of 100 MB through a gateway in a process of its own, with ends that read or do not: what it holds of them is told by its memory.
#![allow(clippy::disallowed_methods, reason = "what is sent and what is read run side by side")]

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::time::timeout;

use crate::harness::body::{BodySender, streamed};
use crate::harness::gateway::GatewayProcess;
use crate::harness::http::{HttpClient, OpenAnswer, Protocol, get};
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, free_port};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];
const ALL: usize = 100_000_000;
const PIECE: usize = 64 << 10;
/// What a body may cost the gateway while it passes or waits: buffers of both sides, and what the allocator keeps of them.
const HELD: u64 = 1 << 20;

struct Rig {
    gateway: GatewayProcess,
    upstream: EchoUpstream,
}

impl Rig {
    /// HTTP/1.1 to the upstream at `/one/`, HTTP/2 at `/two/`. What a first body of each kind makes once and for all is there already.
    async fn start() -> Self {
        let upstream = EchoUpstream::start();
        let config = format!(
            "public_url = \"http://127.0.0.1:@PORT@\"\n\
             [[route]]\npath = \"/one/\"\naccess = \"public\"\nupstream = \"{}\"\n\
             [[route]]\npath = \"/two/\"\naccess = \"public\"\nupstream = \"h2c://{}\"\n",
            upstream.url(),
            upstream.address()
        );
        let rig = Self { gateway: GatewayProcess::start_on(free_port(), &config).await, upstream };
        for protocol in BOTH {
            for to in ["one", "two"] {
                rig.upload(protocol, to, 8 << 20).await;
                let answer = HttpClient::new().speaking(protocol).get(&rig.url(to, "big?bytes=8000000")).await;
                assert_eq!(answer.body.len(), 8_000_000);
            }
        }
        rig
    }

    fn url(&self, to: &str, rest: &str) -> String {
        format!("{}/{to}/{rest}", self.gateway.url)
    }

    /// The resident memory of the gateway in bytes: now, and the most there ever was since the last [`Rig::forget_peak`].
    fn resident(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.gateway.process.pid())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.gateway.process.pid()), "5").unwrap();
    }

    async fn upload(&self, protocol: Protocol, to: &str, bytes: usize) -> u64 {
        let (sender, body) = streamed();
        let request = Request::post(self.url(to, "sink")).body(body).unwrap();
        let answer = tokio::spawn(async move { HttpClient::new().speaking(protocol).fetch(request).await });
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(PIECE);
            assert!(sender.send(Bytes::from_static(&[7; PIECE]).slice(..piece)).await);
            left -= piece;
        }
        drop(sender);
        let answer = answer.await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text()), (200, bytes.to_string()), "{protocol:?} {to}");
        bytes as u64
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_100_megabytes_passes_and_is_never_held() {
    let rig = Rig::start().await;
    for protocol in BOTH {
        for to in ["one", "two"] {
            rig.forget_peak();
            let (before, _) = rig.resident();
            rig.upload(protocol, to, ALL).await;
            let grown = rig.resident().1.saturating_sub(before);
            println!("{protocol:?} to /{to}/: {} KiB at most", grown >> 10);
            assert!(grown <= HELD, "{protocol:?} to /{to}/: {grown} bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_100_megabytes_to_whoever_reads_nothing_is_not_taken() {
    let rig = Rig::start().await;
    for protocol in BOTH {
        for to in ["one", "two"] {
            rig.forget_peak();
            let (before, _) = rig.resident();
            let client = HttpClient::new().speaking(protocol);
            let answer: OpenAnswer = client.open(get(&rig.url(to, &format!("big?bytes={ALL}")))).await.unwrap();
            tokio::time::sleep(Duration::from_millis(700)).await;
            let grown = rig.resident().1.saturating_sub(before);
            println!("{protocol:?} from /{to}/: {} KiB at most", grown >> 10);
            assert!(grown <= HELD, "{protocol:?} from /{to}/: {grown} bytes");
            // Read at last, all of it comes.
            let whole = timeout(PATIENCE, answer.whole()).await.unwrap().unwrap();
            assert_eq!(whole.body.len(), ALL);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_an_upstream_that_does_not_read_is_not_taken() {
    let rig = Rig::start().await;
    for protocol in BOTH {
        for to in ["one", "two"] {
            rig.forget_peak();
            let (before, _) = rig.resident();
            let (sender, body): (BodySender, _) = streamed();
            let request = Request::post(rig.url(to, "stall")).body(body).unwrap();
            let call = tokio::spawn(async move { HttpClient::new().speaking(protocol).fetch(request).await });
            let mut sent = 0;
            while timeout(Duration::from_millis(500), sender.send(Bytes::from_static(&[7; PIECE]))).await.is_ok_and(|taken| taken) {
                sent += PIECE;
                assert!(sent < ALL, "{protocol:?} to /{to}/: nobody reads, and all of it is gone");
            }
            let grown = rig.resident().1.saturating_sub(before);
            println!("{protocol:?} to /{to}/, which does not read: {} KiB at most", grown >> 10);
            assert!(grown <= HELD, "{protocol:?} to /{to}/: {grown} bytes");
            rig.upstream.streams_become(1).await;
            call.abort();
            drop(sender);
            rig.upstream.end_streams();
            rig.upstream.streams_become(0).await;
        }
    }
}
