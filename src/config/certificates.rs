//! `[client_certificate]`: how certificates of those who connect count.

use http::HeaderName;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};

use super::reader::Section;
use crate::authenticate::CertificateName;

/// How certificates of those who connect count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// In which header trusted proxies tell of one (RFC 9440).
    pub header: Option<HeaderName>,
    /// Which of its names is `sub`.
    pub name: CertificateName,
    /// `iss` of those who are known by one.
    pub issuer: String,
}

const NAMES: [CertificateName; 4] =
    [CertificateName::SubjectDn, CertificateName::SanDns, CertificateName::SanUri, CertificateName::SanEmail];

/// `origin` is that of the first `public_url`.
pub(super) fn read(root: &Section<'_>, origin: &str) -> ClientCertificates {
    let section = root.section("client_certificate");
    let header = section.parsed("header", |text| {
        let taken = [AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING];
        let name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|name| !taken.contains(name) && !text.contains('_'));
        name.ok_or_else(|| format!("expected the name of a header for this alone, such as \"Client-Cert\"; found {text:?}"))
    });
    if header.is_some() && !root.has("trusted_proxies") {
        section.problem("header", "is believed from trusted_proxies only, and there are none; name the proxies that stand in front");
    }
    let words = NAMES.map(|name| (name.as_str(), name));
    let name = section.choice("user", CertificateName::SubjectDn, &words);
    let issuer = section.text("issuer").unwrap_or_else(|| format!("{origin}/client_certificate"));
    section.finish();
    ClientCertificates { header, name, issuer }
}
