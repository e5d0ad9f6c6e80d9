//! `tls = { … }` of whoever the gateway calls.

use rustls_pki_types::ServerName;

use super::reader::Section;
use super::secret_file;
use crate::provider::tls::{OwnCertificate, Pin, TlsSettings};

/// Reads the table under `tls`.
pub(super) fn read_outgoing_tls(section: &Section<'_>) -> TlsSettings {
    let tls = section.section("tls");
    let ca_file = tls.file_taken_now("ca_file");
    if let Some(file) = &ca_file
        && let Err(error) = std::fs::File::open(file)
    {
        tls.problem("ca_file", format!("{} cannot be read: {error}", file.display()));
    }
    let server_name = tls.parsed("server_name", |text| {
        ServerName::try_from(text.to_owned()).map_err(|_| format!("expected a host name or an address; found {text:?}"))
    });
    let certificate = read_certificate(&tls);
    let pins = tls.parsed_list("pin_sha256", Pin::parse).unwrap_or_default();
    tls.finish();
    TlsSettings { ca_file, server_name, certificate, pins }
}

fn read_certificate(tls: &Section<'_>) -> Option<OwnCertificate> {
    let (certificate_file, key_file) = match (tls.file("certificate_file"), tls.file("key_file")) {
        (Some(certificate_file), Some(key_file)) => (certificate_file, key_file),
        (Some(_), None) if !tls.has("key_file") => {
            tls.problem("key_file", "is missing: certificate_file needs the private key that belongs to it");
            return None;
        }
        (None, Some(_)) if !tls.has("certificate_file") => {
            tls.problem("certificate_file", "is missing: key_file needs the certificate that belongs to it");
            return None;
        }
        _ => return None,
    };
    secret_file::warn_if_open(tls, "key_file", &key_file);
    let files = [("certificate_file", &certificate_file), ("key_file", &key_file)];
    let mut sound = true;
    for (key, file) in files {
        if let Err(error) = std::fs::File::open(file) {
            sound = false;
            tls.problem(key, format!("{} cannot be read: {error}", file.display()));
        }
    }
    let own = OwnCertificate { certificate_file, key_file };
    if sound && let Err(error) = own.read() {
        tls.problem("", error);
    }
    Some(own)
}
