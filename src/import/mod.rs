//! From an oauth2-proxy's configuration to ours, with a report of what became of every option.
//!
//! `source` reads files into options ([`given`], known by `options`) and the structured config; [`old`] puts them together (`legacy` and `alpha`
//! are its two spellings of upstreams and headers); `map` carries it over, subject by subject, into a [`document`], [`secrets`] and a
//! [`report`].

mod alpha;
pub mod document;
pub mod given;
mod legacy;
mod map;
pub mod old;
pub mod options;
pub mod report;
pub mod secrets;
mod source;

use std::collections::BTreeMap;

use document::Document;
use old::Old;
use report::Report;
use secrets::{SecretFile, Secrets};

/// A file to read.
#[derive(Clone)]
pub struct Input {
    /// Its name; the ending tells its shape where the content does not.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// What to read, and for where.
pub struct Request<'a> {
    /// Files.
    pub inputs: &'a [Input],
    /// The environment that it runs in, when that is to be read.
    pub environment: Option<&'a BTreeMap<String, String>>,
    /// Addresses that a proxy in front asks, whose query may narrow who passes.
    pub auth_urls: &'a [String],
    /// Where secrets are to lie.
    pub secrets_at: &'a str,
}

/// What came of it.
pub struct Imported {
    /// The config, in TOML.
    pub config: String,
    /// Files that it names and that are not there yet.
    pub files: Vec<SecretFile>,
    /// What became of every option.
    pub report: Report,
}

/// Reads and carries over.
///
/// # Errors
/// Which input cannot be read, and why.
pub fn import(request: &Request<'_>) -> Result<Imported, String> {
    let mut report = Report::default();
    let mut collected = source::collect(request.inputs)?;
    if let Some(environment) = request.environment {
        source::environment(environment, &mut collected);
    }
    collected.around.auth_urls.extend(request.auth_urls.iter().cloned());
    let old = Old::new(collected, &mut report);
    let mut out = Out { document: Document::default(), report, secrets: Secrets::new(request.secrets_at) };
    map::all(&old, &mut out);
    let Out { document, mut report, secrets } = out;
    let files = secrets.into_files();
    for file in files.iter().filter(|file| file.content.is_none()) {
        report.first(format!("put into {}/{}: {}", request.secrets_at.trim_end_matches('/'), file.name, file.what));
    }
    let head = [
        "Made by `doorward import oauth2-proxy`. What a line came from stands behind it; the report of the import says the rest."
            .to_owned(),
        "Every key there is: config.toml.example. `doorward check --config FILE` names all problems at once.".to_owned(),
    ];
    Ok(Imported { config: document.write(&head), files, report })
}

/// Where the parts of the mapping put what they find.
struct Out {
    document: Document,
    report: Report,
    secrets: Secrets,
}
