//! `doorward explain`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use clap::ValueEnum;
use http::header::{HOST, HeaderName, HeaderValue};
use http::{Method, Request};

use super::{ConfigArgs, complain, complain_of, explained, say};
use crate::app::explain::{NotExplained, Question, Supposition};
use crate::clock::SystemClock;
use crate::config::{Sources, load};
use crate::credential::CredentialKind;
use crate::identity::Claims;
use crate::server::RequestBody;

/// Bytes of claims; more than any issuer says.
const CLAIMS_BYTES: u64 = 1 << 20;
/// Who connects where nobody is named: an address for examples (RFC 5737 §3).
const SOMEBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

const EXAMPLE: &str = r#"Examples:
  doorward explain --config doorward.toml https://app.example.com/reports --browser
  doorward explain --config doorward.toml POST https://app.example.com/orders/7 \
    --as '{"sub": "ann", "email": "ann@example.com", "email_verified": true, "groups": ["staff"]}'

Nobody is asked and nothing is written: claims are believed, credentials are not opened."#;

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Explain {
    #[command(flatten)]
    config: ConfigArgs,
    /// The method (GET, where it is left out) and the URL, as browsers know it
    #[arg(value_name = "[METHOD] URL", num_args = 1..=2, required = true)]
    request: Vec<String>,
    /// Who is supposed to be signed in, or to show a token: claims as JSON, a file of them, or - for stdin
    #[arg(long = "as", value_name = "CLAIMS")]
    claims: Option<String>,
    /// By which credential they are known; by default the one that the headers show, else a session where the route takes it
    #[arg(long, value_name = "KIND", requires = "claims")]
    kind: Option<Kind>,
    /// Who vouches for them: the id of a provider, or a token issuer; by default the `iss` of the claims, else the first that the route takes
    #[arg(long, value_name = "ID", requires = "claims")]
    provider: Option<String>,
    /// A header of the request, as often as you like; credentials among them are neither opened nor shown
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Add the headers by which a browser that goes somewhere is known
    #[arg(long)]
    browser: bool,
    /// The address that connects; by default 192.0.2.1, which is nobody's
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// A word of `accept`.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    Session,
    Bearer,
    Basic,
    ApiKey,
    Certificate,
}

/// Whatever was asked and is no question.
const USAGE: u8 = 2;

impl Explain {
    pub(super) fn execute(self, environment: BTreeMap<String, String>) -> ExitCode {
        let question = match self.question() {
            Ok(question) => question,
            Err(wrong) => {
                complain(format!("error: {wrong}"));
                return ExitCode::from(USAGE);
            }
        };
        let sources = Sources { file: self.config.config.as_deref(), environment, flags: Vec::new() };
        let config = match load(&sources) {
            Ok(config) => config,
            Err(problems) => {
                complain_of(&problems);
                return ExitCode::FAILURE;
            }
        };
        match crate::app::explain::explained(config, Arc::new(SystemClock), question) {
            Ok(told) if self.json => match serde_json::to_string_pretty(&told) {
                Ok(text) => {
                    say(text);
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    complain(format!("error: {error}"));
                    ExitCode::FAILURE
                }
            },
            Ok(told) => {
                say(explained::text(&told));
                ExitCode::SUCCESS
            }
            Err(NotExplained::Config(error)) => {
                complain(format!("error: {error}"));
                ExitCode::FAILURE
            }
            Err(NotExplained::Question(wrong)) => {
                complain(format!("error: {wrong}"));
                ExitCode::from(USAGE)
            }
        }
    }

    fn question(&self) -> Result<Question, String> {
        let (method, url) = match self.request.as_slice() {
            [url] => ("GET", url),
            [method, url] => (method.as_str(), url),
            _ => return Err("expected a method and a URL".to_owned()),
        };
        let method = Method::from_bytes(method.as_bytes()).ok().filter(|method| method.as_str() == method.as_str().to_ascii_uppercase());
        let method = method.ok_or("expected a method in capitals before the URL, such as POST")?;
        let (host, target) = split(url)?;
        let wrong = |error: http::Error| format!("{url:?} is no URL that a request can carry: {error}");
        let mut request =
            Request::builder().method(method).uri(target).header(HOST, host).body(RequestBody::whole(Bytes::new())).map_err(wrong)?;
        let headers = request.headers_mut();
        if self.browser {
            for (name, value) in BROWSER {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
        }
        for line in &self.header {
            let (name, value) = header(line)?;
            if name == HOST {
                return Err("--header: the host is the URL's".to_owned());
            }
            headers.append(name, value);
        }
        let claims = self.claims.as_deref().map(read_claims).transpose()?;
        let kind = self.kind.map(|kind| match kind {
            Kind::Session => CredentialKind::Session,
            Kind::Bearer => CredentialKind::Bearer,
            Kind::Basic => CredentialKind::Basic,
            Kind::ApiKey => CredentialKind::ApiKey,
            Kind::Certificate => CredentialKind::Certificate,
        });
        let supposition = claims.map(|claims| Supposition { claims, kind, provider: self.provider.clone() });
        Ok(Question { request, peer: self.address.unwrap_or(SOMEBODY), supposition })
    }
}

/// What a browser sends that goes somewhere (Fetch Metadata Request Headers §2).
const BROWSER: [(&str, &str); 4] =
    [("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("sec-fetch-site", "none")];

/// Host and target of a URL, to the byte: what a URL parser would tidy up is what is asked about.
fn split(url: &str) -> Result<(&str, &str), String> {
    let wrong = || format!("expected a URL such as https://app.example.com/orders/7; found {url:?}");
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).ok_or_else(wrong)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, target) = rest.split_at(end);
    // What follows a # no browser sends.
    let target = target.split('#').next().unwrap_or_default();
    if host.is_empty() {
        return Err(wrong());
    }
    match target {
        "" => Ok((host, "/")),
        target if target.starts_with('/') => Ok((host, target)),
        _ => Err(format!("expected a path before the query in {url:?}")),
    }
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = line.split_once(':').ok_or("--header: expected \"Name: value\"")?;
    let header = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| format!("--header: {name:?} is no header's name"))?;
    // The value may be a secret: it stands in no message.
    let value =
        HeaderValue::from_str(value.trim()).map_err(|_| format!("--header: the value of {header} holds bytes that no header does"))?;
    Ok((header, value))
}

fn read_claims(from: &str) -> Result<Claims, String> {
    let text = if from.trim_start().starts_with('{') {
        from.to_owned()
    } else {
        let read = |mut source: Box<dyn std::io::Read>| {
            let mut text = String::new();
            source.by_ref().take(CLAIMS_BYTES).read_to_string(&mut text).map(|_| text)
        };
        let opened = if from == "-" {
            Ok(Box::new(std::io::stdin()) as Box<dyn std::io::Read>)
        } else {
            std::fs::File::open(from).map(|file| Box::new(file) as _)
        };
        opened.and_then(read).map_err(|error| format!("--as: {from}: {error}"))?
    };
    serde_json::from_str(&text).map_err(|error| format!("--as: expected claims as one JSON object: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_to_the_byte() {
        for (url, expected) in [
            ("https://a.test", Some(("a.test", "/"))),
            ("http://a.test:8080/x/../y?z#f", Some(("a.test:8080", "/x/../y?z"))),
            ("https://a.test/%2e%2e/b", Some(("a.test", "/%2e%2e/b"))),
            ("https://a.test?x", None),
            ("https:///x", None),
            ("a.test/x", None),
        ] {
            assert_eq!(split(url).ok(), expected, "{url}");
        }
    }
}
