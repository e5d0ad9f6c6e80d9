//! Somebody by a certificate: whom it names, by the kind of name that the config says. Who signed it was checked in the handshake, or by the
//! trusted proxy that named it.

use std::sync::Arc;

use serde_json::{Value, json};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::{Authenticator, Beside, Outcome};
use crate::clock::{SharedClock, UnixTime};
use crate::credential::{Authenticated, Authentication, CredentialKind, PeerCertificate};
use crate::fault::Fault;
use crate::identity::{Claims, Email, Groups, Identity, Scopes, Source, Text};
use crate::reason::Reason;
use crate::secret::encode;

/// How certificates count.
pub struct Certificates {
    /// `iss` of those who are known by one.
    pub issuer: String,
    /// Which of its names is `sub`.
    pub name: CertificateName,
    /// Whether any can be seen here.
    pub means: CertificateMeans,
    /// By which one is over.
    pub clock: SharedClock,
}

/// The names that a certificate may hold, by the words of RFC 8705 §2.1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// The subject as a text (RFC 4514).
    SubjectDn,
    /// A DNS name.
    SanDns,
    /// A URI.
    SanUri,
    /// An e-mail address; it counts as verified.
    SanEmail,
}

/// Whether certificates can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateMeans {
    /// The listener asks for them, or a trusted proxy tells of them.
    There,
    /// Nobody is asked.
    Absent,
}

impl Authenticator {
    pub(super) fn by_certificate(&self, beside: &Beside<'_>) -> Outcome {
        let identity = match beside.certificate {
            Some(certificate) => self.certificates.identity(certificate),
            None => Err(Fault::new(Reason::Internal, "a certificate counts that is not there")),
        };
        Outcome::without_session(match identity {
            Ok(identity) => Authentication::Authenticated(Authenticated { identity: Arc::new(identity), by: CredentialKind::Certificate }),
            Err(fault) => Authentication::Rejected(fault),
        })
    }
}

impl Certificates {
    fn identity(&self, certificate: &PeerCertificate) -> Result<Identity, Fault> {
        let unreadable = || Fault::new(Reason::CertificateUnreadable, "it is no X.509 certificate that can be read");
        let parsed = Certificate::from_der(&certificate.der).map_err(|_| unreadable())?;
        let inner = parsed.tbs_certificate();
        // A resumed TLS session, or a proxy's, may be older than the end of its certificate.
        let [from, until] =
            [inner.validity().not_before, inner.validity().not_after].map(|time| UnixTime(time.to_unix_duration().as_secs()));
        let now = self.clock.now();
        if now < from || now > until {
            return Err(Fault::new(Reason::CertificateExpired, format!("good from {from} until {until}, it is {now}")));
        }
        let names = Names::of(&parsed).ok_or_else(unreadable)?;
        let sub = names.only(self.name).ok_or_else(|| {
            Fault::new(Reason::CertificateNameless, format!("it holds no {:?}, or several, or one that no name can be", self.name.as_str()))
        })?;
        let claims = json!({
            "iss": self.issuer, "sub": sub, "subject_dn": names.subject, "issuer_dn": inner.issuer().to_string(),
            "san_dns": names.dns, "san_uri": names.uri, "san_email": names.email, "x5t#S256": encode(&certificate.thumbprint),
        });
        let claims = match claims {
            Value::Object(claims) => claims,
            _ => Claims::new(),
        };
        Ok(self.known_as(sub, claims))
    }

    /// Whoever a certificate of this name and these claims is of.
    #[must_use]
    pub fn known_as(&self, sub: String, claims: Claims) -> Identity {
        let sub = Text::from(sub);
        Identity {
            issuer: self.issuer.as_str().into(),
            source: Source::Certificate,
            user: sub.clone(),
            email: if self.name == CertificateName::SanEmail { Email::Verified(sub.clone()) } else { Email::Absent },
            preferred_username: None,
            groups: Groups::Listed(Vec::new()),
            scopes: Scopes::default(),
            auth_time: None,
            claims: claims.into(),
            sub,
        }
    }
}

impl CertificateName {
    /// The word in the config.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SubjectDn => "subject_dn",
            Self::SanDns => "san_dns",
            Self::SanUri => "san_uri",
            Self::SanEmail => "san_email",
        }
    }
}

/// What a certificate is called.
struct Names {
    subject: String,
    dns: Vec<String>,
    uri: Vec<String>,
    email: Vec<String>,
}

impl Names {
    /// `None` where the names cannot be read: one that is not understood might be the one that counts.
    fn of(certificate: &Certificate) -> Option<Self> {
        let inner = certificate.tbs_certificate();
        let mut names = Self { subject: inner.subject().to_string(), dns: Vec::new(), uri: Vec::new(), email: Vec::new() };
        let alternatives = inner.get_extension::<SubjectAltName>().ok()?.map(|(_, names)| names.0).unwrap_or_default();
        for name in alternatives {
            match name {
                GeneralName::DnsName(name) => names.dns.push(name.to_string()),
                GeneralName::UniformResourceIdentifier(name) => names.uri.push(name.to_string()),
                GeneralName::Rfc822Name(name) => names.email.push(name.to_string()),
                _ => {}
            }
        }
        Some(names)
    }

    /// The one name of this kind. Two are none: nobody could say which is meant.
    fn only(&self, kind: CertificateName) -> Option<String> {
        let name = match kind {
            CertificateName::SubjectDn => &self.subject,
            CertificateName::SanDns => only(&self.dns)?,
            CertificateName::SanUri => only(&self.uri)?,
            CertificateName::SanEmail => only(&self.email)?,
        };
        let sound = !name.is_empty() && name.len() <= 1024 && !name.chars().any(char::is_control);
        sound.then(|| name.clone())
    }
}

fn only(names: &[String]) -> Option<&String> {
    match names {
        [one] => Some(one),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;
    use crate::clock::ManualClock;

    fn certificate(names: &[SanType], subject: &[(DnType, &str)]) -> PeerCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = names.to_vec();
        PeerCertificate::new(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec())
    }

    fn known_by(name: CertificateName, certificate: &PeerCertificate) -> Result<Identity, Reason> {
        let clock: SharedClock = Arc::new(ManualClock::default());
        let certificates = Certificates { issuer: "https://pki.test".into(), name, means: CertificateMeans::There, clock };
        certificates.identity(certificate).map_err(|fault| fault.reason)
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().unwrap())
    }

    #[test]
    fn a_certificate_is_known_by_the_kind_of_name_that_counts() {
        use CertificateName::{SanDns, SanEmail, SanUri, SubjectDn};
        let email = SanType::Rfc822Name("ann@example.test".try_into().unwrap());
        let all = [dns("svc.example.test"), uri("spiffe://example.test/svc"), email, SanType::IpAddress("10.0.0.1".parse().unwrap())];
        let subject = [(DnType::OrganizationName, "Acme, Inc."), (DnType::CommonName, "svc")];
        let whole = certificate(&all, &subject);
        for (name, sub) in [
            (SubjectDn, "CN=svc,O=Acme\\, Inc."),
            (SanDns, "svc.example.test"),
            (SanUri, "spiffe://example.test/svc"),
            (SanEmail, "ann@example.test"),
        ] {
            let identity = known_by(name, &whole).unwrap();
            assert_eq!((identity.issuer.as_str(), identity.sub.as_str(), identity.user.as_str()), ("https://pki.test", sub, sub));
            assert_eq!(identity.email.verified().is_some(), name == SanEmail);
            assert_eq!(identity.claims["san_uri"], json!(["spiffe://example.test/svc"]));
        }
        for (name, names, subject) in [
            (SubjectDn, &all[..], &[][..]),
            (SanDns, &all[1..], &subject[..]),
            (SanUri, &all[..1], &subject),
            (SanEmail, &all[..2], &subject),
            (SanDns, &[dns("a.test"), dns("b.test")], &subject),
            (SanUri, &[uri("a:b"), uri("a:c")], &subject),
        ] {
            assert_eq!(known_by(name, &certificate(names, subject)).unwrap_err(), Reason::CertificateNameless, "{name:?}");
        }
    }

    #[test]
    fn whatever_bit_is_turned_nothing_panics() {
        let good = certificate(&[dns("a.test"), uri("a:b")], &[(DnType::CommonName, "svc")]).der;
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bent = good.clone();
                bent[at] ^= 1 << bit;
                let _ = known_by(CertificateName::SanUri, &PeerCertificate::new(bent));
            }
            let _ = known_by(CertificateName::SubjectDn, &PeerCertificate::new(good[..at].to_vec()));
        }
    }

    #[test]
    fn it_counts_in_its_time_only_and_only_as_a_whole() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "svc");
        for (from, until) in [(1990, 2000), (2090, 2100)] {
            (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(until, 1, 1));
            let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
            assert_eq!(known_by(CertificateName::SubjectDn, &PeerCertificate::new(der)).unwrap_err(), Reason::CertificateExpired);
        }
        let good = certificate(&[dns("a.test")], &[(DnType::CommonName, "svc")]).der;
        for der in [Vec::new(), b"abc".to_vec(), good[..good.len() - 1].to_vec(), [&good[..], b"x"].concat()] {
            let read = known_by(CertificateName::SubjectDn, &PeerCertificate::new(der));
            assert_eq!(read.unwrap_err(), Reason::CertificateUnreadable);
        }
    }
}
