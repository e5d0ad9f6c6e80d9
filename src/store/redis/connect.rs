//! Opening one connection: socket, TLS, password, and a first answer.
//!
//! The crate's own way to connect is not used: it replaces the system's roots where a file of certificates is given, reads them for each
//! connection, takes whichever crypto provider the process has installed, and knows the password only as it was at start.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{MultiplexedConnection, SendError};
use ::redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, RedisResult,
};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::settings::{PasswordSource, RedisTls};
use super::url::Place;
use crate::fault::Outage;

/// How many commands may wait to be written before those who send them wait too.
const WRITE_QUEUE: usize = 1024;
/// A peer that vanished without a word is noticed after about this long, even when nothing is asked.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Drives a connection until it breaks or nobody holds it.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Hears what a server says without being asked. It must not block.
pub(super) type OnPush = Arc<dyn Fn(PushInfo) + Send + Sync>;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// How to connect; where is said each time.
pub(super) struct Connector {
    pub(super) database: u32,
    pub(super) username: Option<String>,
    pub(super) password: Option<PasswordSource>,
    pub(super) tls: Option<RedisTls>,
}

/// An open connection that nobody drives yet.
pub(super) struct Opened {
    pub(super) place: Place,
    pub(super) connection: MultiplexedConnection,
    pub(super) driver: Driver,
}

impl Connector {
    /// Connects; what drives the connection is for the caller to run. With `pushes` the protocol is RESP3.
    pub(super) async fn connect(&self, place: &Place, pushes: Option<OnPush>) -> Result<Opened, Outage> {
        let stream = self.stream(place).await.map_err(|error| outage(place, error))?;
        let mut redis = RedisConnectionInfo::default().set_db(self.database.into()).set_skip_set_lib_name();
        if let Some(username) = &self.username {
            redis = redis.set_username(username);
        }
        if let Some(source) = self.password.clone() {
            let password = tokio::task::spawn_blocking(move || source.read()).await;
            let password = password.map_err(|error| outage(place, error))?;
            redis = redis.set_password(password.map_err(|why| outage(place, format_args!("no password: {why}")))?.expose());
        }
        let mut config = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(WRITE_QUEUE);
        if let Some(pushes) = pushes {
            redis = redis.set_protocol(ProtocolVersion::RESP3);
            config = config.set_push_sender(move |push| {
                pushes(push);
                Ok::<(), SendError>(())
            });
        }
        let opened = MultiplexedConnection::new_with_config(&redis, stream, config).await;
        let (connection, driver) = opened.map_err(|error| outage(place, explain(&error)))?;
        Ok(Opened { place: place.clone(), connection, driver: Box::pin(driver) })
    }

    async fn stream(&self, place: &Place) -> io::Result<Box<dyn Stream>> {
        let (host, port) = match place {
            Place::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Place::Tcp { host, port } | Place::Tls { host, port } => (host.as_str(), *port),
        };
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
        SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
        match (&self.tls, place) {
            (Some(tls), Place::Tls { .. }) => {
                let name = match &tls.server_name {
                    Some(name) => name.clone(),
                    None => ServerName::try_from(host.to_owned()).map_err(|_| io::Error::other("no name that a certificate could show"))?,
                };
                Ok(Box::new(TlsConnector::from(Arc::clone(&tls.config)).connect(name, socket).await?))
            }
            (None, Place::Tls { .. }) => Err(io::Error::other("TLS is not set up")),
            (_, Place::Tcp { .. } | Place::Unix(_)) => Ok(Box::new(socket)),
        }
    }
}

impl Opened {
    /// Sends a command while nobody else drives the connection.
    pub(super) async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Outage> {
        let mut connection = self.connection.clone();
        self.while_driven(async move { command.query_async(&mut connection).await }).await
    }

    /// Subscribes to a channel of publications.
    pub(super) async fn subscribe(&mut self, channel: &str) -> Result<(), Outage> {
        let mut connection = self.connection.clone();
        self.while_driven(async move { connection.subscribe(channel).await }).await
    }

    async fn while_driven<T>(&mut self, work: impl Future<Output = RedisResult<T>>) -> Result<T, Outage> {
        let place = &self.place;
        tokio::select! {
            () = &mut self.driver => Err(outage(place, "closed by the server")),
            answer = work => answer.map_err(|error| outage(place, explain(&error))),
        }
    }
}

pub(super) fn outage(place: &Place, why: impl std::fmt::Display) -> Outage {
    Outage::store(format_args!("{place}: {why}"))
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
