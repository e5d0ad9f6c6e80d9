//! Whose a server's certificate is: its DNS names.

use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// The DNS names of a certificate (RFC 5280 §4.2.1.6), in lower case; those that begin with `*.` cover one label (RFC 6125 §6.4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames(Vec<String>);

impl ServerNames {
    /// Of a certificate with its key; none where it cannot be read.
    pub(super) fn of_key(key: &CertifiedKey) -> Self {
        key.cert.first().map(|certificate| Self::of(certificate)).unwrap_or_default()
    }

    fn of(der: &[u8]) -> Self {
        let names = Certificate::from_der(der).ok().and_then(|certificate| {
            let extensions = certificate.tbs_certificate();
            let (_, names) = extensions.get_extension::<SubjectAltName>().ok()??;
            let dns = |name| if let GeneralName::DnsName(name) = name { Some(name.as_str().to_ascii_lowercase()) } else { None };
            Some(names.0.into_iter().filter_map(dns).collect())
        });
        Self(names.unwrap_or_default())
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether this very name, in lower case, stands in it.
    pub(super) fn hold(&self, name: &str) -> bool {
        self.0.iter().any(|own| own == name)
    }

    /// Whether a name with a `*` covers this one.
    pub(super) fn cover(&self, name: &str) -> bool {
        let Some((label, parent)) = name.split_once('.') else { return false };
        !label.is_empty() && self.0.iter().any(|own| own.strip_prefix("*.") == Some(parent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> ServerNames {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        ServerNames::of(rcgen::generate_simple_self_signed(names).unwrap().cert.der())
    }

    #[test]
    fn names_are_held_exactly_and_a_star_covers_one_label() {
        let names = of(&["App.Test", "*.w.test", "10.0.0.1"]);
        assert_eq!(names.iter().collect::<Vec<_>>(), ["app.test", "*.w.test"]);
        assert!(names.hold("app.test") && !names.hold("www.app.test") && !names.hold("10.0.0.1"));
        assert!(names.cover("a.w.test"));
        for name in ["w.test", "a.b.w.test", ".w.test", "app.test", "xw.test", ""] {
            assert!(!names.cover(name), "{name}");
        }
        assert_eq!(of(&[]), ServerNames::default());
        assert_eq!(ServerNames::of(b"no certificate"), ServerNames::default());
    }
}
