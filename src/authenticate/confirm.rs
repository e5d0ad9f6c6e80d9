//! Whether what a token is bound to was proven beside it: a key by DPoP (RFC 9449 §7.1), a certificate by the connection (RFC 8705 §3).

use http::HeaderValue;

use super::{Authenticator, Beside, CertificateMeans};
use crate::credential::{PresentedToken, TokenScheme};
use crate::fault::{Fault, Outage};
use crate::reason::Reason;
use crate::route::{Accept, Bound};
use crate::secret::encode;
use crate::token::Confirmation;
use crate::verify::dpop::{Checked, ProofFor};

impl Authenticator {
    /// Checks every binding that the token has, and that it has those that the route asks for.
    pub(super) async fn confirm(
        &self,
        shown: &PresentedToken,
        bound: Option<&Confirmation>,
        accept: &Accept,
        beside: &Beside<'_>,
    ) -> Result<Checked, Outage> {
        let refused = |reason, detail: &str| Ok(Checked { proven: Err(Fault::new(reason, detail)), nonce: None });
        let jkt = bound.and_then(|bound| bound.jkt.as_deref());
        let certificate = bound.and_then(|bound| bound.x5t_s256.as_deref());
        if let Some(thumbprint) = certificate
            && let Err(fault) = self.confirm_certificate(thumbprint, beside)
        {
            return Ok(Checked { proven: Err(fault), nonce: None });
        }
        if certificate.is_none() && accept.binding.certificate == Bound::Required {
            return refused(Reason::CertificateRequired, "the route takes certificate-bound tokens only, and this one has no cnf.x5t#S256");
        }
        match (jkt, shown.scheme) {
            (Some(jkt), TokenScheme::Dpop) => {
                let Beside { facts, headers, .. } = *beside;
                let proof = ProofFor { facts, headers, token: &shown.token, jkt, nonce: accept.binding.nonce };
                Box::pin(self.dpop.check(&proof)).await
            }
            // RFC 9449 §7.2: a bound token that comes as a plain one is refused, whatever comes beside it.
            (Some(_), TokenScheme::Bearer) => refused(Reason::TokenBound, "bound by DPoP (cnf.jkt) and shown as a bearer token"),
            (None, _) if accept.binding.dpop == Bound::Required => {
                refused(Reason::DpopRequired, "the route takes DPoP-bound tokens only, and this one has no cnf.jkt")
            }
            (None, TokenScheme::Dpop) => refused(Reason::DpopUnbound, "shown as DPoP, and bound to no key (cnf.jkt)"),
            (None, TokenScheme::Bearer) => Ok(Checked { proven: Ok(()), nonce: None }),
        }
    }

    /// RFC 8705 §3.1: the hash of the certificate, in base64url.
    fn confirm_certificate(&self, thumbprint: &str, beside: &Beside<'_>) -> Result<(), Fault> {
        let Some(certificate) = beside.certificate else {
            if self.certificates.means == CertificateMeans::Absent {
                let detail = "bound to a certificate (cnf.x5t#S256), and nobody is asked for one here (tls.client_ca_file)";
                return Err(Fault::new(Reason::TokenBound, detail));
            }
            return Err(Fault::new(Reason::CertificateMissing, "bound to a certificate (cnf.x5t#S256), and none was shown"));
        };
        if encode(&certificate.thumbprint) == thumbprint {
            return Ok(());
        }
        Err(Fault::new(Reason::CertificateMismatch, "cnf.x5t#S256 is not the certificate that was shown"))
    }
}

/// Sends a nonce along, where one is due.
pub fn with_nonce<B>(response: &mut http::Response<B>, nonce: Option<HeaderValue>) {
    if let Some(nonce) = nonce {
        response.headers_mut().insert(crate::verify::dpop::DPOP_NONCE, nonce);
    }
}
