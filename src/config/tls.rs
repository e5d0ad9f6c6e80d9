//! `[tls]`, or `[[tls]]` several times: what the serving listeners show, and whom they ask.

use std::path::PathBuf;

use super::reader::Section;
use super::secret_file;
use crate::server::{CertificateFiles, TlsSettings, TlsVersion};

const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

pub(super) fn read(root: &Section<'_>) -> Option<TlsSettings> {
    let mut tables = root.sections("tls");
    if tables.is_empty() {
        // Its keys are known all the same.
        tables.push(root.section("tls"));
    }
    let mut settings = TlsSettings { certificates: Vec::new(), client_ca_file: None, min_version: TlsVersion::Tls12 };
    for (index, section) in tables.iter().enumerate() {
        if index > 0 {
            for key in ["client_ca_file", "min_version"] {
                if section.has(key) {
                    section.problem(
                        key,
                        "counts for all names, since one connection may be used for several: write it in the first [[tls]] table, and let routes say who has to show a certificate",
                    );
                }
            }
        }
        let files = certificate(section);
        if files.is_none() && tables.len() > 1 && !section.has("certificate_file") && !section.has("key_file") {
            section.problem("certificate_file", "is missing: each [[tls]] table names a certificate and its key");
        }
        settings.certificates.extend(files);
        let client_ca_file = section.file("client_ca_file");
        let min_version = section.choice("min_version", TlsVersion::Tls12, &VERSIONS);
        section.finish();
        if index == 0 {
            authorities(section, client_ca_file.as_ref());
            settings = TlsSettings { client_ca_file, min_version, ..settings };
        }
    }
    if tables.len() > 1 {
        warn_of_doubles(&tables, &settings.certificates);
    }
    (!settings.certificates.is_empty()).then_some(settings)
}

fn certificate(section: &Section<'_>) -> Option<CertificateFiles> {
    let [certificate_file, key_file] = ["certificate_file", "key_file"].map(|key| section.file(key));
    match (certificate_file, key_file) {
        (Some(certificate_file), Some(key_file)) => {
            readable(section, "certificate_file", &certificate_file);
            readable(section, "key_file", &key_file);
            secret_file::warn_if_open(section, "key_file", &key_file);
            Some(CertificateFiles { certificate_file, key_file })
        }
        (None, None) => {
            if section.has("min_version") {
                section.problem("min_version", "stands without certificate_file and key_file: it is for TLS that ends here");
            }
            None
        }
        (Some(_), None) => {
            missing(section, "key_file", "certificate_file");
            None
        }
        (None, Some(_)) => {
            missing(section, "certificate_file", "key_file");
            None
        }
    }
}

/// What is there and wrong is told already.
fn missing(section: &Section<'_>, key: &str, beside: &str) {
    if !section.has(key) {
        section.problem(key, format!("is missing beside {beside}: a certificate and its private key go together"));
    }
}

fn authorities(section: &Section<'_>, file: Option<&PathBuf>) {
    let Some(file) = file else { return };
    if section.has("certificate_file") || section.has("key_file") {
        readable(section, "client_ca_file", file);
    } else {
        section.problem(
            "client_ca_file",
            "stands without certificate_file and key_file: it is for TLS that ends here; where a proxy ends it, write client_certificate.header",
        );
    }
}

fn readable(section: &Section<'_>, key: &str, file: &PathBuf) {
    if let Err(error) = std::fs::File::open(file) {
        section.problem(key, format!("{} cannot be read: {error}", file.display()));
    }
}

/// A name in two certificates, and a certificate that nobody can ask for.
fn warn_of_doubles(tables: &[Section<'_>], certificates: &[CertificateFiles]) {
    let mut known: Vec<(String, String)> = Vec::new();
    for (section, files) in tables.iter().zip(certificates) {
        // What cannot be read is told at the start.
        let Ok(names) = files.names() else { continue };
        for name in names.iter() {
            match known.iter().find(|(other, _)| other == name) {
                Some((_, path)) => section.warning("certificate_file", format!("{name} is also a name of {path}, which is shown for it")),
                None => known.push((name.to_owned(), section.path().to_owned())),
            }
        }
        if names.iter().next().is_none() && !known.is_empty() {
            section.warning("certificate_file", "holds no DNS name: only the first certificate is shown to those who ask for none");
        }
    }
}
