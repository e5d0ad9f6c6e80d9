//! What a connection is carried by: TCP, or a unix socket of this machine.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// An accepted socket on its way to its core.
pub(super) enum Carrier {
    Tcp(std::net::TcpStream),
    Unix(StdUnixStream),
}

impl Carrier {
    /// The same, watched by the runtime that it has come to.
    pub(super) fn watched(self) -> io::Result<Link> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Link::Tcp),
            Self::Unix(stream) => UnixStream::from_std(stream).map(Link::Unix),
        }
    }
}

/// A socket in use.
pub(super) enum Link {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Binds a unix socket that only those whom `mode` names can connect to, at no moment anybody else: it is made in a folder of its own, and
/// moves to its place when its mode is set.
pub(super) fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there")),
        Ok(_) if StdUnixStream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
        // Left behind by a process that has ended.
        Ok(_) | Err(_) => {}
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let folder = Path::new(&name);
    let made = folder.join("s");
    let create = || std::fs::DirBuilder::new().mode(0o700).create(folder);
    create().or_else(|error| match error.kind() {
        // In a container each process has the number of the one before, which may have ended just here.
        io::ErrorKind::AlreadyExists => {
            let _ = std::fs::remove_file(&made);
            std::fs::remove_dir(folder)?;
            create()
        }
        _ => Err(error),
    })?;
    let bound = UnixListener::bind(&made).and_then(|socket| {
        socket.set_nonblocking(true)?;
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&made, path)?;
        Ok(socket)
    });
    if bound.is_err() {
        let _ = std::fs::remove_file(&made);
    }
    let _ = std::fs::remove_dir(folder);
    bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{encode, random};

    #[test]
    fn a_socket_takes_the_place_of_a_dead_one_and_of_nothing_else() {
        let folder = std::env::temp_dir().join(format!("doorward-socket-{}", encode(&random::<8>())));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("out.sock");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let first = bind_unix(&path, 0o600).unwrap();
        assert_eq!(mode(), 0o600);
        // Somebody listens there.
        assert_eq!(bind_unix(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let second = bind_unix(&path, 0o660).unwrap();
        assert_eq!(mode(), 0o660);
        assert!(StdUnixStream::connect(&path).is_ok());
        drop(second);
        // One that ended half way left its folder behind.
        let left = folder.join(format!("out.sock.{}", std::process::id()));
        std::fs::create_dir(&left).unwrap();
        drop(UnixListener::bind(left.join("s")).unwrap());
        drop(bind_unix(&path, 0o600).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "of somebody else").unwrap();
        assert_eq!(bind_unix(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "of somebody else");
        // Nothing is left beside it.
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
