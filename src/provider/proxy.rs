//! An HTTP proxy between us and who is called over https: a tunnel (RFC 9110 §9.3.6), so that it learns host and port and nothing of what
//! is said.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;
use tower_service::Service;
use url::Url;

use crate::secret::{SecretSource, encode_standard};

/// What is said where a proxy's address is none. Repeats nothing of it: it may hold a password.
const EXPECTED: &str = "expected a proxy such as \"http://proxy.example.com:3128\" or \"http://user:password@proxy.example.com:3128\"";

/// A proxy, and whom it is for.
#[derive(Clone)]
pub struct Proxy {
    /// Its address, with user and password where it wants them.
    url: SecretSource,
    /// Who is reached without it; `None`: nobody.
    around: Option<Exceptions>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("around", &self.around).finish_non_exhaustive()
    }
}

impl Proxy {
    /// For every https call.
    #[must_use]
    pub fn for_all(url: SecretSource) -> Self {
        Self { url, around: None }
    }

    /// For every https call but those to this machine and to what `no_proxy` lists.
    #[must_use]
    pub fn but_for(url: SecretSource, no_proxy: &str) -> Self {
        Self { url, around: Some(Exceptions::parse(no_proxy)) }
    }

    fn is_for(&self, host: &str, port: u16) -> bool {
        self.around.as_ref().is_none_or(|around| !around.hold(host, port))
    }
}

/// Where a proxy is, read from its URL.
pub struct ProxyAddress {
    uri: Uri,
    /// Host and port, for messages.
    shown: String,
    authorization: Option<HeaderValue>,
}

impl ProxyAddress {
    /// Reads `http://user:password@host:port`; user and password may be absent and are percent-encoded.
    ///
    /// # Errors
    /// What was expected. Nothing of the text is repeated.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|_| EXPECTED.to_owned())?;
        match url.scheme() {
            "http" => {}
            "https" => return Err(format!("{EXPECTED}; one that is itself spoken to over TLS is not supported")),
            "socks4" | "socks4a" | "socks5" | "socks5h" => return Err(format!("{EXPECTED}; SOCKS is not supported")),
            _ => return Err(EXPECTED.to_owned()),
        }
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let host = url.host_str().filter(|_| bare).ok_or_else(|| EXPECTED.to_owned())?;
        let shown = format!("{host}:{}", url.port().unwrap_or(80));
        let uri = format!("http://{shown}/").parse().map_err(|_| EXPECTED.to_owned())?;
        Ok(Self { uri, authorization: authorization(&url)?, shown })
    }
}

/// RFC 7617 §2.
fn authorization(url: &Url) -> Result<Option<HeaderValue>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| EXPECTED.to_owned());
    let (user, password) = (decoded(url.username())?, decoded(url.password().unwrap_or_default())?);
    if user.contains(':') {
        return Err("the proxy's user name holds a colon, which Basic cannot say (RFC 7617 §2)".to_owned());
    }
    let value = HeaderValue::try_from(format!("Basic {}", encode_standard(format!("{user}:{password}").as_bytes())));
    let mut value = value.map_err(|_| EXPECTED.to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// `NO_PROXY`: names (they and what is below them), addresses, networks, each with or without a port; `*` is everybody. This machine is
/// always one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    place: Place,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Everywhere,
    Net(IpNet),
    Name(String),
}

impl Exceptions {
    fn parse(text: &str) -> Self {
        Self(text.split([',', ' ']).map(str::trim).filter(|item| !item.is_empty()).map(Exception::parse).collect())
    }

    fn hold(&self, host: &str, port: u16) -> bool {
        let name = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let address = name.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let own = name == "localhost" || name.ends_with(".localhost") || address.is_some_and(|address| address.is_loopback());
        own || self.0.iter().any(|exception| exception.port.is_none_or(|only| only == port) && exception.place.holds(&name, address))
    }
}

impl Exception {
    fn parse(item: &str) -> Self {
        let whole = |text: &str, port| Some(Self { place: Place::Net(net(text)?), port });
        if let Some(exception) = whole(item, None) {
            return exception;
        }
        let (host, port) = match item.rsplit_once(':').map(|(host, port)| (host, port.parse().ok())) {
            Some((host, Some(port))) => (host, Some(port)),
            _ => (item, None),
        };
        if let Some(exception) = whole(host.trim_matches(['[', ']']), port) {
            return exception;
        }
        let name = host.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
        Self { place: if name == "*" { Place::Everywhere } else { Place::Name(name) }, port }
    }
}

fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Place {
    fn holds(&self, name: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Net(net) => address.is_some_and(|address| net.contains(&address)),
            Self::Name(listed) => {
                address.is_none() && name.strip_suffix(listed.as_str()).is_some_and(|head| head.is_empty() || head.ends_with('.'))
            }
        }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;
type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, BoxError>> + Send>>;

/// Opens connections for https: straight, or as a tunnel. The proxy's address is read anew for each, so that a changed file counts.
#[derive(Clone)]
pub(super) struct Dial {
    connector: HttpConnector,
    proxy: Option<Proxy>,
}

impl Dial {
    pub(super) const fn new(connector: HttpConnector, proxy: Option<Proxy>) -> Self {
        Self { connector, proxy }
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, destination: Uri) -> Connecting {
        let (host, port) = (destination.host().unwrap_or_default().to_owned(), destination.port_u16().unwrap_or(443));
        let Some(proxy) = self.proxy.as_ref().filter(|proxy| proxy.is_for(&host, port)) else {
            let connecting = self.connector.call(destination);
            return Box::pin(async move { connecting.await.map_err(Into::into) });
        };
        let address = match ProxyAddress::parse(proxy.url.get().expose()) {
            Ok(address) => address,
            Err(wrong) => return Box::pin(async move { Err(format!("the proxy's address cannot be used: {wrong}").into()) }),
        };
        let connecting = self.connector.call(address.uri.clone());
        Box::pin(async move {
            let failed = |why: &dyn fmt::Display| BoxError::from(format!("the proxy {}: {why}", address.shown));
            let stream = connecting.await.map_err(|error| failed(&chain(&error)))?;
            tunnel(stream, &format!("{host}:{port}"), address.authorization.as_ref()).await.map_err(|why| failed(&why))
        })
    }
}

/// Asks for the tunnel and gives the stream back when it stands.
async fn tunnel(stream: TokioIo<TcpStream>, authority: &str, authorization: Option<&HeaderValue>) -> Result<TokioIo<TcpStream>, String> {
    let broken = |error: hyper::Error| format!("no tunnel to {authority}: {}", chain(&error));
    let (mut sender, mut connection) = http1::handshake::<_, Empty<Bytes>>(stream).await.map_err(broken)?;
    let mut request = Request::connect(authority).body(Empty::new()).map_err(|error| error.to_string())?;
    // What the connection is for: `Host` of a CONNECT is its target (RFC 9110 §7.2).
    request.headers_mut().insert(HOST, HeaderValue::try_from(authority).map_err(|error| error.to_string())?);
    request.headers_mut().extend(authorization.map(|value| (PROXY_AUTHORIZATION, value.clone())));
    let answer = {
        let mut asked = pin!(sender.send_request(request));
        poll_fn(|cx| {
            // The connection moves only while it is polled; what it ends with the answer tells.
            let ended = connection.poll_without_shutdown(cx);
            match asked.as_mut().poll(cx) {
                Poll::Pending if ended.is_ready() => asked.as_mut().poll(cx),
                answer => answer,
            }
        })
        .await
        .map_err(broken)?
    };
    judge(&answer, authority)?;
    poll_fn(|cx| {
        let _ = ready!(connection.poll_without_shutdown(cx));
        Poll::Ready(())
    })
    .await;
    let parts = connection.into_parts();
    // In TLS we speak first: whoever spoke already is no tunnel.
    if parts.read_buf.is_empty() { Ok(parts.io) } else { Err(format!("sent bytes of its own into the tunnel to {authority}")) }
}

/// RFC 9110 §9.3.6: any 2xx is the tunnel.
fn judge(answer: &Response<Incoming>, authority: &str) -> Result<(), String> {
    match answer.status() {
        status if status.is_success() => Ok(()),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Err("answered 407: it wants another user name and password than those in its address".to_owned())
        }
        status => Err(format!("answered {} when asked for {authority}", status.as_u16())),
    }
}

/// An error with its causes, outermost first.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_never_repeated() {
        let read = |text: &str| ProxyAddress::parse(text).map(|address| (address.shown, address.authorization));
        let basic = |pair: &str| Some(HeaderValue::try_from(format!("Basic {}", encode_standard(pair.as_bytes()))).unwrap());
        for (text, shown, authorization) in [
            ("http://proxy:3128", "proxy:3128", None),
            ("http://10.0.0.1", "10.0.0.1:80", None),
            ("http://[::1]:3128/", "[::1]:3128", None),
            ("http://ann:s3cret@proxy:3128", "proxy:3128", basic("ann:s3cret")),
            ("http://ann:p%40ss%3A%20%C3%A4@proxy:3128", "proxy:3128", basic("ann:p@ss: ä")),
            ("http://ann@proxy:3128", "proxy:3128", basic("ann:")),
        ] {
            assert_eq!(read(text), Ok((shown.to_owned(), authorization)), "{text}");
        }
        for text in [
            "",
            "proxy:3128",
            "http://",
            "https://ann:s3cret@proxy:3128",
            "socks5://ann:s3cret@proxy:1080",
            "ftp://ann:s3cret@proxy",
            "http://ann:s3cret@proxy:3128/path",
            "http://ann:s3cret@proxy:3128/?a",
            "http://ann:s3cret@proxy:3128#a",
            "http://ann:s3cret@proxy:99999",
            "http://a%3An:s3cret@proxy:3128",
            "http://ann:s3cret%ff@proxy:3128",
        ] {
            let said = read(text).unwrap_err();
            assert!(!said.contains("s3cret") && !said.contains("99999"), "{text}: {said}");
        }
        assert!(!format!("{:?}", Proxy::for_all(SecretSource::fixed(crate::secret::Secret::new("http://s3cret@p")))).contains("s3cret"));
    }

    #[test]
    fn what_is_listed_is_reached_without_it() {
        let proxy = Proxy::but_for(
            SecretSource::fixed(crate::secret::Secret::new("http://p")),
            "internal, .corp.test,*.wild.test,10.0.0.0/8, 192.0.2.7,[2001:db8::1]:8443,only.test:8443",
        );
        for (host, port, through) in [
            ("login.example.com", 443, true),
            ("internal", 443, false),
            ("a.internal", 443, false),
            ("notinternal", 443, true),
            ("corp.test", 443, false),
            ("LOGIN.Corp.Test.", 443, false),
            ("mycorp.test", 443, true),
            ("a.wild.test", 443, false),
            ("10.20.30.40", 443, false),
            ("11.20.30.40", 443, true),
            ("192.0.2.7", 8443, false),
            ("[2001:db8::1]", 8443, false),
            ("[2001:db8::1]", 443, true),
            ("only.test", 8443, false),
            ("only.test", 443, true),
            ("localhost", 443, false),
            ("a.localhost", 443, false),
            ("127.1.2.3", 443, false),
            ("[::1]", 443, false),
            ("[::ffff:127.0.0.1]", 443, false),
        ] {
            assert_eq!(proxy.is_for(host, port), through, "{host}:{port}");
        }
        let secret = || SecretSource::fixed(crate::secret::Secret::new("http://p"));
        assert!(!Proxy::but_for(secret(), "*").is_for("login.example.com", 443));
        assert!(Proxy::but_for(secret(), "").is_for("login.example.com", 443));
        assert!(Proxy::for_all(secret()).is_for("localhost", 443));
    }
}
