//! `[api_keys]`: keys of programs, in a file of their hashes.

use std::path::PathBuf;

use http::HeaderName;

use super::gateway::Gateway;
use super::providers::Provider;
use super::reader::Section;
use super::secret_file;
use crate::header::IdentityFamily;
use crate::provider::api_keys::KeyFile;
use crate::route::API_KEY_HEADER;

/// Whom API keys stand for in `provider` of routes and rules.
pub(super) const API_KEY: &str = "api_key";

/// Where API keys stand, and where they are shown.
#[derive(Clone, Debug)]
pub struct ApiKeys {
    /// The file of their hashes, read again when it changes.
    pub file: PathBuf,
    /// The header of a request.
    pub header: HeaderName,
    /// Who vouches for them: not the issuer of local accounts, since a key and a person may have one name.
    pub issuer: String,
}

pub(super) fn read(root: &Section<'_>, gateway: Option<&Gateway>, providers: &[Provider]) -> Option<ApiKeys> {
    let section = root.section("api_keys");
    let header = section.parsed("header", parse_header).unwrap_or(API_KEY_HEADER);
    let file = section.file("file");
    let there = root.has("api_keys");
    section.finish();
    if !there {
        return None;
    }
    let Some(file) = file else {
        if !section.has("file") {
            section.problem("file", "is missing: the file with the keys' hashes; for example: file = \"/etc/doorward/api_keys.toml\"");
        }
        return None;
    };
    if providers.iter().any(|provider| provider.id == API_KEY) {
        root.problem("provider", format!("the id {API_KEY:?} is that of the keys in [api_keys]; choose another"));
    }
    secret_file::warn_if_open(&section, "file", &file);
    let origin = gateway.map(|gateway| gateway.sites.first().origin().ascii_serialization()).unwrap_or_default();
    let issuer = format!("{origin}/api_keys");
    match KeyFile::look(&file) {
        Ok(0) => section.warning("file", "holds no key yet, so that nobody can show one"),
        Ok(_) => {}
        Err(wrong) => wrong.into_iter().for_each(|wrong| section.problem("file", format!("{}: {wrong}", file.display()))),
    }
    Some(ApiKeys { file, header, issuer })
}

/// A header that means nothing else: neither to HTTP nor to us nor to what stands between.
fn parse_header(text: &str) -> Result<HeaderName, String> {
    use http::header as h;
    let taken = [
        h::AUTHORIZATION,
        h::PROXY_AUTHORIZATION,
        h::COOKIE,
        h::HOST,
        h::ORIGIN,
        h::REFERER,
        h::CONNECTION,
        h::UPGRADE,
        h::TE,
        h::TRAILER,
        h::TRANSFER_ENCODING,
        h::CONTENT_LENGTH,
        h::CONTENT_TYPE,
        h::EXPECT,
    ];
    let family = IdentityFamily::new([]);
    let name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|name| !name.as_str().contains('_'));
    name.filter(|name| !taken.contains(name) && !family.holds(name)).ok_or_else(|| {
        format!("expected a header of its own, such as \"X-Api-Key\", not one that HTTP or the gateway uses; found {text:?}")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::config::{Config, Problem, Severity, Sources, load};
    use crate::credential::CredentialKind;

    const HASH: &str = "042dd1a66d0aaa69697145d672fb07c3ab59c96628ccd009cc2a5a7579233ef6";

    /// A gateway with one route and nobody who could sign in, from the environment alone.
    fn read(route: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
        let allow = if route.contains("allow") { "" } else { r#", "allow": "any-authenticated""# };
        let route = format!(r#"[{{"upstream": "http://127.0.0.1:1"{allow}{route}}}]"#);
        let rest = [("DOORWARD_PUBLIC_URL", "https://app.test"), ("DOORWARD_ROUTE", &route), ("DOORWARD_STORE__KIND", "memory")];
        let environment: BTreeMap<_, _> =
            rest.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        load(&Sources { environment, ..Sources::default() })
    }

    fn told(found: Result<Config, Vec<Problem>>, severity: Severity) -> Vec<(String, String)> {
        let found = found.map_or_else(|problems| problems, |config| config.warnings);
        found.into_iter().filter(|one| one.severity == severity).map(|one| (one.path, one.message)).collect()
    }

    /// A file of keys, and its name.
    fn file_of(text: &str) -> (std::path::PathBuf, String) {
        let path = std::env::temp_dir().join(format!("doorward-keys-{}", crate::secret::encode(&crate::secret::random::<8>())));
        std::fs::write(&path, text).unwrap();
        let name = path.display().to_string();
        (path, name)
    }

    #[test]
    fn keys_alone_are_a_config() {
        let (path, name) = file_of(&format!("[[key]]\nname = \"backup\"\nsha256 = \"{HASH}\"\n"));
        let config = read("", &[("DOORWARD_API_KEYS__FILE", &name)]).map_err(|problems| format!("{problems:?}")).unwrap();
        let accept = config.routes.table.routes()[0].accept().unwrap();
        assert_eq!((accept.kinds.as_slice(), accept.api_key_header.as_str()), (&[CredentialKind::ApiKey][..], "x-api-key"));
        assert_eq!(config.api_keys.unwrap().issuer, "https://app.test/api_keys");
        let variables = [("DOORWARD_API_KEYS__FILE", name.as_str()), ("DOORWARD_API_KEYS__HEADER", "X-Token")];
        let config =
            read(r#", "accept": ["api_key"], "provider": ["api_key"]"#, &variables).map_err(|problems| format!("{problems:?}")).unwrap();
        assert_eq!(config.routes.table.routes()[0].accept().unwrap().api_key_header, "x-token");

        std::fs::write(&path, "# none yet\n").unwrap();
        let warnings = told(read("", &[("DOORWARD_API_KEYS__FILE", &name)]), Severity::Warning);
        assert!(warnings.iter().any(|(path, message)| path == "api_keys.file" && message.contains("no key yet")), "{warnings:?}");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn every_mistake_is_told_by_its_key() {
        let (path, name) = file_of(&format!("[[key]]\nname = \"backup\"\nsha256 = \"{HASH}\"\n"));
        let (broken, broken_name) = file_of("[[key]]\nname = \"backup\"\n");
        let file = ("DOORWARD_API_KEYS__FILE", name.as_str());
        let header = |text| ("DOORWARD_API_KEYS__HEADER", text);
        let key = r#", "accept": ["api_key"]"#;
        let provider = [
            file,
            ("DOORWARD_PROVIDER__ID", "api_key"),
            ("DOORWARD_PROVIDER__ISSUER", "https://login.test"),
            ("DOORWARD_PROVIDER__CLIENT_ID", "app"),
            ("DOORWARD_PROVIDER__CLIENT_SECRET", "s3cret"),
        ];
        let user =
            r#"[{"name": "ann", "password": "$2y$12$FvZ/Pz0vn2hJpe5GgaD/HezSF2u4sY7TBWxdpLaMFNa7vYtT.jky.", "groups": ["machines"]}]"#;
        let user = ("DOORWARD_USER", user);
        for (route, variables, at, word) in [
            ("", &[header("X-Key")][..], "api_keys.file", "missing"),
            ("", &[("DOORWARD_API_KEYS__FILE", "/nowhere/keys")], "api_keys.file", "cannot be read"),
            ("", &[("DOORWARD_API_KEYS__FILE", &broken_name)], "api_keys.file", "sha256sum"),
            ("", &[("DOORWARD_API_KEYS__FIEL", &name)], "api_keys.fiel", "did you mean"),
            ("", &[file, header("Authorization")], "api_keys.header", "of its own"),
            ("", &[file, header("cookie")], "api_keys.header", "of its own"),
            ("", &[file, header("X_Api_Key")], "api_keys.header", "of its own"),
            ("", &[file, header("x-forwarded-user")], "api_keys.header", "of its own"),
            ("", &[file, header("a b")], "api_keys.header", "of its own"),
            ("", &provider, "provider", "choose another"),
            (key, &[user], "route[0].accept", "[api_keys]"),
            (r#", "accept": ["basic"]"#, &[file], "route[0].accept", "users_file"),
            (r#", "accept": ["apikey"]"#, &[file], "route[0].accept", "\"api_key\""),
            (r#", "accept": ["api_key", "session"], "provider": ["local"]"#, &[file, user], "route[0].provider", "\"api_key\""),
            (r#", "accept": ["basic", "api_key"], "provider": ["api_key"]"#, &[file, user], "route[0].provider", "\"local\""),
            // Ann's machines are not those of the keys.
            (r#", "accept": ["basic", "api_key"], "allow": {"groups": ["machines"]}"#, &[file, user], "route[0].allow", "not whose"),
        ] {
            let errors = told(read(route, variables), Severity::Error);
            assert!(errors.iter().any(|(found, message)| found == at && message.contains(word)), "{at} {word}: {errors:?}");
        }
        for path in [path, broken] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
