//! `doorward health`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use super::{ConfigArgs, complain, complain_of, say};
use crate::config::{Sources, admin_listen};

const PATIENCE: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub(super) struct Health {
    #[command(flatten)]
    config: ConfigArgs,
    /// The admin listener's address; by default that of the configuration
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Ask whether it is alive, not whether it is ready: for liveness probes
    #[arg(long)]
    live: bool,
}

impl Health {
    pub(super) fn execute(self, environment: BTreeMap<String, String>) -> ExitCode {
        let sources = Sources { file: self.config.config.as_deref(), environment, flags: Vec::new() };
        let address = match self.admin_listen.map_or_else(|| admin_listen(&sources), Ok) {
            Ok(address) => reachable(address),
            Err(problems) => {
                complain_of(&problems);
                return ExitCode::FAILURE;
            }
        };
        let path = if self.live { "/livez" } else { "/readyz" };
        match ask(address, path) {
            Ok((200, body)) => {
                say(body.trim_end());
                ExitCode::SUCCESS
            }
            Ok((status, body)) => {
                complain(format!("{status}: {}", body.trim_end()));
                ExitCode::FAILURE
            }
            Err(error) => {
                complain(format!("no answer from the admin listener at {address}: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}

/// A listener on all addresses is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    }
}

/// One small request on a thread of our own: no runtime has to start for a probe that runs every few seconds.
fn ask(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    match status {
        Some(status) => Ok((status, body)),
        None => Err(std::io::Error::other("the answer is no HTTP")),
    }
}
