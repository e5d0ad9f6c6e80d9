//! What is in `deploy/` is what it says it is, as far as that can be seen without a cluster, a container or an init system.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use doorward::config::{self, Sources};
use figment::providers::{Format, Yaml};
use regex::Regex;
use serde_json::Value;

use crate::harness::certs::CertificateAuthority;
use crate::harness::gateway::{Gateway, TOP, command};
use crate::harness::process::run;
use crate::harness::temp::TempDir;

pub fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(text: &str) -> Value {
    Yaml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Some password's.
const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$jsAm5nlH+xspNzm7EUYjTA$gs9bE8Hm9/VZ41GEjHQBaW8W72ye0GJ9DNT347J+5vk";

/// A config whose files are not on this machine: each is written into `dir` and named instead.
pub fn stand_in(text: &str, dir: &TempDir) -> String {
    let authority = CertificateAuthority::new();
    // Files of one name are a pair, and each pair is for a host of its own.
    let leaves = RefCell::new(BTreeMap::new());
    let pair = |file: &str| {
        let stem = Path::new(file).file_stem().expect("a file").to_string_lossy().into_owned();
        let host = format!("{stem}.test");
        Rc::clone(leaves.borrow_mut().entry(stem).or_insert_with(|| Rc::new(authority.leaf(&[&host]))))
    };
    let file = Regex::new(r#"\b(\w+_file|file)(\s*=\s*"|: "?)(/[^"\s,}]+)("?)"#).expect("a sound pattern");
    let text = file.replace_all(text, |found: &regex::Captures<'_>| {
        let name = Path::new(&found[3]).file_name().expect("a file").to_string_lossy();
        let content = match &found[1] {
            "seal_file" => STANDARD.encode((0..32).collect::<Vec<u8>>()),
            "certificate_file" => read(pair(&found[3]).certificate_file()),
            "key_file" => read(pair(&found[3]).key_file()),
            "ca_file" => authority.pem(),
            "password_file" if found[3].starts_with("/run/secrets/bob") => HASH.to_owned(),
            "users_file" => {
                format!("ann:{HASH}\n")
            }
            "client_ca_file" => authority.pem(),
            "file" => format!("[[key]]\nname = \"backup\"\nsha256 = \"{}\"\n", "0".repeat(64)),
            "emails_file" => "ann@example.com\n".to_owned(),
            "app_secret_file" => "0123456789abcdef0123456789abcdef".to_owned(),
            "logo_file" => "<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_owned(),
            _ => "a-secret-that-stands-in".to_owned(),
        };
        let path = dir.write_secret(&format!("{}/{name}", &found[1]), content);
        format!("{}{}{}{}", &found[1], &found[2], path.display(), &found[4])
    });
    // In templates of headers.
    let named = Regex::new(r"(\{(?:file|basic:[^:}]+):)(/[^}|]+)").expect("a sound pattern");
    let secret = dir.write_secret("in_a_template", "a-secret-that-stands-in");
    named.replace_all(&text, |found: &regex::Captures<'_>| format!("{}{}", &found[1], secret.display())).into_owned()
}

/// Reads a config without problems and without warnings; panics with both.
pub fn load(text: &str, environment: &[(&str, &str)]) -> config::Config {
    load_as("toml", text, environment)
}

/// The same of a config in this form.
pub fn load_as(form: &str, text: &str, environment: &[(&str, &str)]) -> config::Config {
    let dir = TempDir::new("deploy");
    let file = dir.write(&format!("config.{form}"), stand_in(text, &dir));
    let mut environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    environment.insert("STATE_DIRECTORY".to_owned(), dir.path().display().to_string());
    let config = config::load(&Sources { file: Some(&file), environment, flags: Vec::new() });
    let told = |problems: &[config::Problem]| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let config = config.unwrap_or_else(|problems| panic!("{}\nin\n{text}", told(&problems)));
    assert!(config.warnings.is_empty(), "{}\nin\n{text}", told(&config.warnings));
    config
}

/// `doorward` takes these arguments.
pub fn assert_understood(args: &[String]) {
    let output = Command::new(command()).args(args).arg("--help").output().expect("the binary is built");
    assert!(output.status.success(), "doorward {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().unwrap_or_else(|| panic!("expected a list, found {value}"));
    items.iter().map(|item| item.as_str().expect("a text").to_owned()).collect()
}

/// A gateway that is told to end has this long before it is killed.
pub fn assert_drains_within(seconds: u64, config: &config::Config) {
    let drain = config.gateway.drain.delay + config.gateway.drain.deadline;
    assert!(seconds > drain.as_secs(), "killed after {seconds} s, while a drain may take {drain:?}");
}

#[test]
fn the_image_is_built_of_what_is_there_and_holds_what_runs() {
    let text = read(&deploy("Dockerfile")).replace("\\\n", " ");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = read(&root.join("Cargo.toml"));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = text.lines().map(words).filter(|line| !line.is_empty()).collect();
    let of = |instruction: &str| lines.iter().filter(|line| line[0] == instruction).collect::<Vec<_>>();

    let copied: Vec<&str> = of("COPY")
        .into_iter()
        .filter(|line| !line[1].starts_with("--from"))
        .flat_map(|line| &line[1..line.len() - 1])
        .map(String::as_str)
        .collect();
    assert!(copied.iter().all(|source| root.join(source).exists()), "{copied:?}");
    let ignore = read(&deploy("Dockerfile.dockerignore"));
    let sent: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert_eq!(copied, sent, "what is copied and what is sent to the builder");
    // What the sources take in beside themselves lies among them: nothing else is sent to the builder.
    let taken_in = taken_in(&root.join("src"));
    assert!(taken_in.len() > 5, "the check found next to nothing to check: {taken_in:?}");
    for file in taken_in {
        let real = file.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(real.starts_with(root.join("src").canonicalize().expect("src")), "{}", real.display());
    }

    let build = of("RUN").into_iter().find(|line| line.iter().any(|word| word == "cargo")).expect("cargo is run").join(" ");
    let profile = Regex::new(r"--profile (\S+)").expect("sound").captures(&build).expect("a profile is named")[1].to_owned();
    assert!(manifest.contains(&format!("[profile.{profile}]")), "{profile}");
    assert!(build.contains("--locked") && build.contains("--bin doorward"), "{build}");
    assert!(build.contains(&format!("target/$target/{profile}/doorward")), "{build}");
    let image = Regex::new(r"rust:1\.(\d+)").expect("sound").captures(&text).expect("a Rust image")[1].parse::<u32>();
    let least = Regex::new(r#"rust-version = "1\.(\d+)""#).expect("sound").captures(&manifest).expect("a least Rust")[1].parse::<u32>();
    assert!(image.expect("a number") >= least.expect("a number"));

    assert_eq!(of("FROM").last().expect("a last stage")[1], "scratch");
    let user = &of("USER").last().expect("a user")[1];
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}");
    let json = |line: &[String]| {
        let text = line.join(" ");
        let list: Vec<String> = serde_json::from_str(&text[text.find('[').expect("exec form")..]).expect("a list");
        list
    };
    let health = json(of("HEALTHCHECK")[0]);
    assert_eq!((health[0].as_str(), json(of("ENTRYPOINT")[0])), ("/doorward", vec!["/doorward".to_owned()]));
    assert_understood(&health[1..]);
    assert_understood(&json(of("CMD")[0]));
}

/// Files named by `include_str!` and `include_bytes!`, below this folder.
fn taken_in(folder: &Path) -> Vec<PathBuf> {
    let include = Regex::new(r#"include_(?:str|bytes)!\("([^"]+)"\)"#).expect("a sound pattern");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(taken_in(&entry));
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            found.extend(include.captures_iter(&read(&entry)).map(|name| folder.join(&name[1])));
        }
    }
    found
}

#[test]
fn the_compose_file_joins_gateway_redis_and_provider() {
    let compose = yaml(&read(&deploy("compose.yaml")));
    let gateway = &compose["services"]["doorward"];
    assert!(
        deploy(gateway["build"]["context"].as_str().expect("a context"))
            .join(gateway["build"]["dockerfile"].as_str().expect("a file"))
            .exists()
    );
    assert_understood(&texts(&gateway["command"]));
    for name in ["doorward", "redis", "app"] {
        let service = &compose["services"][name];
        assert_eq!((&service["read_only"], &service["cap_drop"][0]), (&Value::Bool(true), &Value::from("ALL")), "{name}");
    }
    let text = compose["configs"]["doorward"]["content"].as_str().expect("a config");
    assert!(!text.contains('$'), "compose would replace a variable in it");
    let config = load(text, &[]);
    let grace = gateway["stop_grace_period"].as_str().and_then(|grace| grace.trim_end_matches('s').parse().ok());
    assert_drains_within(grace.expect("a time"), &config);

    // Provider and gateway speak of the same things.
    let dex = yaml(&compose["configs"]["dex"]["content"].as_str().expect("a config").replace("$$", "$"));
    let provider = &config.providers[0];
    assert_eq!((dex["issuer"].as_str(), dex["staticClients"][0]["id"].as_str()), (Some(&*provider.issuer), Some(&*provider.client_id)));
    let callback = format!("{}oauth2/callback", config.gateway.sites.first());
    assert_eq!(texts(&dex["staticClients"][0]["redirectURIs"]), [callback]);
    // Every secret that a service names is defined, and every one that the config reads is given to the gateway.
    for service in ["doorward", "redis"] {
        for secret in compose["services"][service]["secrets"].as_array().expect("secrets") {
            let name = secret["source"].as_str().expect("a name");
            assert!(compose["secrets"][name]["environment"].is_string(), "{name}");
            if service == "doorward" {
                assert!(text.contains(&format!("\"/run/secrets/{name}\"")), "{name} is not used");
            }
        }
    }
    assert_eq!(text.matches("/run/secrets/").count(), gateway["secrets"].as_array().map_or(0, Vec::len));
}

/// The manifests in this file are what the API's schemas allow.
pub fn validate(path: &Path) {
    // tests/run installs it there and puts it on the PATH; a plain `cargo test` finds it too.
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join("python/bin/kubernetes-validate");
    let validate = if own.is_file() { own.display().to_string() } else { "kubernetes-validate".to_owned() };
    let said = run(&validate, &["--strict", &path.display().to_string()]);
    assert!(!said.to_lowercase().contains("error"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_are_sound_for_kubernetes_and_their_probes_ask_the_gateway() {
    for name in ["kubernetes/sidecar.yaml", "kubernetes/gateway.yaml"] {
        assert_sound(&deploy(name));
    }
}

fn assert_sound(path: &Path) {
    validate(path);

    let parts: Vec<Value> = read(path).split("\n---\n").map(yaml).collect();
    let part = |kind: &str| parts.iter().find(|part| part["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
    let text = part("ConfigMap")["data"]["config.toml"].as_str().expect("a config");
    let config = load(text, &[]);

    let pod = &part("Deployment")["spec"]["template"]["spec"];
    assert_eq!((&pod["enableServiceLinks"], &pod["automountServiceAccountToken"]), (&Value::Bool(false), &Value::Bool(false)));
    assert_eq!(
        (&pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["seccompProfile"]["type"].as_str()),
        (&Value::Bool(true), Some("RuntimeDefault"))
    );
    assert_drains_within(pod["terminationGracePeriodSeconds"].as_u64().expect("a time"), &config);
    let containers = pod["containers"].as_array().expect("containers");
    for container in containers {
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], Value::Bool(true), "{}", container["name"]);
        assert_eq!(context["allowPrivilegeEscalation"], Value::Bool(false));
        assert_eq!(texts(&context["capabilities"]["drop"]), ["ALL"]);
    }
    let gateway = &containers[0];
    assert_understood(&texts(&gateway["args"]));
    let ports: Vec<u64> = gateway["ports"].as_array().expect("ports").iter().filter_map(|port| port["containerPort"].as_u64()).collect();
    let [config::Listen::Tcp(listen)] = config.gateway.listeners.listen.as_slice() else { panic!("one address") };
    assert_eq!(ports, [u64::from(listen.port()), u64::from(config.gateway.admin.listen.port())]);
    // Every file that the config names lies in what is mounted.
    for found in Regex::new(r#"_file\s*=\s*"([^"]+)""#).expect("sound").captures_iter(text) {
        assert!(
            gateway["volumeMounts"]
                .as_array()
                .expect("mounts")
                .iter()
                .any(|mount| found[1].starts_with(mount["mountPath"].as_str().expect("a path"))),
            "{}",
            &found[1]
        );
    }

    // The probes' commands, run against a gateway whose config stands where they look.
    let running = Gateway::start(&format!("{TOP}[[route]]\nupstream = \"static:200\"\naccess = \"public\"\n"));
    let dir = TempDir::new("deploy");
    let file = dir.write("config.toml", format!("[admin]\nlisten = \"{}\"\n", running.admin.trim_start_matches("http://")));
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let mut line = texts(&gateway[probe]["exec"]["command"]);
        assert_eq!(line.remove(0), "/doorward");
        let at = line.iter().position(|word| word == "/etc/doorward/config.toml").expect("the config that is mounted");
        line[at] = file.display().to_string();
        let output = Command::new(command()).args(&line).output().expect("the binary is built");
        assert!(output.status.success(), "{probe}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_unit_is_sound_for_systemd_and_open_to_little() {
    let text = read(&deploy("systemd/doorward.service"));
    // verify wants to see the program.
    let dir = TempDir::new("deploy");
    let unit = dir.write("doorward.service", text.replace("/usr/local/bin/doorward", command())).display().to_string();
    let sockets = dir.write("doorward.socket", read(&deploy("systemd/doorward.socket"))).display().to_string();
    let said = run("systemd-analyze", &["verify", &unit, &sockets]);
    assert_eq!(said, "", "systemd-analyze verify warns, and exits with 0 all the same");
    let _ = run("systemd-analyze", &["security", "--offline=yes", "--threshold=15", &unit]);

    let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    assert_understood(&start.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>());
    let secret = dir.write_secret("client_secret", "a-secret-that-stands-in").display().to_string();
    let config = load(&read(&deploy("systemd/config.toml")), &[("DOORWARD_PROVIDER__CLIENT_SECRET_FILE", &secret)]);
    let patience = text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).and_then(|time| time.parse().ok());
    assert_drains_within(patience.expect("a time"), &config);
    let open_files = text.lines().find_map(|line| line.strip_prefix("LimitNOFILE=")).and_then(|files| files.parse::<usize>().ok());
    assert!(open_files.expect("a number") > 2 * config.gateway.limits.connections);
}
