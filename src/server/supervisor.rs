//! Whoever started us and wants to hear how we are: systemd with `Type=notify` and `WatchdogSec=` (`sd_notify(3)`,
//! `sd_watchdog_enabled(3)`).

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::cores::Cores;

/// Where word is sent; cheap to clone. Word that does not arrive is told and changes nothing.
#[derive(Clone, Debug)]
pub struct Supervisor {
    address: Option<SocketAddr>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// `socket` is `NOTIFY_SOCKET`: a path, or `@` and a name without a file; `None`: nobody wants to hear. `watchdog` is how long we may
    /// be silent.
    ///
    /// # Errors
    /// When there can be no such socket.
    pub fn new(socket: Option<&str>, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = socket.map(|socket| match socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(socket),
        });
        Ok(Self { address: address.transpose()?, watchdog })
    }

    /// We serve.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// The config is being read again; [`Supervisor::ready`] says that it is done.
    pub fn reloading(&self) {
        self.say("RELOADING=1");
    }

    /// We are draining.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Says that we live, twice in the time that we may be silent, each time only when every core has answered: one that is stuck is reason
    /// enough to start us again. Ends at once where nobody watches. To be run in the background of the control runtime until the process
    /// ends.
    pub async fn watch(self, cores: Arc<Cores>) {
        let Some(within) = self.watchdog.filter(|_| self.address.is_some()) else { return };
        let mut times = interval(within / 2);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            cores.all_answer().await;
            self.say("WATCHDOG=1");
        }
    }

    fn say(&self, word: &str) {
        let Some(address) = &self.address else { return };
        let said = UnixDatagram::unbound().and_then(|socket| {
            // Whoever does not listen must not hold us up.
            socket.set_nonblocking(true)?;
            socket.send_to_addr(word.as_bytes(), address)
        });
        if let Err(error) = said {
            tracing::warn!(%error, word, "NOTIFY_SOCKET does not take what it is told");
        }
    }
}
