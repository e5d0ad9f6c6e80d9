//! `[tracing]`: where traces are sent, and how many.

use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue};
use url::Url;

use super::gateway::is_loopback;
use super::outgoing::read_outgoing_tls;
use super::reader::Section;
use super::secret_file;
use crate::provider::tls::TlsSettings;
use crate::secret::{Secret, SecretSource};

/// Where traces are sent, and how many.
#[derive(Clone)]
pub struct Tracing {
    /// The collector, with its path.
    pub endpoint: Url,
    /// From 0 to 1.
    pub sample: f64,
    /// As whom they are sent.
    pub service_name: String,
    /// What the collector wants to see, as [`collector_headers`] reads it.
    pub headers: Option<SecretSource>,
    /// The TLS of the call.
    pub tls: TlsSettings,
}

pub(super) fn read(root: &Section<'_>) -> Option<Tracing> {
    let section = root.section("tracing");
    let endpoint = section.parsed("endpoint", parse_endpoint);
    let sample = section.fraction("sample", 0.1);
    let service_name = section.text("service_name").unwrap_or_else(|| "doorward".to_owned());
    let headers = read_headers(&section);
    let tls = read_outgoing_tls(&section);
    if !section.has("endpoint") {
        if let Some(key) = ["sample", "service_name", "headers", "headers_file", "tls"].into_iter().find(|key| section.has(key)) {
            section.problem(
                "endpoint",
                format!("is missing beside {key}: where traces are sent, such as endpoint = \"http://127.0.0.1:4318/v1/traces\""),
            );
        }
        section.finish();
        return None;
    }
    section.finish();
    let endpoint = endpoint?;
    if endpoint.scheme() == "http" && !is_loopback(&endpoint) {
        if headers.is_some() {
            section.problem("endpoint", "is plain http off this machine: headers would cross the network in the clear; use https");
        } else {
            section.warning(
                "endpoint",
                "is plain http off this machine: hosts, paths and addresses of requests cross the network in the clear",
            );
        }
    }
    if endpoint.scheme() == "http" && section.has("tls") {
        section.problem("tls", "stands beside an http endpoint, where it does nothing; write https, or leave it out");
    }
    Some(Tracing { endpoint, sample, service_name, headers, tls })
}

fn parse_endpoint(text: &str) -> Result<Url, String> {
    // The text is not repeated: people write tokens into URLs.
    let wrong = |what: &str| format!("expected {what}, such as \"http://127.0.0.1:4318/v1/traces\"");
    let url = Url::parse(text).map_err(|_| wrong("a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("an http or https URL (OTLP over HTTP; gRPC is not spoken)"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(wrong("a URL without user, password and fragment; a collector's token belongs into headers_file"));
    }
    if url.path() == "/" {
        return Err(wrong("the whole URL with its path: collectors take traces at /v1/traces"));
    }
    Ok(url)
}

/// Written in the config, or in a file of lines.
fn read_headers(section: &Section<'_>) -> Option<SecretSource> {
    let given = section.texts("headers");
    if section.has("headers") && section.has("headers_file") {
        section.problem("headers", "stands beside headers_file; give one of them");
        return None;
    }
    if section.has("headers") {
        for (name, _) in given.iter().filter(|(_, value)| value.trim().is_empty()) {
            section.problem("headers", format!("{name} is empty; write its value, or remove it"));
        }
        let lines = given
            .iter()
            .filter(|(_, value)| !value.trim().is_empty())
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect::<String>();
        if given.iter().any(|(_, value)| value.contains(['\r', '\n'])) {
            section.problem("headers", "holds a line break in a value");
            return None;
        }
        return checked(section, "headers", SecretSource::fixed(Secret::new(lines)));
    }
    let file = secret_file::read_from_file(section, "headers_file", 1)?;
    checked(section, "headers_file", file)
}

fn checked(section: &Section<'_>, key: &str, source: SecretSource) -> Option<SecretSource> {
    match collector_headers(&source.get()) {
        Ok(_) => Some(source),
        Err(wrong) => {
            section.problem(key, wrong);
            None
        }
    }
}

/// Lines of `Name: value`; empty ones, and those that begin with `#`, say nothing.
///
/// # Errors
/// Which line is wrong and how; no value is quoted.
pub fn collector_headers(text: &Secret) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let lines = text.expose().lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let headers: Result<Vec<_>, String> =
        lines.map(|(index, line)| read_line(line).map_err(|wrong| format!("line {}: {wrong}", index + 1))).collect();
    match headers {
        Ok(headers) if headers.is_empty() => Err("holds no header; expected lines such as \"Authorization: Bearer …\"".to_owned()),
        other => other,
    }
}

fn read_line(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    const OURS: [HeaderName; 6] = [CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING];
    let (name, value) = line.split_once(':').ok_or("expected a name, a colon and a value")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| "the name is no header's")?;
    if OURS.contains(&name) {
        return Err(format!("{name} says how the request is framed, and is the gateway's own"));
    }
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| "the value fits in no header")?;
    if value.is_empty() {
        return Err("the value is empty".to_owned());
    }
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests;
