//! A TCP proxy that can hold back what the server says: connections stay open, and nothing comes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::background;

/// The proxy; its connections end with their peers.
pub struct StallingProxy {
    address: SocketAddr,
    stalled: Arc<watch::Sender<bool>>,
}

impl StallingProxy {
    /// In front of `server`.
    pub async fn start(server: SocketAddr) -> Self {
        let (listening, begun) = tokio::sync::oneshot::channel();
        let stalled = Arc::new(watch::Sender::new(false));
        let state = Arc::clone(&stalled);
        background::spawn(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port for the proxy");
            let _ = listening.send(listener.local_addr().expect("the proxy's address"));
            while let Ok((downstream, _)) = listener.accept().await {
                let state = state.subscribe();
                background::spawn(async move {
                    if let Ok(upstream) = TcpStream::connect(server).await {
                        carry(downstream, upstream, state).await;
                    }
                });
            }
        });
        Self { address: begun.await.expect("the proxy starts"), stalled }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds back what the server says, on all connections.
    pub fn stall(&self) {
        self.stalled.send_replace(true);
    }

    /// Lets it through again, what was held back first.
    pub fn go_on(&self) {
        self.stalled.send_replace(false);
    }
}

async fn carry(downstream: TcpStream, upstream: TcpStream, mut stalled: watch::Receiver<bool>) {
    let ((mut from_down, mut to_down), (mut from_up, mut to_up)) = (downstream.into_split(), upstream.into_split());
    let answers = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_up.read(&mut buffer).await {
            if stalled.wait_for(|stalled| !stalled).await.is_err() || to_down.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    let questions = async move {
        let _ = tokio::io::copy(&mut from_down, &mut to_up).await;
    };
    tokio::select! {
        () = answers => {}
        () = questions => {}
    }
}
