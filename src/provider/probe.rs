//! Whether somebody takes a connection, and whose key they show there. For `doorward check --online`: a connection is opened and closed, nothing is
//! sent over it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls::{Pin, TlsSettings};

/// Opens a TCP connection.
///
/// # Errors
/// What the network said.
pub async fn tcp(host: &str, port: u16, limit: Duration) -> Result<TcpStream, String> {
    in_time(limit, async { TcpStream::connect((host, port)).await.map_err(|error| error.to_string()) }).await
}

/// Opens a TLS connection as these settings say and tells the key of the peer.
///
/// # Errors
/// What the network or TLS said. Where the certificate is good and its key is none of the pins, that key.
pub async fn tls(host: &str, port: u16, settings: &TlsSettings, limit: Duration) -> Result<Pin, String> {
    let shaken = in_time(limit, shake_hands(host, port, settings.clone())).await;
    if settings.pins.is_empty() {
        return shaken;
    }
    let Err(error) = shaken else { return shaken };
    let without_pins = TlsSettings { pins: Vec::new(), ..settings.clone() };
    match in_time(limit, shake_hands(host, port, without_pins)).await {
        Ok(found) => Err(format!("its certificate is good, and its key {found} is none of tls.pin_sha256")),
        Err(_) => Err(error),
    }
}

async fn shake_hands(host: &str, port: u16, settings: TlsSettings) -> Result<Pin, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = match &settings.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(bare.to_owned()).map_err(|_| format!("{host} is no name that a certificate could hold"))?,
    };
    // The system's roots are read from files.
    let config = tokio::task::spawn_blocking(move || settings.client_config()).await.map_err(|error| error.to_string())??;
    let stream = TcpStream::connect((bare, port)).await.map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| error.to_string())?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let end_entity = certificates.first().ok_or("it showed no certificate")?;
    Pin::of(end_entity).map_err(|error| error.to_string())
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}
