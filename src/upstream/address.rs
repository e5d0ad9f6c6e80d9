//! Where an upstream is, as the config writes it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use http::StatusCode;
use http::uri::Authority;
use rustls_pki_types::ServerName;

/// `http://10.0.0.5:8080`, `https://app.internal`, `h2c://10.0.0.5:50051`, `h2://app.internal`, `unix:/run/app.sock`, `static:204`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// HTTP/1.1 over TCP.
    Http {
        /// A name in lower case or an address; IPv6 without brackets.
        host: String,
        /// 80 unless written.
        port: u16,
    },
    /// HTTP/1.1 over TLS.
    Https {
        /// As in `Http`; the certificate must be for it.
        host: String,
        /// 443 unless written.
        port: u16,
    },
    /// HTTP/2 over TCP, by prior knowledge (RFC 9113 §3.3).
    H2c {
        /// As in `Http`.
        host: String,
        /// 80 unless written.
        port: u16,
    },
    /// HTTP/2 over TLS, settled by ALPN (RFC 9113 §3.2).
    H2 {
        /// As in `Https`.
        host: String,
        /// 443 unless written.
        port: u16,
    },
    /// HTTP/1.1 over a socket of this machine.
    Unix(PathBuf),
    /// No upstream at all: every request is answered with this status and no body.
    Static(StatusCode),
}

impl UpstreamAddress {
    /// Reads it.
    ///
    /// # Errors
    /// What was expected instead. The text itself is never in the error: it may hold a password where none belongs.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once(':').ok_or(AddressError::Scheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" => authority(rest, 80).map(|(host, port)| Self::Http { host, port }),
            "https" => authority(rest, 443).map(|(host, port)| Self::Https { host, port }),
            "h2c" => authority(rest, 80).map(|(host, port)| Self::H2c { host, port }),
            "h2" => authority(rest, 443).map(|(host, port)| Self::H2 { host, port }),
            "unix" => match rest.strip_prefix('/') {
                Some(path) if !path.is_empty() && !path.contains('\0') => Ok(Self::Unix(PathBuf::from(rest))),
                _ => Err(AddressError::SocketPath),
            },
            "static" => match rest.parse() {
                Ok(status @ 200..=599) if rest.len() == 3 => {
                    StatusCode::from_u16(status).map(Self::Static).map_err(|_| AddressError::Status)
                }
                _ => Err(AddressError::Status),
            },
            _ => Err(AddressError::Scheme),
        }
    }

    /// Host and port, where it has them.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        match self {
            Self::Http { host, port } | Self::Https { host, port } | Self::H2c { host, port } | Self::H2 { host, port } => {
                Some((host, *port))
            }
            Self::Unix(_) | Self::Static(_) => None,
        }
    }

    /// What its URL has for an authority: host and port, without the port that goes without saying.
    #[must_use]
    pub fn authority(&self) -> Option<String> {
        let (_, port) = self.host_and_port()?;
        let text = self.to_string();
        let (_, authority) = text.split_once("://")?;
        let usual = if self.is_tls() { 443 } else { 80 };
        let bare = authority.strip_suffix(&format!(":{port}")).filter(|_| port == usual);
        Some(bare.unwrap_or(authority).to_owned())
    }

    /// Whether TLS is spoken there.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Https { .. } | Self::H2 { .. })
    }

    /// Whether HTTP/2 is spoken there.
    #[must_use]
    pub const fn is_http2(&self) -> bool {
        matches!(self, Self::H2c { .. } | Self::H2 { .. })
    }
}

/// Host and port of what follows `http:`.
fn authority(rest: &str, default_port: u16) -> Result<(String, u16), AddressError> {
    let rest = rest.strip_prefix("//").ok_or(AddressError::Scheme)?;
    // A lone slash at the end is how many write an address without a path.
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err(AddressError::Userinfo);
    }
    if rest.contains(['/', '?', '#', '\\']) {
        return Err(AddressError::Path);
    }
    let authority: Authority = rest.parse().map_err(|_| AddressError::Host)?;
    let host = authority.host().to_ascii_lowercase();
    let port = match rest.get(host.len()..) {
        Some("") => default_port,
        Some(port) => port.strip_prefix(':').and_then(port_number).ok_or(AddressError::Port)?,
        None => return Err(AddressError::Host),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| AddressError::Host)?.to_string(),
        None => host,
    };
    match ServerName::try_from(host.as_str()) {
        Ok(_) => Ok((host, port)),
        Err(_) => Err(AddressError::Host),
    }
}

fn port_number(digits: &str) -> Option<u16> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|port| *port != 0)
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Http { host, port } => ("http", host, port),
            Self::Https { host, port } => ("https", host, port),
            Self::H2c { host, port } => ("h2c", host, port),
            Self::H2 { host, port } => ("h2", host, port),
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Static(status) => return write!(f, "static:{}", status.as_u16()),
        };
        match host.parse() {
            Ok(IpAddr::V6(host)) => write!(f, "{scheme}://[{host}]:{port}"),
            _ => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

/// Why a text is no upstream's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// Another scheme, or none.
    Scheme,
    /// A path, query or fragment.
    Path,
    /// A user or password.
    Userinfo,
    /// Neither a host name nor an address.
    Host,
    /// No port number.
    Port,
    /// No absolute path of a socket.
    SocketPath,
    /// No final status.
    Status,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => {
                "expected http://host:port, https://host:port, unix:/path or static:STATUS; for HTTP/2 h2c://host:port, or h2://host:port with TLS"
            }
            Self::Path => {
                "expected only scheme, host and port, such as http://127.0.0.1:8080: the path of the request is passed on as it is"
            }
            Self::Userinfo => "expected no user and password in the address",
            Self::Host => "expected a host name or an address after //, IPv6 in brackets, such as http://[::1]:8080",
            Self::Port => "expected a port from 1 to 65535",
            Self::SocketPath => "expected an absolute path, such as unix:/run/app.sock",
            Self::Status => "expected a status from 200 to 599, such as static:204",
        })
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read_and_written_back() {
        for (text, written) in [
            ("http://10.0.0.5:8080", "http://10.0.0.5:8080"),
            ("http://App.Internal", "http://app.internal:80"),
            ("HTTP://my_app:1", "http://my_app:1"),
            ("https://app.internal/", "https://app.internal:443"),
            ("http://[0:0::1]:81", "http://[::1]:81"),
            ("http://[::1]", "http://[::1]:80"),
            ("h2c://10.0.0.5:50051", "h2c://10.0.0.5:50051"),
            ("H2C://App.Internal/", "h2c://app.internal:80"),
            ("h2://app.internal", "h2://app.internal:443"),
            ("h2://[::1]", "h2://[::1]:443"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("static:204", "static:204"),
        ] {
            let address = UpstreamAddress::parse(text).unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(UpstreamAddress::parse(written), Ok(address));
        }
    }

    #[test]
    fn the_port_that_goes_without_saying_is_not_in_the_authority() {
        for (text, authority) in [
            ("http://a:80", Some("a")),
            ("h2c://a", Some("a")),
            ("http://a:443", Some("a:443")),
            ("https://a:443", Some("a")),
            ("h2://a:80", Some("a:80")),
            ("http://[::1]:80", Some("[::1]")),
            ("http://[::80]:8080", Some("[::80]:8080")),
            ("unix:/run/app.sock", None),
        ] {
            assert_eq!(UpstreamAddress::parse(text).unwrap().authority().as_deref(), authority, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_what_was_expected() {
        use AddressError as E;
        for (text, error) in [
            ("", E::Scheme),
            ("127.0.0.1", E::Scheme),
            ("localhost:8080", E::Scheme),
            ("h3://x", E::Scheme),
            ("grpc://x", E::Scheme),
            ("h2c:x", E::Scheme),
            ("h2c://x/app", E::Path),
            ("h2://u:p@x", E::Userinfo),
            ("h2c://x:0", E::Port),
            ("http:x", E::Scheme),
            ("http://x/app", E::Path),
            ("http://x//", E::Path),
            ("http://x?a", E::Path),
            ("http://x#a", E::Path),
            ("http://u:p@x", E::Userinfo),
            ("http://", E::Host),
            ("http://:80", E::Host),
            ("http://a b", E::Host),
            ("http://::1", E::Host),
            ("http://[::g]", E::Host),
            ("http://-a", E::Host),
            ("http://x:", E::Port),
            ("http://x:0", E::Port),
            ("http://x:65536", E::Port),
            ("http://x:+1", E::Port),
            ("unix:run/app.sock", E::SocketPath),
            ("unix:/", E::SocketPath),
            ("unix://run/app.sock\0", E::SocketPath),
            ("static:", E::Status),
            ("static:101", E::Status),
            ("static:0204", E::Status),
            ("static:600", E::Status),
        ] {
            assert_eq!(UpstreamAddress::parse(text), Err(error), "{text}");
        }
    }
}
