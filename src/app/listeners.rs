//! The sockets that the gateway listens on, and the TLS that they speak.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::StartError;
use crate::config::Config;
use crate::server::ServerCertificate;
use crate::tasks::Tasks;

pub(super) fn server_tls(config: &Config, tasks: &Tasks) -> Result<Option<Arc<rustls::ServerConfig>>, StartError> {
    let Some(files) = &config.gateway.tls else { return Ok(None) };
    let files = crate::server::CertificateFiles { certificate_file: files.certificate_file.clone(), key_file: files.key_file.clone() };
    let (certificate, watch) = ServerCertificate::load(files).map_err(StartError::new)?;
    tasks.background(watch.run());
    let clients = config.gateway.tls.as_ref().and_then(|tls| tls.client_ca_file.as_deref());
    let clients = clients.map(crate::server::client_verifier).transpose().map_err(StartError::new)?;
    certificate.server_config(clients).map(Some).map_err(StartError::new)
}

pub(super) fn bind_admin(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    bound.map_err(|error| StartError::new(format!("admin.listen: cannot listen on {address}: {error}")))
}
