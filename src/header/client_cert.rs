//! The certificate of whom a proxy speaks for, as RFC 9440 §2.2 writes it: one structured-field byte sequence (RFC 8941 §3.3.5) of the DER.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{HeaderMap, HeaderName};

use crate::credential::PeerCertificate;
use crate::fault::Fault;
use crate::reason::Reason;

/// RFC 8941 §4.2.7: neither missing padding nor bits that stand over are a reason to fail.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// The certificate in this header; `None` where it is not there. Whether its sender is to be believed is to be known before.
///
/// # Errors
/// When it is there twice, or is anything but one byte sequence without parameters (§2.2 defines none).
pub fn forwarded_certificate(headers: &HeaderMap, name: &HeaderName) -> Result<Option<PeerCertificate>, Fault> {
    let unreadable = |detail: String| Fault::new(Reason::CertificateUnreadable, detail);
    let mut lines = headers.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(unreadable(format!("{name} is there twice")));
    }
    let der = bytes(line.as_bytes()).ok_or_else(|| unreadable(format!("{name} is no byte sequence (RFC 9440 section 2.2)")))?;
    Ok(Some(PeerCertificate::new(der)))
}

fn bytes(value: &[u8]) -> Option<Vec<u8>> {
    let inner = value.trim_ascii().strip_prefix(b":")?.strip_suffix(b":")?;
    let der = BASE64.decode(inner).ok()?;
    (!der.is_empty()).then_some(der)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(lines: &[&str]) -> Result<Option<Vec<u8>>, Reason> {
        let name = HeaderName::from_static("client-cert");
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        forwarded_certificate(&headers, &name).map(|found| found.map(|found| found.der)).map_err(|fault| fault.reason)
    }

    #[test]
    fn one_byte_sequence_is_a_certificate() {
        assert_eq!(read(&[]), Ok(None));
        for line in [":AQIDBA==:", ":AQIDBA:", " :AQIDBA==: ", ":AQIDBB==:"] {
            assert_eq!(read(&[line]), Ok(Some(vec![1, 2, 3, 4])), "{line}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for line in [
            "",
            ":",
            "::",
            ":AQIDBA==",
            "AQIDBA==:",
            "AQIDBA==",
            "\"AQIDBA==\"",
            ":AQ IDBA==:",
            ":AQIDB_==:",
            ":AQIDBA==:;a=1",
            ":AQIDBA==:, :AQIDBA==:",
            ":AQIDBA===:",
            ":%41QIDBA==:",
            "-----BEGIN CERTIFICATE-----",
        ] {
            assert_eq!(read(&[line]), Err(Reason::CertificateUnreadable), "{line}");
        }
        assert_eq!(read(&[":AQIDBA==:", ":AQIDBA==:"]), Err(Reason::CertificateUnreadable));
    }
}
