//! What comes beside a credential, read from a request and its connection.

use std::sync::Arc;

use http::header::HeaderMap;

use super::{Gateway, Visit};
use crate::authenticate::{Beside, Shown};
use crate::credential::{CredentialKind, PeerCertificate};
use crate::fault::Fault;
use crate::header::{forwarded_certificate, names_another};
use crate::route::Accept;
use crate::server::ConnectionInfo;

/// Where a request may show something, and what comes beside it.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) headers: &'a HeaderMap,
    /// The query as it came, where a token was taken out of it; else there is none in it.
    pub(super) query: Option<&'a str>,
    /// The urlencoded body, where it was read before the decision.
    pub(super) form: Option<&'a [u8]>,
    /// Of whoever sent the request; in forward-auth never the front proxy's own.
    pub(super) certificate: Option<&'a PeerCertificate>,
}

impl<'a> Around<'a> {
    /// Headers alone.
    pub(super) const fn headers(headers: &'a HeaderMap) -> Self {
        Self { headers, query: None, form: None, certificate: None }
    }

    pub(super) const fn shown(&self) -> Shown<'a> {
        Shown { headers: self.headers, query: self.query, form: self.form, certificate: self.certificate }
    }

    pub(super) fn beside<'b>(&self, visit: &'b Visit<'_>) -> Beside<'b>
    where
        'a: 'b,
    {
        Beside { facts: visit.facts, headers: self.headers, certificate: self.certificate }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtherEnd {
    /// Whoever sent the request, or a proxy that says for whom it speaks.
    Sender,
    /// A front proxy that asks about somebody else's request.
    FrontProxy,
}

/// The certificate of whoever sent a request. Where the config names a header for it (RFC 9440), a trusted proxy is believed and its own
/// certificate counts for nothing; a header from anybody else is not even read. Where it names none, a trusted proxy that says that it speaks for
/// somebody else shows nobody's certificate: its own is not theirs.
pub(super) fn certificate(
    gateway: &Gateway,
    headers: &HeaderMap,
    info: &ConnectionInfo,
    other_end: OtherEnd,
) -> Result<Option<Arc<PeerCertificate>>, Fault> {
    let settings = &gateway.settings;
    match &settings.client_certificate_header {
        Some(name) if settings.trusted_proxies.hold(info.peer) => Ok(forwarded_certificate(headers, name)?.map(Arc::new)),
        _ if other_end == OtherEnd::FrontProxy || speaks_for_another(gateway, headers, info) => Ok(None),
        _ => Ok(info.certificate.clone()),
    }
}

fn speaks_for_another(gateway: &Gateway, headers: &HeaderMap, info: &ConnectionInfo) -> bool {
    gateway.settings.trusted_proxies.hold(info.peer) && names_another(headers, &gateway.settings.address_source)
}

/// The same where the route may need it.
pub(super) fn certificate_for(
    visit: &Visit<'_>,
    accept: &Accept,
    headers: &HeaderMap,
    info: &ConnectionInfo,
    other_end: OtherEnd,
) -> Result<Option<Arc<PeerCertificate>>, Fault> {
    let counts = accept.takes(CredentialKind::Certificate) || accept.takes(CredentialKind::Bearer);
    if counts { certificate(visit.gateway, headers, info, other_end) } else { Ok(None) }
}
