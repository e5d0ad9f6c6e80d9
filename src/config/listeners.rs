//! `[tls]`: what the serving listener shows.

use std::path::PathBuf;

use super::reader::Section;
use super::secret_file;

/// Certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM, leaf first.
    pub certificate_file: PathBuf,
    /// PEM.
    pub key_file: PathBuf,
    /// PEM: who may sign the certificates of those who connect; `None`: nobody is asked for one.
    pub client_ca_file: Option<PathBuf>,
}

pub(super) fn read_tls(root: &Section<'_>) -> Option<Tls> {
    let section = root.section("tls");
    let certificate_file = section.file("certificate_file");
    let key_file = section.file("key_file");
    let client_ca_file = section.file("client_ca_file");
    section.finish();
    if client_ca_file.is_some() && certificate_file.is_none() && key_file.is_none() {
        section.problem(
            "client_ca_file",
            "stands without certificate_file and key_file: it is for TLS that ends here; where a proxy ends it, write client_certificate.header",
        );
    }
    match (certificate_file, key_file) {
        (Some(certificate_file), Some(key_file)) => {
            let files = [("certificate_file", &certificate_file), ("key_file", &key_file)];
            for (key, file) in files.into_iter().chain(client_ca_file.iter().map(|file| ("client_ca_file", file))) {
                if let Err(error) = std::fs::File::open(file) {
                    section.problem(key, format!("{} cannot be read: {error}", file.display()));
                }
            }
            secret_file::warn_if_open(&section, "key_file", &key_file);
            Some(Tls { certificate_file, key_file, client_ca_file })
        }
        (None, None) => None,
        (Some(_), None) => {
            section.problem("key_file", "is missing beside certificate_file");
            None
        }
        (None, Some(_)) => {
            section.problem("certificate_file", "is missing beside key_file");
            None
        }
    }
}
