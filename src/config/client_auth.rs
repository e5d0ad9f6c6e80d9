//! `client_auth` of `[provider]`: how we prove ourselves, with what belongs to it. One way and never two.

use super::reader::Section;
use super::secret_file;
use crate::provider::tls::TlsSettings;
use crate::provider::{AssertionAudience, AssertionKey, ClientAssertion, ClientAuthentication};
use crate::secret::{Secret, SecretSource};
use crate::token::Algorithm;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Basic,
    Post,
    PrivateKeyJwt,
    Certificate,
    None,
}

const WAYS: [(&str, Way); 6] = [
    ("basic", Way::Basic),
    ("post", Way::Post),
    ("private_key_jwt", Way::PrivateKeyJwt),
    ("tls_client_auth", Way::Certificate),
    ("self_signed_tls_client_auth", Way::Certificate),
    ("none", Way::None),
];

/// What a private key comes with.
const OF_THE_KEY: [&str; 4] = ["key_file", "key_id", "key_algorithm", "assertion_audience"];

/// Reads it. With problems it is a gap that the config is refused for. `issuer` is where we prove ourselves, as far as that is known.
pub(super) fn read_client_auth(section: &Section<'_>, tls: &TlsSettings, issuer: Option<&str>) -> ClientAuthentication {
    let known = |text: &str| {
        WAYS.into_iter().find(|(word, _)| *word == text).ok_or_else(|| {
            let words = WAYS.map(|(word, _)| format!("{word:?}")).join(" or ");
            format!("expected {words}; found {text:?}")
        })
    };
    let (word, way) = section.parsed("client_auth", known).unwrap_or(("basic", Way::Basic));
    let of_the_key = OF_THE_KEY.into_iter().filter(|key| section.has(key)).collect::<Vec<_>>();
    if let Some(key) = of_the_key.first().filter(|_| way != Way::PrivateKeyJwt) {
        section.problem(
            key,
            format!("stands beside client_auth = {word:?}; to prove ourselves by a key write client_auth = \"private_key_jwt\""),
        );
    }
    let secrets = ["client_secret", "client_secret_file"].into_iter().filter(|key| section.has(key)).collect::<Vec<_>>();
    if let Some(key) = secrets.first().filter(|_| !matches!(way, Way::Basic | Way::Post)) {
        section.problem(
            key,
            format!("stands beside client_auth = {word:?}, which shows no secret: remove one of them, we prove ourselves in one way"),
        );
    }
    match way {
        Way::Basic => ClientAuthentication::Basic(read_secret(section, &of_the_key)),
        Way::Post => ClientAuthentication::Post(read_secret(section, &of_the_key)),
        Way::PrivateKeyJwt => read_key(section).map_or(ClientAuthentication::None, ClientAuthentication::PrivateKeyJwt),
        Way::Certificate => {
            if tls.certificate.is_none() {
                let example = "tls = { certificate_file = \"/etc/doorward/client.crt\", key_file = \"/etc/doorward/client.key\" }";
                section.problem("client_auth", format!("{word:?} needs a certificate to show; for example: {example}"));
            }
            if issuer.is_some_and(|issuer| issuer.starts_with("http://")) {
                section.problem("client_auth", format!("{word:?} needs an https issuer: only over TLS is there a certificate"));
            }
            ClientAuthentication::Certificate
        }
        Way::None => ClientAuthentication::None,
    }
}

fn read_secret(section: &Section<'_>, of_the_key: &[&str]) -> SecretSource {
    let secret = secret_file::read(section, "client_secret", 1);
    // Whoever wrote a key forgot the word, not the secret.
    if secret.is_none() && of_the_key.is_empty() && !section.has("client_secret") && !section.has("client_secret_file") {
        section.problem("client_secret_file", "is missing; for example: client_secret_file = \"/run/secrets/client_secret\"");
    }
    secret.unwrap_or_else(|| SecretSource::fixed(Secret::new(String::new())))
}

fn read_key(section: &Section<'_>) -> Option<ClientAssertion> {
    let audiences = [("issuer", AssertionAudience::Issuer), ("token_endpoint", AssertionAudience::TokenEndpoint)];
    let audience = section.choice("assertion_audience", AssertionAudience::Issuer, &audiences);
    let key_id = section.text("key_id");
    let algorithm = section.parsed("key_algorithm", str::parse::<Algorithm>);
    if !section.has("key_file") {
        section
            .problem("key_file", "is missing: \"private_key_jwt\" signs with it; for example: key_file = \"/run/secrets/client_key.pem\"");
        return None;
    }
    let file = section.file("key_file")?;
    if let Err(error) = std::fs::File::open(&file) {
        section.problem("key_file", format!("{} cannot be read: {error}", file.display()));
        return None;
    }
    secret_file::warn_if_open(section, "key_file", &file);
    match ClientAssertion::new(AssertionKey { file, key_id, algorithm }, audience) {
        Ok(assertion) => Some(assertion),
        Err(error) => {
            section.problem("key_file", error);
            None
        }
    }
}
