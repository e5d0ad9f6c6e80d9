//! Opening one connection: socket, TLS, password, and an answer to `PING`.
//!
//! The crate's own way to connect is not used: it replaces the system's roots where a file of certificates is given, reads them for each
//! connection, takes whichever crypto provider the process has installed, and knows the password only as it was at start.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, cmd};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::settings::{PasswordSource, Place, RedisSettings, RedisSettingsError, RedisUrl};
use crate::fault::Outage;

/// How many commands may wait to be written before those who send them wait too.
const WRITE_QUEUE: usize = 1024;
/// A peer that vanished without a word is noticed after about this long, even when nothing is asked.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Drives a connection until it breaks or nobody holds it.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where to connect and how.
pub(super) struct Target {
    url: RedisUrl,
    username: Option<String>,
    password: Option<PasswordSource>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Target {
    pub(super) fn new(settings: RedisSettings) -> Result<Self, RedisSettingsError> {
        let RedisSettings { url, username, password, ca_file, .. } = settings;
        let tls = match &url.place {
            Place::Tls { host, .. } => {
                let name = ServerName::try_from(host.clone());
                let name = name.map_err(|_| RedisSettingsError("store.url: no name or address that a certificate could show".into()))?;
                Some((connector(ca_file.as_deref())?, name))
            }
            Place::Tcp { .. } | Place::Unix(_) => None,
        };
        let username = username.or_else(|| url.username.clone());
        let password = password.or_else(|| url.password.clone().map(PasswordSource::fixed));
        Ok(Self { url, username, password, tls })
    }

    /// Connects; what drives the connection is for the caller to run.
    pub(super) async fn connect(&self) -> Result<(MultiplexedConnection, Driver), Outage> {
        let stream = self.stream().await.map_err(|error| self.outage(error))?;
        let mut redis = RedisConnectionInfo::default().set_db(self.url.database.into()).set_skip_set_lib_name();
        if let Some(username) = &self.username {
            redis = redis.set_username(username);
        }
        if let Some(source) = self.password.clone() {
            let password = tokio::task::spawn_blocking(move || source.read()).await;
            let password = password.map_err(|error| self.outage(error))?;
            redis = redis.set_password(password.map_err(|why| self.outage(format_args!("no password: {why}")))?.expose());
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(WRITE_QUEUE);
        let opened = MultiplexedConnection::new_with_config(&redis, stream, config).await;
        let (connection, driver) = opened.map_err(|error| self.outage(explain(&error)))?;
        let mut driver: Driver = Box::pin(driver);
        // Without a password nothing was said yet: the answer tells a Redis that is loading, wants a password or is none.
        let (mut asking, ping) = (connection.clone(), cmd("PING"));
        let answered = tokio::select! {
            () = &mut driver => Err(self.outage("closed by the server")),
            answer = ping.exec_async(&mut asking) => answer.map_err(|error| self.outage(explain(&error))),
        };
        answered.map(|()| (connection, driver))
    }

    pub(super) fn outage(&self, why: impl std::fmt::Display) -> Outage {
        Outage::store(format_args!("{}: {why}", self.url))
    }

    async fn stream(&self) -> io::Result<Box<dyn Stream>> {
        let (host, port) = match &self.url.place {
            Place::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Place::Tcp { host, port } | Place::Tls { host, port } => (host.as_str(), *port),
        };
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
        SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
        match &self.tls {
            Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), socket).await?)),
            None => Ok(Box::new(socket)),
        }
    }
}

/// The text of an error of the crate. It may quote what the server said, which quotes keys and commands but no value of ours. An answer that
/// is not what was expected is not quoted: nobody knows what it is.
pub(super) fn explain(error: &RedisError) -> String {
    let mut text = match error.kind() {
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => "an answer of another kind than expected".to_owned(),
        _ => error.to_string(),
    };
    if let Some((end, _)) = text.char_indices().nth(300) {
        text.truncate(end);
    }
    text
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, RedisSettingsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let problem = |why: &dyn std::fmt::Display| RedisSettingsError(format!("store.tls.ca_file: {}: {why}", path.display()));
        let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = certificates.map_err(|error| problem(&error))?;
        if certificates.is_empty() {
            return Err(problem(&"holds no certificate"));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| problem(&error))?;
        }
    }
    if roots.is_empty() {
        return Err(RedisSettingsError(
            "store.url: rediss:// needs certificates to trust; the system has none, so set store.tls.ca_file".into(),
        ));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|error| RedisSettingsError(format!("store.tls: {error}")))?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}
