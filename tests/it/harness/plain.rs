//! An upstream written by hand, at any address of this machine: it says its name, and may be wrong on purpose.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::background::Running;

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers 200 with its name.
    Well,
    /// Answers with another status.
    Status(u16),
    /// Takes the head and says nothing.
    Hangs,
    /// Takes the head and closes.
    CutOff,
    /// The same with one request, and answers the next ones.
    CutOffOnce,
    /// Answers with half of its body and then nothing.
    Stalls,
    /// Takes the head and closes amid its own.
    HalfHead,
    /// Something that is no HTTP.
    Gibberish,
}

/// It answers until the value is dropped.
pub struct Plain {
    address: SocketAddr,
    state: Arc<State>,
    running: Mutex<Option<Running>>,
}

struct State {
    name: String,
    manner: Mutex<Manner>,
    seen: Mutex<Vec<String>>,
}

impl Plain {
    /// At `127.0.0.x`; port 0 is a free one.
    pub async fn start(name: &str, at: SocketAddr) -> Self {
        let state = Arc::new(State { name: name.to_owned(), manner: Mutex::new(Manner::Well), seen: Mutex::default() });
        let listener = TcpListener::bind(at).await.expect("an address of this machine");
        let address = listener.local_addr().expect("a listener has an address");
        let plain = Self { address, state, running: Mutex::default() };
        plain.serve(listener);
        plain
    }

    fn serve(&self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        let running = Running::start(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, Arc::clone(&state)));
            }
        });
        *self.running.lock().unwrap() = Some(running);
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// As the config names it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From the next request on.
    pub fn become_(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// Its machine is gone: nobody listens, and all connections break.
    pub fn kill(&self) {
        drop(self.running.lock().unwrap().take());
    }

    /// It is there again.
    pub async fn revive(&self) {
        // Connections of before may linger in TIME_WAIT.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option of sockets");
        socket.bind(self.address).expect("its own address");
        self.serve(socket.listen(128).expect("a listener"));
    }

    /// The first lines of all requests.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.state.seen.lock().unwrap().clone()
    }

    /// How many there were of those that hold `text`.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.seen().iter().filter(|line| line.contains(text)).count()
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let length =
            head.to_ascii_lowercase().split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).unwrap_or(0);
        while read.len() < end + length {
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        }
        read.drain(..end + length);
        state.seen.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
        let manner = *state.manner.lock().unwrap();
        let name = &state.name;
        let answer = match manner {
            Manner::Well => format!("HTTP/1.1 200 OK\r\nx-upstream: {name}\r\ncontent-length: 0\r\n\r\n"),
            Manner::Status(status) => format!("HTTP/1.1 {status} So\r\nx-upstream: {name}\r\ncontent-length: 0\r\n\r\n"),
            Manner::Hangs => std::future::pending().await,
            Manner::CutOff => return None,
            Manner::CutOffOnce => {
                *state.manner.lock().unwrap() = Manner::Well;
                return None;
            }
            Manner::Stalls => format!("HTTP/1.1 200 OK\r\nx-upstream: {name}\r\ncontent-length: 10\r\n\r\nhalf "),
            Manner::HalfHead => "HTTP/1.1 200 OK\r\nx-upst".to_owned(),
            Manner::Gibberish => "SSH-2.0-OpenSSH\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
        if matches!(manner, Manner::HalfHead | Manner::Gibberish) {
            return None;
        }
    }
}
