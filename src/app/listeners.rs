//! The sockets that the gateway listens on, and the TLS that they speak.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::StartError;
use crate::config::{Config, Listen, Listeners};
use crate::header::TrustedProxies;
use crate::server::{HandedOver, Listener, ProxyPeers, ServerTls, Supervisor, TlsSwitch};
use crate::tasks::Tasks;

/// What of the listeners changes while they are open.
#[derive(Clone, Debug)]
pub(super) struct Switches {
    /// The TLS that they speak.
    pub(super) tls: TlsSwitch,
    /// Who may send a PROXY header.
    pub(super) proxies: ProxyPeers,
}

impl Switches {
    /// As nothing was read yet: no TLS, nobody trusted.
    pub(super) fn new() -> Self {
        Self { tls: TlsSwitch::new(None), proxies: ProxyPeers::new(TrustedProxies::default()) }
    }

    /// From now on as this config says, for new connections. The files of `[tls]` are read before anything changes.
    pub(super) fn set(&self, config: &Config, tasks: &Tasks) -> Result<(), StartError> {
        self.speak(server_tls(config)?, tasks);
        self.trust(config.gateway.trusted_proxies.clone());
        Ok(())
    }

    /// TLS whose files were read before.
    pub(super) fn speak(&self, tls: Option<ServerTls>, tasks: &Tasks) {
        match tls {
            Some(tls) => tasks.background(tls.keep_in(&self.tls)),
            None => self.tls.set(None),
        }
    }

    /// Who may send a PROXY header.
    pub(super) fn trust(&self, proxies: TrustedProxies) {
        self.proxies.set(proxies);
    }
}

/// What `[tls]` says, with its files read; `None`: no TLS.
pub(super) fn server_tls(config: &Config) -> Result<Option<ServerTls>, StartError> {
    config.gateway.tls.clone().map(ServerTls::load).transpose().map_err(StartError::new)
}

/// Everything that serves, bound and not yet accepting: `listen` in its order, then `redirect_from`.
pub(super) fn bind(places: &Listeners, mut handed_over: HandedOver, switches: &Switches) -> Result<Vec<Listener>, StartError> {
    let plain = TlsSwitch::new(None);
    let mut bound = Vec::new();
    for place in &places.listen {
        bound.extend(at(place, "listen", &mut handed_over, &switches.tls)?);
    }
    for place in &places.redirect_from {
        bound.extend(at(place, "redirect_from", &mut handed_over, &plain)?.into_iter().map(Listener::redirecting));
    }
    if places.proxy_protocol {
        bound = bound.into_iter().map(|listener| listener.behind_proxies(switches.proxies.clone())).collect();
    }
    Ok(bound)
}

fn at(place: &Listen, key: &str, handed_over: &mut HandedOver, tls: &TlsSwitch) -> Result<Vec<Listener>, StartError> {
    let bound = match place {
        Listen::Tcp(address) => Listener::bind(*address, tls.clone()).map(|listener| vec![listener]),
        Listen::Unix(path, mode) => Listener::bind_unix(path, *mode).map(|listener| vec![listener]),
        Listen::HandedOver(name) => Listener::handed_over(handed_over, name, tls),
    };
    bound.map_err(|error| StartError::new(format!("{key}: {error}")))
}

/// The address of the gateway: that of its first TCP socket; of a gateway that has none this machine, port 0.
pub(super) fn address(listeners: &[Listener]) -> Result<SocketAddr, StartError> {
    let all = listeners.iter().map(Listener::local_addr).collect::<Result<Vec<_>, _>>().map_err(StartError::new)?;
    let tcp = all.iter().find(|address| address.port() != 0);
    tcp.or(all.first()).copied().ok_or_else(|| StartError::new("listen: nothing to listen on"))
}

/// Sockets that systemd hands over. To be called before there are other threads.
pub(super) fn handed_over(config: &Config) -> HandedOver {
    HandedOver::of_process(&config.supervision.sockets)
}

/// Whoever wants to hear how we are.
pub(super) fn supervisor(config: &Config) -> Result<Supervisor, StartError> {
    let said = &config.supervision;
    Supervisor::new(said.notify_socket.as_deref(), said.watchdog).map_err(|error| StartError::new(format!("NOTIFY_SOCKET: {error}")))
}

pub(super) fn bind_admin(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    bound.map_err(|error| StartError::new(format!("admin.listen: cannot listen on {address}: {error}")))
}
