//! A connection to an upstream: TCP, TLS over it, or a unix socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::connection::Connection;
use super::{BoxError, TlsMissing, UpstreamAddress, UpstreamTls};
use crate::fault::Fault;
use crate::reason::Reason;

/// An answer may stay silent for hours (server-sent events); a machine that vanished is noticed by TCP's own probes, begun after this.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How one upstream is reached.
pub(super) struct Dial {
    address: UpstreamAddress,
    way: Way,
}

enum Way {
    Tcp(String, u16),
    Tls(String, u16, ServerName<'static>, TlsConnector),
    Unix(PathBuf),
    /// The address names no peer.
    Nowhere,
}

impl Dial {
    pub(super) fn new(address: UpstreamAddress, tls: Option<UpstreamTls>) -> Result<Self, TlsMissing> {
        let way = match &address {
            UpstreamAddress::Http { host, port } => Way::Tcp(host.clone(), *port),
            UpstreamAddress::Https { host, port } => {
                let named = |name: Option<ServerName<'static>>| name.or_else(|| ServerName::try_from(host.clone()).ok());
                match tls.and_then(|tls| Some((named(tls.server_name)?, connector(&tls.config)))) {
                    Some((name, connector)) => Way::Tls(host.clone(), *port, name, connector),
                    None => return Err(TlsMissing(address)),
                }
            }
            UpstreamAddress::Unix(path) => Way::Unix(path.clone()),
            UpstreamAddress::Static(_) => Way::Nowhere,
        };
        Ok(Self { address, way })
    }

    /// A fresh connection with HTTP on it.
    pub(super) async fn connect(&self, http: &http1::Builder, limit: Duration) -> Result<Connection, Fault> {
        match tokio::time::timeout(limit, self.open(http)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Fault::new(Reason::UpstreamUnreachable, format!("{}: {error}", self.address))),
            Err(_) => Err(Fault::new(Reason::UpstreamTimeout, format!("{}: no connection within {limit:?}", self.address))),
        }
    }

    async fn open(&self, http: &http1::Builder) -> Result<Connection, BoxError> {
        match &self.way {
            Way::Tcp(host, port) => Connection::open(tcp(host, *port).await?, http).await,
            Way::Tls(host, port, name, connector) => {
                let tls = connector.connect(name.clone(), tcp(host, *port).await?).await?;
                Connection::open(tls, http).await
            }
            Way::Unix(path) => Connection::open(UnixStream::connect(path).await?, http).await,
            Way::Nowhere => Err("the address names no peer".into()),
        }
    }

    pub(super) const fn address(&self) -> &UpstreamAddress {
        &self.address
    }
}

/// Every address of the name in turn, until one takes the connection.
async fn tcp(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    Ok(stream)
}

/// The given trust, and HTTP/1.1 as the one protocol offered. The clone shares the store of TLS sessions.
fn connector(tls: &ClientConfig) -> TlsConnector {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(tls))
}
