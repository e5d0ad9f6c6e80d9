//! Certificate and key as files.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::server_names::ServerNames;

const CERTIFICATES: &str = "PEM blocks `CERTIFICATE`, the server's own first, then the intermediates";
const KEY: &str = "one PEM block `PRIVATE KEY`, `EC PRIVATE KEY` or `RSA PRIVATE KEY`, not encrypted";

/// Where certificate and key are. Symbolic links are followed at each look, as Kubernetes swaps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then its intermediates.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

impl CertificateFiles {
    /// The DNS names of the certificate, where both files can be read and belong together.
    ///
    /// # Errors
    /// [`CertificateError`] names the file and what was expected of it.
    pub fn names(&self) -> Result<ServerNames, CertificateError> {
        self.read().map(|key| ServerNames::of_key(&key))
    }
}

/// What is wrong with a file.
#[derive(Debug)]
pub struct CertificateError {
    /// Which one.
    pub file: PathBuf,
    /// What was found.
    pub found: String,
    /// What would be right.
    pub expected: &'static str,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; expected: {}", self.file.display(), self.found, self.expected)
    }
}

impl std::error::Error for CertificateError {}

/// What two files look like from outside; differs when either was written or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([Option<FileLook>; 2]);

/// What a file looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileLook {
    /// Changes with the content, the owner and the mode alike.
    changed: (i64, i64),
    length: u64,
    device: u64,
    inode: u64,
}

impl FileLook {
    pub(super) fn at(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self { changed: (file.ctime(), file.ctime_nsec()), length: file.len(), device: file.dev(), inode: file.ino() })
    }
}

impl CertificateFiles {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint([FileLook::at(&self.certificate_file), FileLook::at(&self.key_file)])
    }

    /// Reads both and makes sure that they belong together.
    pub(super) fn read(&self) -> Result<Arc<CertifiedKey>, CertificateError> {
        let text = fs::read(&self.certificate_file).map_err(|error| unread(&self.certificate_file, &error, CERTIFICATES))?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|error| malformed(&self.certificate_file, &error, CERTIFICATES))?;
        if certificates.is_empty() {
            return Err(wrong(&self.certificate_file, "no certificate in it", CERTIFICATES));
        }
        let key = self.read_key()?;
        CertifiedKey::from_der(certificates, key, &aws_lc_rs::default_provider()).map(Arc::new).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                wrong(&self.key_file, "it is not the certificate's key", "the key of tls.certificate_file")
            }
            rustls::Error::InvalidCertificate(_) => wrong(&self.certificate_file, "it holds no usable certificate", CERTIFICATES),
            error => wrong(&self.key_file, &error.to_string(), KEY),
        })
    }

    fn read_key(&self) -> Result<PrivateKeyDer<'static>, CertificateError> {
        let file = fs::metadata(&self.key_file).map_err(|error| unread(&self.key_file, &error, KEY))?;
        if open_to_others(&file) {
            tracing::warn!(key_file = self.key_file.display().to_string(), "the key file may be read by everybody; chmod o-r");
        }
        let text = fs::read(&self.key_file).map(Zeroizing::new).map_err(|error| unread(&self.key_file, &error, KEY))?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| malformed(&self.key_file, &error, KEY))
    }
}

fn open_to_others(file: &Metadata) -> bool {
    file.mode() & 0o004 != 0
}

fn unread(file: &Path, error: &io::Error, expected: &'static str) -> CertificateError {
    wrong(file, &format!("cannot be read: {error}"), expected)
}

/// The reader's own message may quote the file; a key must not be quoted.
fn malformed(file: &Path, error: &pem::Error, expected: &'static str) -> CertificateError {
    let found = match error {
        pem::Error::NoItemsFound => "no such block in it",
        pem::Error::MissingSectionEnd { .. } => "a block does not end",
        pem::Error::Base64Decode(_) => "a block is no base64",
        _ => "it is no PEM",
    };
    wrong(file, found, expected)
}

fn wrong(file: &Path, found: &str, expected: &'static str) -> CertificateError {
    CertificateError { file: file.to_owned(), found: found.to_owned(), expected }
}
