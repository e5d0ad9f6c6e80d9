//! A connection to an upstream: TCP, TLS over it, or a unix socket; HTTP/1.1 or HTTP/2 on it.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::Scheme;
use hyper::client::conn::http1;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::connection::Connection;
use super::http2::Http2;
use super::pool::Pool;
use super::{BoxError, TlsMissing, UpstreamAddress, UpstreamTls};
use crate::fault::Fault;
use crate::reason::Reason;

/// An answer may stay silent for hours (server-sent events); a machine that vanished is noticed by TCP's own probes, begun after this.
const KEEPALIVE: Duration = Duration::from_secs(60);

const ALPN_HTTP1: &[u8] = b"http/1.1";
const ALPN_HTTP2: &[u8] = b"h2";

/// What a connection is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearing {
    /// A request and its answer.
    Request,
    /// A request that may turn the connection into a tunnel, which HTTP/2 has not.
    Upgrade,
}

/// How one upstream is reached.
pub(super) struct Dial {
    address: UpstreamAddress,
    way: Way,
    /// Where its name leads, each tried in turn; empty: looked up at each connection.
    at: Box<[SocketAddr]>,
}

enum Way {
    Tcp(String, u16),
    Tls(String, u16, ServerName<'static>, TlsConnector),
    /// HTTP/2, and nothing else.
    H2c(String, u16),
    /// HTTP/2 by the first connector, HTTP/1.1 by the second, for what HTTP/2 cannot carry.
    H2(String, u16, ServerName<'static>, [TlsConnector; 2]),
    Unix(PathBuf),
    /// The address names no peer.
    Nowhere,
}

impl Dial {
    pub(super) fn new(address: UpstreamAddress, tls: Option<UpstreamTls>) -> Result<Self, TlsMissing> {
        let way = match &address {
            UpstreamAddress::Http { host, port } => Way::Tcp(host.clone(), *port),
            UpstreamAddress::H2c { host, port } => Way::H2c(host.clone(), *port),
            UpstreamAddress::Https { host, port } | UpstreamAddress::H2 { host, port } => {
                let named = |name: Option<ServerName<'static>>| name.or_else(|| ServerName::try_from(host.clone()).ok());
                match tls.and_then(|tls| Some((named(tls.server_name)?, tls.config))) {
                    Some((name, tls)) if address.is_http2() => {
                        Way::H2(host.clone(), *port, name, [connector(&tls, ALPN_HTTP2), connector(&tls, ALPN_HTTP1)])
                    }
                    Some((name, tls)) => Way::Tls(host.clone(), *port, name, connector(&tls, ALPN_HTTP1)),
                    None => return Err(TlsMissing(address)),
                }
            }
            UpstreamAddress::Unix(path) => Way::Unix(path.clone()),
            UpstreamAddress::Static(_) => Way::Nowhere,
        };
        Ok(Self { address, way, at: Box::default() })
    }

    /// The same, at these addresses. The certificate is still to be for the name.
    pub(super) fn at(self, at: Box<[SocketAddr]>) -> Self {
        Self { at, ..self }
    }

    /// A connection with HTTP on it: a fresh one, or for HTTP/2 a place on one that others use too.
    pub(super) async fn connect(
        &self,
        pool: &Pool,
        (http, bearing): (&http1::Builder, Bearing),
        limit: Duration,
    ) -> Result<Connection, Fault> {
        match (&self.way, bearing) {
            (Way::H2c(..) | Way::H2(..), Bearing::Request) => {
                pool.shared().place(self.in_time(self.open_http2(pool), limit)).await.map(Connection::Http2)
            }
            _ => self.in_time(self.open(http), limit).await,
        }
    }

    async fn in_time<T>(&self, opened: impl Future<Output = Result<T, BoxError>>, limit: Duration) -> Result<T, Fault> {
        match tokio::time::timeout(limit, opened).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Fault::new(Reason::UpstreamUnreachable, format!("{self}: {error}"))),
            Err(_) => Err(Fault::new(Reason::UpstreamTimeout, format!("{self}: no connection within {limit:?}"))),
        }
    }

    /// HTTP/1.1.
    async fn open(&self, http: &http1::Builder) -> Result<Connection, BoxError> {
        match &self.way {
            Way::Tcp(host, port) => Connection::open(self.tcp(host, *port).await?, http).await,
            Way::Tls(host, port, name, connector) | Way::H2(host, port, name, [_, connector]) => {
                let tls = connector.connect(name.clone(), self.tcp(host, *port).await?).await?;
                Connection::open(tls, http).await
            }
            Way::Unix(path) => Connection::open(UnixStream::connect(path).await?, http).await,
            Way::H2c(..) => Err("the address is one of HTTP/2 alone".into()),
            Way::Nowhere => Err("the address names no peer".into()),
        }
    }

    async fn open_http2(&self, pool: &Pool) -> Result<Http2, BoxError> {
        match &self.way {
            Way::H2c(host, port) => Http2::open(self.tcp(host, *port).await?, Scheme::HTTP, pool.shared().manner(), pool.clock()).await,
            Way::H2(host, port, name, [connector, _]) => {
                let tls = connector.connect(name.clone(), self.tcp(host, *port).await?).await?;
                if tls.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
                    return Err("the upstream does not offer HTTP/2 in its TLS handshake; write https:// in the config for HTTP/1.1".into());
                }
                Http2::open(tls, Scheme::HTTPS, pool.shared().manner(), pool.clock()).await
            }
            _ => Err("the address is none of HTTP/2".into()),
        }
    }

    /// Whether a tunnel for another protocol can be opened there. Over TLS a connection of its own speaks HTTP/1.1 for it.
    pub(super) const fn takes_upgrades(&self) -> bool {
        !matches!(self.way, Way::H2c(..))
    }

    /// A fresh connection with nothing on it.
    pub(super) async fn open_io(&self) -> Result<Box<dyn Io>, BoxError> {
        match &self.way {
            Way::Tcp(host, port) | Way::H2c(host, port) => Ok(Box::new(self.tcp(host, *port).await?)),
            Way::Tls(host, port, name, connector) | Way::H2(host, port, name, [connector, _]) => {
                Ok(Box::new(connector.connect(name.clone(), self.tcp(host, *port).await?).await?))
            }
            Way::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Way::Nowhere => Err("the address names no peer".into()),
        }
    }

    /// Every address in turn, until one takes the connection.
    async fn tcp(&self, host: &str, port: u16) -> std::io::Result<TcpStream> {
        let stream = if self.at.is_empty() { TcpStream::connect((host, port)).await? } else { TcpStream::connect(&*self.at).await? };
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        Ok(stream)
    }

    pub(super) const fn address(&self) -> &UpstreamAddress {
        &self.address
    }

    /// Its own name for `Host`.
    pub(super) fn host_header(&self) -> HeaderValue {
        let authority = self.address.authority().and_then(|authority| HeaderValue::try_from(authority).ok());
        authority.unwrap_or_else(|| HeaderValue::from_static("localhost"))
    }
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.first() {
            Some(at) => write!(f, "{} at {at}", self.address),
            None => self.address.fmt(f),
        }
    }
}

/// A connection's bytes, whatever carries them.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The given trust, and one protocol offered. The clone shares the store of TLS sessions.
fn connector(tls: &ClientConfig, protocol: &[u8]) -> TlsConnector {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_name_is_what_a_browser_would_write() {
        for (address, host) in [
            ("http://App.Internal", "app.internal"),
            ("http://10.0.0.5:8080", "10.0.0.5:8080"),
            ("h2c://[::1]", "[::1]"),
            ("unix:/run/app.sock", "localhost"),
        ] {
            let dial = Dial::new(UpstreamAddress::parse(address).unwrap(), None).ok().unwrap();
            assert_eq!(dial.host_header(), host);
        }
    }
}
