//! Certificates made for one test: an authority, leaves signed by it, and rustls configurations that trust it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::jose::base64url;
use super::temp::TempDir;

/// A certificate authority of the test's own.
pub struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
    file: PathBuf,
}

impl CertificateAuthority {
    /// Makes one; its certificate lies as PEM at [`CertificateAuthority::file`].
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Doorward test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority can sign itself");
        let dir = TempDir::new("certs");
        let file = dir.write("authority.pem", issuer.pem());
        Self { issuer, dir, file }
    }

    /// The authority's certificate as a PEM file, what a `ca_file` key takes.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The authority's certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names and addresses (`"localhost"`, `"*.example.test"`, `"127.0.0.1"`), good for servers and for
    /// clients of mutual TLS. Its files live as long as the value.
    #[must_use]
    pub fn leaf(&self, names: &[&str]) -> Leaf {
        self.leaf_with(names, |_| {})
    }

    /// The same with changes: other names, another time.
    #[must_use]
    pub fn leaf_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("the names fit into a certificate");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("leaf", String::as_str));
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority can sign");
        let dir = TempDir::new("certs");
        Leaf {
            certificate_file: dir.write("certificate.pem", certificate.pem()),
            key_file: dir.write_secret("key.pem", key.serialize_pem()),
            dir,
        }
    }

    /// Root store with this authority alone.
    #[must_use]
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("our own certificate is well-formed");
        roots
    }

    /// A TLS client's configuration that trusts this authority alone (no ALPN: the HTTP client sets it).
    #[must_use]
    pub fn client_config(&self) -> Arc<ClientConfig> {
        Arc::new(client_builder().with_root_certificates(self.roots()).with_no_client_auth())
    }

    /// The same, showing `leaf` as the client's own certificate.
    #[must_use]
    pub fn client_config_with(&self, leaf: &Leaf) -> Arc<ClientConfig> {
        let (chain, key) = leaf.load();
        let config = client_builder()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .expect("our own certificate fits our own key");
        Arc::new(config)
    }
}

impl Default for CertificateAuthority {
    fn default() -> Self {
        Self::new()
    }
}

/// A certificate and its key, as PEM files.
pub struct Leaf {
    certificate_file: PathBuf,
    key_file: PathBuf,
    dir: TempDir,
}

impl Leaf {
    /// The certificate's PEM file.
    #[must_use]
    pub fn certificate_file(&self) -> &Path {
        &self.certificate_file
    }

    /// The certificate's bytes.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        self.load().0[0].to_vec()
    }

    /// Its thumbprint, as `cnf.x5t#S256` of a token holds it (RFC 8705 §3.1).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        base64url(digest(&SHA256, &self.der()).as_ref())
    }

    /// The value of `Client-Cert` by which a proxy tells of it (RFC 9440 §2.2).
    #[must_use]
    pub fn client_cert(&self) -> String {
        format!(":{}:", STANDARD.encode(self.der()))
    }

    /// The key's PEM file, mode 0600.
    #[must_use]
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }

    /// A TLS server's configuration with this certificate, offering these protocols by ALPN.
    #[must_use]
    pub fn server_config(&self, alpn: &[&str]) -> Arc<ServerConfig> {
        let (chain, key) = self.load();
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has the usual TLS versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("our own certificate fits our own key");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A TLS server's configuration with this certificate that lets in whoever shows one of `clients`, and nobody else; HTTP/1.1.
    #[must_use]
    pub fn server_config_asking(&self, clients: &CertificateAuthority) -> Arc<ServerConfig> {
        let (chain, key) = self.load();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients.roots()), Arc::clone(&provider)).build();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has the usual TLS versions")
            .with_client_cert_verifier(verifier.expect("an authority to ask for"))
            .with_single_cert(chain, key)
            .expect("our own certificate fits our own key");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// The certificate as standard base64 of its DER form: `x5c` of a JWK.
    #[must_use]
    pub fn x5c(&self) -> String {
        STANDARD.encode(self.der())
    }

    /// The public key as a JWK, for P-256 (what [`CertificateAuthority::leaf`] makes).
    #[must_use]
    pub fn jwk(&self) -> Value {
        // The last 65 bytes of its SubjectPublicKeyInfo: 4, x, y.
        let spki = self.spki();
        let point = &spki[spki.len() - 64..];
        json!({ "kty": "EC", "crv": "P-256", "x": base64url(&point[..32]), "y": base64url(&point[32..]), "x5c": [self.x5c()] })
    }

    /// `pin-sha256` of the key (RFC 7469 §2.4).
    #[must_use]
    pub fn pin(&self) -> String {
        STANDARD.encode(digest(&SHA256, &self.spki()).as_ref())
    }

    fn spki(&self) -> Vec<u8> {
        let text = std::fs::read_to_string(&self.key_file).expect("our own key can be read");
        KeyPair::from_pem(&text).expect("our own PEM can be read").subject_public_key_info()
    }

    /// Overwrites this leaf's files with those of `other`, as a renewal does.
    pub fn replace_files_with(&self, other: &Leaf) {
        std::fs::copy(&other.certificate_file, &self.certificate_file).expect("the certificate can be replaced");
        std::fs::copy(&other.key_file, &self.key_file).expect("the key can be replaced");
    }

    fn load(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_file(&self.certificate_file).expect("our own PEM can be read");
        let key = PrivateKeyDer::from_pem_file(&self.key_file).expect("our own PEM can be read");
        (vec![certificate], key)
    }
}

fn client_builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has the usual TLS versions")
}
