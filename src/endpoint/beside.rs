//! What comes beside a credential, read from a request and its connection.

use http::HeaderMap;

use super::Visit;
use crate::authenticate::{Beside, Shown};
use crate::credential::PeerCertificate;

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
