//! Sockets that systemd has opened and hands over (`sd_listen_fds(3)`): it keeps them while the gateway is restarted, so that nobody is
//! turned away.

use std::io;

use listenfd::ListenFd;
use socket2::SockRef;

use super::bound::{Bound, tune};

/// Sockets that were handed over, each by its name, until somebody takes it.
pub struct HandedOver {
    sockets: ListenFd,
    names: Vec<String>,
}

impl HandedOver {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self { sockets: ListenFd::empty(), names: Vec::new() }
    }

    /// Takes them out of the environment of this process, where they are then no more. `names` are those of `LISTEN_FDNAMES`, in its order.
    /// To be called before there are other threads: they could read the environment meanwhile.
    #[must_use]
    pub fn of_process(names: &[String]) -> Self {
        if names.is_empty() {
            return Self::none();
        }
        Self { sockets: ListenFd::from_env(), names: names.to_vec() }
    }

    /// All sockets of this name that nobody has taken: one unit may open several.
    ///
    /// # Errors
    /// When there is none, or something that does not listen; the message names those that are there.
    pub(super) fn take(&mut self, name: &str) -> io::Result<Vec<Bound>> {
        let places: Vec<usize> = self.names.iter().enumerate().filter(|(_, found)| *found == name).map(|(place, _)| place).collect();
        if places.is_empty() {
            let there = match self.names.as_slice() {
                [] => "no socket was handed over: start it by a systemd .socket unit".to_owned(),
                names => format!("handed over were {}", names.join(", ")),
            };
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no socket of this name; {there}")));
        }
        places.into_iter().map(|place| self.take_at(place)).collect()
    }

    fn take_at(&mut self, place: usize) -> io::Result<Bound> {
        let taken = || io::Error::new(io::ErrorKind::AddrInUse, "it is taken already: name it once");
        // What is no TCP socket is left in its place.
        let bound = match self.sockets.take_tcp_listener(place) {
            Ok(socket) => Bound::Tcp(socket.ok_or_else(taken)?),
            Err(_) => Bound::Unix(self.sockets.take_unix_listener(place)?.ok_or_else(taken)?),
        };
        let socket = match &bound {
            Bound::Tcp(socket) => {
                tune(socket)?;
                SockRef::from(socket)
            }
            Bound::Unix(socket) => SockRef::from(socket),
        };
        if !socket.is_listener()? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it does not listen: the .socket unit needs ListenStream= and Accept=no",
            ));
        }
        socket.set_nonblocking(true)?;
        Ok(bound)
    }
}
