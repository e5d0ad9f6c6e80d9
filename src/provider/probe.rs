//! Whether somebody takes a connection, and whose key they show there. For `doorward check --online`: a connection is opened and closed, nothing is
//! sent over it.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls::{Pin, TlsSettings};

/// Somebody to connect to.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Its name, or its address.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// Where the name leads; empty: where the system says.
    pub at: &'a [IpAddr],
}

impl Peer<'_> {
    /// The name as a certificate would hold it.
    fn bare(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    async fn connect(self) -> Result<TcpStream, String> {
        let connected = if self.at.is_empty() {
            TcpStream::connect((self.bare(), self.port)).await
        } else {
            let at: Vec<SocketAddr> = self.at.iter().map(|address| SocketAddr::new(*address, self.port)).collect();
            TcpStream::connect(at.as_slice()).await
        };
        connected.map_err(|error| error.to_string())
    }
}

/// Opens a TCP connection.
///
/// # Errors
/// What the network said.
pub async fn tcp(peer: Peer<'_>, limit: Duration) -> Result<TcpStream, String> {
    in_time(limit, peer.connect()).await
}

/// Opens a TLS connection as these settings say and tells the key of the peer.
///
/// # Errors
/// What the network or TLS said. Where the certificate is good and its key is none of the pins, that key.
pub async fn tls(peer: Peer<'_>, settings: &TlsSettings, limit: Duration) -> Result<Pin, String> {
    let shaken = in_time(limit, shake_hands(peer, settings.clone())).await;
    if settings.pins.is_empty() {
        return shaken;
    }
    let Err(error) = shaken else { return shaken };
    let without_pins = TlsSettings { pins: Vec::new(), ..settings.clone() };
    match in_time(limit, shake_hands(peer, without_pins)).await {
        Ok(found) => Err(format!("its certificate is good, and its key {found} is none of tls.pin_sha256")),
        Err(_) => Err(error),
    }
}

async fn shake_hands(peer: Peer<'_>, settings: TlsSettings) -> Result<Pin, String> {
    let name = match &settings.server_name {
        Some(name) => name.clone(),
        None => {
            ServerName::try_from(peer.bare().to_owned()).map_err(|_| format!("{} is no name that a certificate could hold", peer.host))?
        }
    };
    // The system's roots are read from files.
    let config = tokio::task::spawn_blocking(move || settings.client_config()).await.map_err(|error| error.to_string())??;
    let stream = peer.connect().await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| error.to_string())?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let end_entity = certificates.first().ok_or("it showed no certificate")?;
    Pin::of(end_entity).map_err(|error| error.to_string())
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}
