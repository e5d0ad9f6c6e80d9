//! What `check` says of listeners, TLS, and what goes with them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Problem, Sources, load};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = Self(std::env::temp_dir().join(format!("doorward-config-{}", crate::secret::random_token())));
        std::fs::create_dir(&folder.0).unwrap();
        folder
    }

    /// A certificate for these names as the keys of a `[tls]` table.
    fn certificate(&self, file: &str, names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let [certificate, key] = ["crt", "key"].map(|ending| self.0.join(format!("{file}.{ending}")));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        format!("certificate_file = \"{}\"\nkey_file = \"{}\"\n", certificate.display(), key.display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All that is said of this config, warnings too.
fn told(public_url: &str, top: &str, tables: &str) -> Vec<Problem> {
    let folder = Folder::new();
    let file = folder.0.join("config.toml");
    let text = format!(
        "public_url = \"{public_url}\"\n{top}\n[store]\nkind = \"memory\"\n[provider]\nissuer = \"https://i.test\"\nclient_id = \"a\"\n\
         client_secret = \"0123456789abcdef\"\n{tables}\n[[route]]\nid = \"all\"\npath = \"/app/\"\naccess = \"public\"\nupstream = \"http://127.0.0.1:1\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let sources = Sources { file: Some(&file), environment: BTreeMap::new(), flags: Vec::new() };
    load(&sources).map_or_else(|problems| problems, |config| config.warnings)
}

#[test]
fn wrong_values_and_combinations_are_told_with_what_to_write() {
    const HTTPS: &str = "https://a.test";
    for (url, top, key, said) in [
        (HTTPS, "listen = \"localhost:80\"", "listen", "\"fd:NAME\" for a socket of systemd"),
        (HTTPS, "listen = []", "listen", "empty list"),
        (HTTPS, "listen = [\":443\", \"0.0.0.0:443\"]", "listen", "0.0.0.0:443 cannot be had beside [::]:443"),
        (HTTPS, "listen = [\"fd:a\", \"fd:a\"]", "listen", "is there twice"),
        (HTTPS, "listen = \":443\"\nredirect_from = \":443\"", "redirect_from", "is there twice"),
        (HTTPS, "redirect_from = \"80\"", "redirect_from", "expected an address"),
        ("http://127.0.0.1", "redirect_from = \":80\"", "redirect_from", "https public_url"),
        ("http://127.0.0.1", "hsts = \"365d\"", "hsts", "https public_url"),
        (HTTPS, "hsts = \"365\"", "hsts", "\"365d includeSubDomains preload\""),
        (HTTPS, "hsts = \"30d preload\"", "hsts", "preload needs"),
        (HTTPS, "proxy_protocol = true", "proxy_protocol", "name the proxies"),
        (HTTPS, "proxy_protocol = \"v2\"\ntrusted_proxies = [\"10.0.0.1\"]", "proxy_protocol", "true or false"),
        (HTTPS, "trusted_proxies = [\"unix:\"]", "trusted_proxies", "or \"unix\""),
        (HTTPS, "health_path = \"ping\"", "health_path", "\"/ping\""),
        (HTTPS, "health_path = \"/\"", "health_path", "a path of its own"),
        (HTTPS, "health_path = \"/a/../ping\"", "health_path", "a path of its own"),
        (HTTPS, "health_path = \"/ping?x\"", "health_path", "a path of its own"),
        (HTTPS, "health_path = \"/oauth2/ping\"", "health_path", "under prefix"),
        (HTTPS, "health_path = \"/app/\"", "health_path", "route \"all\""),
        (HTTPS, "health_path = \"/app\"", "health_path", "route \"all\""),
    ] {
        let found = told(url, top, "");
        let fits = |problem: &Problem| problem.path == key && problem.message.contains(said);
        assert!(found.iter().any(fits), "{top}: {found:?}");
    }
    let hidden = told(HTTPS, "health_path = \"/back\"", "callback = \"/back\"");
    assert!(hidden.iter().any(|problem| problem.path == "health_path" && problem.message.contains("callback \"/back\"")), "{hidden:?}");
    let sound = "listen = [\"0.0.0.0:443\", \"[::1]:443\", \"unix:/run/d.sock?mode=0660\", \"fd:web\"]\nredirect_from = [\":80\", \"fd:plain\"]\n\
                 hsts = \"365d\"\nhealth_path = \"/app/ping\"\nproxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/8\", \"unix\"]";
    assert_eq!(told(HTTPS, sound, ""), []);
}

#[test]
fn several_certificates_are_held_against_each_other() {
    let folder = Folder::new();
    let (one, two) = (folder.certificate("one", &["a.test", "*.w.test"]), folder.certificate("two", &["b.test", "a.test"]));
    let nameless = folder.certificate("three", &[]);
    let of = |tables: &str| told("https://a.test", "", tables);
    let sound = folder.certificate("four", &["x.w.test"]);
    assert_eq!(of(&format!("[[tls]]\n{one}min_version = \"1.3\"\n[[tls]]\n{sound}")), []);
    assert_eq!(of(&format!("[tls]\n{one}min_version = \"1.2\"\n")), []);

    let doubled = of(&format!("[[tls]]\n{one}[[tls]]\n{two}"));
    assert_eq!(doubled.len(), 1);
    assert_eq!(doubled[0].path, "tls[1].certificate_file");
    assert_eq!(doubled[0].message, "a.test is also a name of tls[0], which is shown for it");
    assert_eq!(doubled[0].severity, super::Severity::Warning);
    assert!(of(&format!("[[tls]]\n{one}[[tls]]\n{nameless}"))[0].message.contains("holds no DNS name"));

    let authority = one.lines().next().unwrap().replace("certificate_file", "client_ca_file");
    assert_eq!(of(&format!("[[tls]]\n{one}{authority}\n[[tls]]\n{sound}")), []);
    for (tables, path, said) in [
        (format!("[[tls]]\n{one}[[tls]]\n{sound}{authority}\n"), "tls[1].client_ca_file", "in the first [[tls]] table"),
        (format!("[[tls]]\n{one}[[tls]]\n{sound}min_version = \"1.3\"\n"), "tls[1].min_version", "in the first [[tls]] table"),
        (format!("[[tls]]\n{one}[[tls]]\n"), "tls[1].certificate_file", "each [[tls]] table names a certificate"),
        (format!("[tls]\n{one}min_version = \"1.1\"\n"), "tls.min_version", "\"1.2\" or \"1.3\""),
        ("[tls]\nmin_version = \"1.3\"\n".to_owned(), "tls.min_version", "stands without certificate_file"),
    ] {
        let found = of(&tables);
        assert!(found.iter().any(|problem| problem.path == path && problem.message.contains(said)), "{tables}: {found:?}");
    }
}
