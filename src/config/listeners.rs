//! Where the gateway listens, who may speak for others there, and what systemd has opened for it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::reader::Section;
use crate::header::TrustedPeer;

/// Who may open a socket of ours where nothing is said: whoever runs the gateway.
const MODE: u32 = 0o600;

/// Where the gateway serves. Fixed for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// For everybody, in file order.
    pub listen: Vec<Listen>,
    /// Plain, and only to send everybody on to https.
    pub redirect_from: Vec<Listen>,
    /// Whether every connection begins with a PROXY header.
    pub proxy_protocol: bool,
}

/// One place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address; `[::]` takes IPv4 as well.
    Tcp(SocketAddr),
    /// A unix socket and its mode.
    Unix(PathBuf, u32),
    /// The sockets of this name that systemd hands over.
    HandedOver(String),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path, _) => write!(f, "unix:{}", path.display()),
            Self::HandedOver(name) => write!(f, "fd:{name}"),
        }
    }
}

impl Listen {
    /// Whether both cannot be had at once.
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(two)) => {
                let everywhere = |ip: IpAddr, over: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || over.is_ipv4());
                let meet = one.ip() == two.ip() || everywhere(one.ip(), two.ip()) || everywhere(two.ip(), one.ip());
                one.port() == two.port() && one.port() != 0 && meet
            }
            (Self::Unix(one, _), Self::Unix(two, _)) => one == two,
            (one, two) => one == two,
        }
    }
}

pub(super) fn read(root: &Section<'_>) -> Listeners {
    let listen = root.parsed_list("listen", parse).unwrap_or_else(|| vec![Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 4180)))]);
    let redirect_from = root.parsed_list("redirect_from", parse).unwrap_or_default();
    let mut known: Vec<&Listen> = Vec::new();
    for (key, place) in listen.iter().map(|place| ("listen", place)).chain(redirect_from.iter().map(|place| ("redirect_from", place))) {
        if let Some(other) = known.iter().find(|other| other.overlaps(place)) {
            let both = if *other == place { format!("{place} is there twice") } else { format!("{place} cannot be had beside {other}") };
            root.problem(key, format!("{both}; [::] takes IPv4 as well"));
        }
        known.push(place);
    }
    let proxy_protocol = root.flag("proxy_protocol", false);
    if proxy_protocol && !root.has("trusted_proxies") {
        root.problem(
            "proxy_protocol",
            "is taken from trusted_proxies only, and there are none; name the proxies that send the PROXY header",
        );
    }
    Listeners { listen, redirect_from, proxy_protocol }
}

fn parse(text: &str) -> Result<Listen, String> {
    let wrong = || {
        format!(
            "expected an address and port such as \"0.0.0.0:4180\", \"[::]:443\" or \":443\", \"unix:/run/doorward.sock?mode=0660\", or \"fd:NAME\" for a socket of systemd; found {text:?}"
        )
    };
    if let Some(rest) = text.strip_prefix("unix:") {
        return parse_unix(rest).map(|(path, mode)| Listen::Unix(path, mode)).ok_or_else(wrong);
    }
    if let Some(name) = text.strip_prefix("fd:") {
        let sound = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        return if sound { Ok(Listen::HandedOver(name.to_owned())) } else { Err(wrong()) };
    }
    let any = |port: &str| Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port.parse::<u16>().ok()?)));
    text.parse().ok().or_else(|| text.strip_prefix(':').and_then(any)).map(Listen::Tcp).ok_or_else(wrong)
}

/// What follows `unix:`: an absolute path, and who may open it.
pub(super) fn parse_unix(rest: &str) -> Option<(PathBuf, u32)> {
    let (path, mode) = match rest.split_once("?mode=") {
        Some((path, mode)) => (path, u32::from_str_radix(mode, 8).ok().filter(|value| *value <= 0o777 && !mode.starts_with('+'))?),
        None => (rest, MODE),
    };
    let sound = path.starts_with('/') && path.len() > 1 && !path.contains(['\0', '?']);
    sound.then(|| (PathBuf::from(path), mode))
}

/// One item of `trusted_proxies`.
pub(super) fn parse_trusted(text: &str) -> Result<TrustedPeer, String> {
    if text == "unix" {
        return Ok(TrustedPeer::Unix);
    }
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net = net.map_err(|_| format!("expected an address or network such as \"10.0.0.0/8\", or \"unix\"; found {text:?}"))?;
    // Whoever trusts everybody lets everybody forge addresses and forwarded requests.
    if net.prefix_len() == 0 {
        return Err(format!("{text} is everybody; name the proxies that stand in front"));
    }
    not_mapped(&net)?;
    Ok(TrustedPeer::Network(net))
}

/// Addresses are compared as IPv4 where they are: a network of IPv4 addresses in the form of IPv6 would hold nobody.
pub(super) fn not_mapped(net: &IpNet) -> Result<(), String> {
    let IpNet::V6(six) = net else { return Ok(()) };
    match six.addr().to_ipv4_mapped() {
        Some(four) if six.prefix_len() >= 96 => {
            Err(format!("expected {four}/{} in place of {net}: IPv4 is written as IPv4", six.prefix_len() - 96))
        }
        _ => Ok(()),
    }
}

/// What systemd says to a process that it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supervision {
    /// Where it wants to hear how we are.
    pub notify_socket: Option<String>,
    /// How long we may be silent.
    pub watchdog: Option<Duration>,
    /// The names of the sockets that it has opened for us, in their order.
    pub sockets: Vec<String>,
}

impl Supervision {
    /// From the variables of `sd_listen_fds(3)`, `sd_notify(3)` and `sd_watchdog_enabled(3)`; those that are meant for another process do
    /// not count.
    pub(super) fn of(environment: &BTreeMap<String, String>) -> Self {
        let own = std::process::id().to_string();
        let variable = |name: &str| environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let notify_socket = variable("NOTIFY_SOCKET").filter(|socket| socket.starts_with(['/', '@'])).map(str::to_owned);
        let watched = variable("WATCHDOG_PID").is_none_or(|pid| pid == own);
        let watchdog = variable("WATCHDOG_USEC").filter(|_| watched).and_then(|time| time.parse().ok()).filter(|time| *time > 0);
        let count = variable("LISTEN_FDS").filter(|_| variable("LISTEN_PID") == Some(&own)).and_then(|count| count.parse::<usize>().ok());
        let names = variable("LISTEN_FDNAMES").unwrap_or_default().split(':').map(str::to_owned);
        // systemd's own word where a name is not told.
        let names =
            names.chain(std::iter::repeat("unknown".to_owned())).map(|name| if name.is_empty() { "unknown".to_owned() } else { name });
        Self { notify_socket, watchdog: watchdog.map(Duration::from_micros), sockets: names.take(count.unwrap_or(0).min(1024)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_what_is_none_is_told_with_what_would_be_right() {
        for (text, shown) in [
            ("127.0.0.1:4180", Some("127.0.0.1:4180")),
            ("[::1]:4180", Some("[::1]:4180")),
            (":443", Some("[::]:443")),
            ("unix:/run/doorward.sock", Some("unix:/run/doorward.sock")),
            ("unix:/run/doorward.sock?mode=0660", Some("unix:/run/doorward.sock")),
            ("fd:https", Some("fd:https")),
            ("localhost:4180", None),
            ("4180", None),
            (":", None),
            (":65536", None),
            ("::1:4180", None),
            ("unix:", None),
            ("unix:run/doorward.sock", None),
            ("unix:/run/doorward.sock?mode=0o660", None),
            ("unix:/run/doorward.sock?mode=+660", None),
            ("unix:/run/doorward.sock?mode=1777", None),
            ("unix:/run/doorward.sock?mood=0660", None),
            ("fd:", None),
            ("fd:a:b", None),
        ] {
            let read = parse(text);
            assert_eq!(read.as_ref().map(ToString::to_string).ok().as_deref(), shown, "{text}");
            assert!(read.is_ok() || read.unwrap_err().contains("unix:/run/doorward.sock?mode=0660"));
        }
        assert_eq!(parse_unix("/a?mode=0660"), Some(("/a".into(), 0o660)));
        assert_eq!(parse_unix("/a"), Some(("/a".into(), 0o600)));
    }

    #[test]
    fn places_that_cannot_be_had_together_overlap() {
        for (one, two, both) in [
            ("0.0.0.0:80", "0.0.0.0:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("unix:/a", "unix:/a?mode=0660", true),
            ("unix:/a", "unix:/b", false),
            ("fd:a", "fd:a", true),
            ("fd:a", "fd:b", false),
        ] {
            let [one, two] = [one, two].map(|text| parse(text).unwrap());
            assert_eq!((one.overlaps(&two), two.overlaps(&one)), (both, both), "{one} {two}");
        }
    }

    #[test]
    fn networks_of_ipv4_are_written_as_such() {
        for (text, told) in [
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("::ffff:10.0.0.1", Some("10.0.0.1/32")),
            ("::ffff:0:0/96", Some("0.0.0.0/0")),
            ("10.0.0.0/8", None),
            ("2001:db8::/32", None),
            ("::1", None),
        ] {
            let read = parse_trusted(text);
            assert_eq!(read.is_ok(), told.is_none(), "{text}");
            assert!(told.is_none_or(|told| read.unwrap_err().contains(told)), "{text}");
        }
    }

    #[test]
    fn what_systemd_says_counts_for_this_process_alone() {
        let of = |variables: &[(&str, &str)]| {
            Supervision::of(&variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let own = std::process::id().to_string();
        let socket = "/run/systemd/notify";
        let all = of(&[
            ("NOTIFY_SOCKET", socket),
            ("WATCHDOG_USEC", "30000000"),
            ("WATCHDOG_PID", &own),
            ("LISTEN_PID", &own),
            ("LISTEN_FDS", "3"),
            ("LISTEN_FDNAMES", "https:http"),
        ]);
        let sockets = ["https", "http", "unknown"].map(str::to_owned).to_vec();
        assert_eq!(all, Supervision { notify_socket: Some(socket.to_owned()), watchdog: Some(Duration::from_secs(30)), sockets });
        let others =
            of(&[("WATCHDOG_USEC", "1"), ("WATCHDOG_PID", "1"), ("LISTEN_PID", "1"), ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "a")]);
        assert_eq!(others, Supervision::default());
        assert_eq!(of(&[("WATCHDOG_USEC", "0"), ("NOTIFY_SOCKET", "vsock:2:1"), ("LISTEN_FDS", "1")]), Supervision::default());
    }
}
