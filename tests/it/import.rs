//! `doorward import oauth2-proxy`: what its configurations become, and what is said of it. `tests/import` holds one folder a configuration:
//! its files, the config that comes out, the report.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use doorward::config::{Severity, Sources, load};
use doorward::import::options::{self, Kind};
use doorward::import::{Imported, Input, Request, import};

use crate::harness::gateway::command;
use crate::harness::temp::TempDir;

const HASH: &str = "$2y$12$O9dQ3qTSh1NGzZ6gYE5vJunyxI46ZKuFwLm/DmlEmnLGsVBLmnLEi";

/// A run over one folder of `tests/import`.
struct Run {
    dir: TempDir,
    code: Option<i32>,
    stdout: String,
    stderr: String,
    config: String,
}

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    let mut found: Vec<PathBuf> = fs::read_dir(root).expect("tests/import").map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found
}

/// Lays out a folder's input beside the files that inputs may name, and imports it.
fn run(folder: &Path) -> Run {
    let dir = TempDir::new("import");
    let pem = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    for (name, text) in [("client_secret", "s3cret"), ("tls.key", "key"), ("htpasswd", &format!("ann:{HASH}\n"))] {
        dir.write_secret(&format!("files/{name}"), text);
    }
    for name in ["ca.pem", "tls.crt", "emails", "logo.svg"] {
        dir.write(&format!("files/{name}"), if name == "emails" { "# ours\nann@example.com\n" } else { "<svg/>" });
    }
    let files = dir.join("files").display().to_string();
    let mut inputs: Vec<PathBuf> =
        fs::read_dir(folder.join("input")).expect("input").map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    let inputs = inputs.iter().map(|input| {
        let text = fs::read_to_string(input).expect("text").replace("@FILES@", &files).replace("@PEM@", pem.trim());
        dir.write(input.file_name().and_then(|name| name.to_str()).expect("a name"), text)
    });
    let inputs: Vec<PathBuf> = inputs.collect();
    let more = fs::read_to_string(folder.join("arguments")).unwrap_or_default();
    let out = dir.join("out");
    let output = Command::new(command())
        .args(["import", "oauth2-proxy", "--out"])
        .arg(&out)
        .args(more.split_whitespace())
        .args(&inputs)
        .env_clear()
        .output()
        .expect("the binary is built");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").replace(&dir.path().display().to_string(), "@HERE@");
    let config = fs::read_to_string(out.join("config.toml")).unwrap_or_default().replace(&dir.path().display().to_string(), "@HERE@");
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr), config, dir }
}

#[test]
fn every_configuration_becomes_the_config_and_the_report_beside_it() {
    let folders = folders();
    assert!(folders.len() >= 30, "{} configurations", folders.len());
    let mut wrong = Vec::new();
    for folder in &folders {
        let ran = run(folder);
        let report = ran.stdout.split("\nWritten: ").next().unwrap_or_default().trim_end().to_owned();
        assert_eq!(ran.code, Some(0), "{}: {}", folder.display(), ran.stderr);
        for (name, found) in [("config.toml", ran.config.trim_end()), ("report.txt", &report)] {
            let file = folder.join(name);
            let expected = fs::read_to_string(&file).unwrap_or_default();
            if expected.trim_end() != found {
                let beside = std::env::temp_dir().join(format!("{}-{name}", folder.file_name().unwrap_or_default().to_string_lossy()));
                fs::write(&beside, format!("{found}\n")).expect("the temporary folder takes files");
                wrong.push(format!("{} is not what came out: {}", file.display(), beside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_config_that_comes_out_passes_check_once_the_report_is_done() {
    let mut wrong = Vec::new();
    for folder in folders() {
        let ran = run(&folder);
        // What the report asks to be put somewhere.
        for line in ran.stdout.lines().filter_map(|line| line.trim_start().strip_prefix("- put into @HERE@/")) {
            let (name, _) = line.split_once(": ").expect("a file and what it is");
            ran.dir.write_secret(name, "what somebody put there");
        }
        let file = ran.dir.join("out/config.toml");
        if let Err(problems) = load(&Sources { file: Some(&file), ..Sources::default() }) {
            let problems = problems.iter().filter(|problem| problem.severity == Severity::Error).map(|problem| format!("    {problem}"));
            wrong.push(format!("{}\n{}", folder.display(), problems.collect::<Vec<_>>().join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_secret_of_an_input_is_in_a_config_or_a_report() {
    let mut looked = 0;
    for folder in folders() {
        let ran = run(&folder);
        for secret in ["s3cret", "OQINaROshtE9TcZkNAm", "ghp_of_somebody", "p%40ss", "p@ss", "BEGIN PRIVATE KEY"] {
            let said = [&ran.config, &ran.stdout, &ran.stderr].into_iter().find(|text| text.contains(secret));
            assert!(said.is_none(), "{}: {secret} in {said:?}", folder.display());
            looked += 1;
        }
        use std::os::unix::fs::PermissionsExt as _;
        for entry in fs::read_dir(ran.dir.join("out")).expect("out").map(|entry| entry.expect("an entry")) {
            let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
            let wanted = if entry.file_name() == "config.toml" { 0o640 } else { 0o600 };
            assert_eq!(mode & !wanted, 0, "{}: {:o}", entry.path().display(), mode);
        }
    }
    assert!(looked > 100);
}

fn imported(name: &str, text: &str) -> Imported {
    let inputs = [Input { name: name.to_owned(), text: text.to_owned() }];
    import(&Request { inputs: &inputs, environment: None, auth_urls: &[], secrets_at: "/etc/doorward" }).expect("it can be read")
}

#[test]
fn every_option_of_its_documentation_is_known_and_none_is_passed_over_in_silence() {
    let list = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/options.txt")).expect("the list");
    let names: Vec<&str> = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(names.len() >= 150, "{}", names.len());
    let known: Vec<&str> = options::all().map(|row| row.name).collect();
    let unknown: Vec<&&str> = names.iter().filter(|name| !known.contains(name)).collect();
    let extra: Vec<&&str> = known.iter().filter(|name| !names.contains(name)).collect();
    assert!(unknown.is_empty() && extra.is_empty(), "not in the code: {unknown:?}; not in the list: {extra:?}");
    for row in options::all() {
        let values: &[&str] = if row.kind == Kind::Switch { &["true", "false"] } else { &["a.example.com"] };
        for value in values {
            for (file, said) in [
                (format!("oauth2-proxy --provider=oidc --{}={value}\n", row.name), format!("--{}", row.name)),
                (format!("OAUTH2_PROXY_{}={value}\n", row.key().to_uppercase()), format!("OAUTH2_PROXY_{}", row.key().to_uppercase())),
                (format!("{} = \"{value}\"\n", row.key()), row.key()),
            ] {
                let report = imported("input", &file).report;
                let rows: Vec<_> =
                    [&report.taken, &report.different, &report.missing].into_iter().flatten().filter(|line| line.option == said).collect();
                assert!(!rows.is_empty(), "nothing is said of {file}");
                assert!(rows.iter().all(|row| !row.text.contains("is no option")), "{rows:?}");
            }
        }
    }
}

#[test]
fn each_trap_is_named() {
    let all: BTreeMap<String, String> =
        folders().into_iter().map(|folder| (folder.file_name().unwrap().to_string_lossy().into_owned(), run(&folder).stdout)).collect();
    for (trap, folder, words) in [
        (1, "nginx", "policy=auth-1"),
        (2, "nginx", "forward_auth.headers"),
        (3, "kubernetes", "cookie__oauth2_proxy"),
        (4, "kubernetes", "3 replicas"),
        (5, "command-line", "email_verified"),
        (6, "bearer", "ID token"),
        (7, "open-paths", "/admin/status"),
        (8, "https", "/readyz"),
        (9, "command-line", "signed_out"),
        (11, "nginx", "200 where it was 202"),
        (12, "traefik", "/oauth2/forward"),
        (13, "traefik", "trusted_proxies"),
        (14, "command-line", "x%2COU"),
        (15, "gitlab", "nickname"),
        (16, "structured", "encoded_slash"),
        (17, "command-line", "421"),
        (18, "headers", "503 while they are not renewed"),
        (19, "several-upstreams", "301"),
        (20, "command-line", "session.absolute"),
        (21, "headers", "userinfo"),
        (22, "people-in-a-file", "groups is asked for"),
        (23, "cookies", "framed by another site"),
        (24, "headers", "GAP-Auth"),
        (25, "open-paths", "preflight"),
        (26, "password-file", "{SHA}"),
        (27, "command-line", "DOORWARD_"),
        (28, "command-line", "foreign Origin"),
    ] {
        assert!(all[folder].contains(words), "trap {trap}: {folder} does not say {words:?}\n{}", all[folder]);
    }
}

#[test]
fn without_a_folder_the_config_is_stdout_and_no_secret_is_shown() {
    let dir = TempDir::new("import");
    let input = dir.write("start.sh", "oauth2-proxy --provider=oidc --oidc-issuer-url=https://login.example.com --client-id=a --client-secret=hunter2 --email-domain=example.com --upstream=http://127.0.0.1:1 --redirect-url=https://a.example.com/oauth2/callback");
    let output = Command::new(command()).args(["import", "oauth2-proxy"]).arg(&input).env_clear().output().expect("the binary is built");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("client_secret_file = \"/etc/doorward/client_secret\""), "{stdout}");
    assert!(stderr.contains("Taken over") && stderr.contains("put into /etc/doorward/client_secret"), "{stderr}");
    assert!(!stdout.contains("hunter2") && !stderr.contains("hunter2"));
    let json = Command::new(command())
        .args(["import", "oauth2-proxy", "--json", "-"])
        .stdin(fs::File::open(&input).unwrap())
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(json.stderr).unwrap();
    let start = text.find("{\n").expect("an object");
    let report: serde_json::Value = serde_json::from_str(&text[start..]).expect("JSON");
    assert!(report["taken_over"].as_array().unwrap().iter().any(|row| row["option"] == "--client-id"), "{report}");
}

#[test]
fn nothing_that_is_there_is_overwritten_and_what_cannot_be_read_is_named() {
    let dir = TempDir::new("import");
    let input = dir.write("proxy.env", "OAUTH2_PROXY_PROVIDER=oidc\n");
    let out = dir.join("out");
    let import =
        |input: &Path| Command::new(command()).args(["import", "oauth2-proxy", "--out"]).arg(&out).arg(input).env_clear().output().unwrap();
    dir.write("out/client_secret", "mine");
    dir.write("out/config.toml", "# mine");
    let refused = import(&input);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not overwritten"));
    assert_eq!(fs::read_to_string(out.join("config.toml")).unwrap(), "# mine");
    let missing = import(&dir.join("nowhere.cfg"));
    assert!(missing.status.code() == Some(1) && String::from_utf8_lossy(&missing.stderr).contains("nowhere.cfg"));
}

#[test]
fn the_environment_itself_is_an_input() {
    let dir = TempDir::new("import");
    let output = Command::new(command())
        .args(["import", "oauth2-proxy", "--environment", "--out"])
        .arg(dir.join("out"))
        .env_clear()
        .env("OAUTH2_PROXY_EMAIL_DOMAINS", "example.com")
        .env("OAUTH2_PROXY_REDIRECT_URL", "https://app.example.com/oauth2/callback")
        .output()
        .unwrap();
    assert!(output.status.success());
    let config = fs::read_to_string(dir.join("out/config.toml")).unwrap();
    assert!(config.contains("email_domains = [\"example.com\"]") && config.contains("# from OAUTH2_PROXY_REDIRECT_URL"), "{config}");
}

#[test]
fn a_start_with_the_old_variables_alone_fails_by_their_name() {
    let check = |variables: &[(&str, &str)]| {
        let dir = TempDir::new("import");
        let config = dir.write(
            "config.toml",
            "public_url = \"https://app.test\"\nupstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n[store]\nkind = \"memory\"\n\
             [provider]\nissuer = \"https://login.test\"\nclient_id = \"a\"\nclient_secret = \"b\"\n",
        );
        let output =
            Command::new(command()).args(["check", "--config"]).arg(&config).env_clear().envs(variables.iter().copied()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (sound, said) =
        check(&[("OAUTH2_PROXY_CLIENT_ID", "a"), ("OAUTH2_PROXY_CLIENT_SECRET", "hunter2"), ("DOORWARD_PORT", "tcp://10.0.0.1:80")]);
    assert!(!sound && said.contains("OAUTH2_PROXY_CLIENT_ID and 1 more") && said.contains("import oauth2-proxy --environment"), "{said}");
    assert!(!said.contains("hunter2"));
    let (sound, said) = check(&[("OAUTH2_PROXY_CLIENT_ID", "a"), ("DOORWARD_LISTEN", "127.0.0.1:0")]);
    assert!(sound, "{said}");
    assert!(check(&[]).0);
}

/// What comes out for the files, each a name and what it holds.
fn of(files: &[(&str, &str)]) -> Result<Imported, String> {
    let inputs: Vec<Input> = files.iter().map(|(name, text)| Input { name: (*name).to_owned(), text: (*text).to_owned() }).collect();
    import(&Request { inputs: &inputs, environment: None, auth_urls: &[], secrets_at: "/etc/doorward" })
}

const WORKING: &str = "oauth2-proxy --provider=oidc --oidc-issuer-url=https://login.example.com --client-id=a --client-secret=b --redirect-url=https://a.example.com/oauth2/callback";

#[test]
fn what_cannot_be_carried_over_lets_nobody_in() {
    let kept = "--allowed-group=${GROUPS} --email-domain=*";
    for (options, wanted) in [
        ("--upstream=http://a:1 --email-domain=* --allowed-group=${WHO}", "groups = [\"fill-in\"]"),
        ("--upstream=http://a:1 --email-domain=${WHO} --allowed-group=staff", "email_domains = [\"fill-in.example.com\"]"),
        ("--upstream=http://a:1 --email-domain=* --gitlab-project=group/it=30", "groups = [\"fill-in\"]"),
        ("--upstream=http://a:1 --email-domain=* --github-user=ann", "groups = [\"fill-in\"]"),
        ("--upstream=http://a:1 --email-domain=* --github-repo=our/repo", "groups = [\"fill-in\"]"),
        ("--upstream=http://a:1 --email-domain=* --bitbucket-team=ours", "groups = [\"fill-in\"]"),
        ("--upstream=http://a:1 --allowed-group=staff", "email_domains = [\"fill-in.example.com\"]"),
        ("--upstream=http://a:1 --email-domain=@example.com", "email_domains = [\"fill-in.example.com\"]"),
    ] {
        let out = of(&[("start.sh", &format!("{WORKING} {options}"))]).unwrap();
        assert!(out.config.contains(wanted) && !out.config.contains("any-authenticated"), "{options}\n{}", out.config);
        assert!(out.report.first.iter().any(|first| first.contains("lets nobody in")), "{options}\n{:?}", out.report.first);
    }
    let kept = of(&[("start.sh", &format!("{WORKING} --upstream=http://a:1 {kept}"))]).unwrap();
    let wrong: Vec<_> = kept.report.taken.iter().filter(|row| row.option == "--allowed-group").collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let group = of(&[("a.cfg", "provider = \"oidc\"\nemail_domains = [\"*\"]\nallowed_groups = [\"\"]\nupstreams = [\"http://a:1\"]\n")]);
    assert!(group.unwrap().config.contains("groups = [\"fill-in\"]"));
}

#[test]
fn an_unverified_address_signs_nobody_in_where_no_rule_goes_by_addresses() {
    let denied = "deny = { claims = { email_verified = [\"false\"] } }";
    let open = format!("{WORKING} --upstream=http://a:1 --email-domain=*");
    for (options, wanted) in
        [("", true), ("--allowed-group=staff", true), ("--insecure-oidc-allow-unverified-email", false), ("--oidc-email-claim=upn", false)]
    {
        let out = of(&[("start.sh", &format!("{open} {options}"))]).unwrap();
        assert_eq!(out.config.contains(denied), wanted, "{options}\n{}", out.config);
    }
    let by_address = of(&[("start.sh", &format!("{WORKING} --upstream=http://a:1 --email-domain=example.com"))]).unwrap();
    assert!(!by_address.config.contains("deny"), "{}", by_address.config);
    let programs = of(&[("start.sh", &format!("{open} --skip-jwt-bearer-tokens"))]).unwrap();
    assert!(programs.config.contains("deny = { provider = [\"oidc\", \"https://login.example.com\"], claims"), "{}", programs.config);
}

#[test]
fn of_one_variable_the_last_value_counts_and_a_default_is_told() {
    let twice = "OAUTH2_PROXY_PROVIDER=oidc\nOAUTH2_PROXY_EMAIL_DOMAINS=*\nOAUTH2_PROXY_EMAIL_DOMAINS=example.com\n";
    let out = of(&[("env", twice)]).unwrap();
    assert!(out.config.contains("email_domains = [\"example.com\"]"), "{}", out.config);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: proxy}\nspec:\n  containers:\n  - name: oauth2-proxy\n    envFrom:\n    - configMapRef: {name: all}\n    env:\n    - {name: OAUTH2_PROXY_EMAIL_DOMAINS, value: example.com}\n";
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: all}\ndata:\n  OAUTH2_PROXY_EMAIL_DOMAINS: \"*\"\n";
    for text in [format!("{pod}---\n{map}"), format!("{map}---\n{pod}")] {
        let out = of(&[("all.yaml", &text)]).unwrap();
        assert!(out.config.contains("email_domains = [\"example.com\"]"), "{text}\n{}", out.config);
    }
    let compose = "services:\n  oauth2-proxy:\n    image: quay.io/oauth2-proxy/oauth2-proxy\n    environment:\n    - OAUTH2_PROXY_EMAIL_DOMAINS=${DOMAINS:-*}\n";
    let first = of(&[("compose.yaml", compose)]).unwrap().report.first;
    assert!(first.iter().any(|first| first.contains("DOMAINS")), "{first:?}");
}

#[test]
fn what_is_not_one_oauth2_proxy_is_not_read_as_one() {
    let one = |name: &str, domain: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  template:\n    spec:\n      containers:\n      - name: oauth2-proxy\n        args: [\"--email-domain={domain}\", \"--allowed-group=staff\"]\n"
        )
    };
    let two = format!("{}---\n{}", one("strict", "example.com"), one("lax", "*"));
    let error = of(&[("both.yaml", &two)]).err().unwrap();
    assert!(error.contains("strict, lax"), "{error}");
    let error = of(&[("a.cfg", "email_domains = [\"example.com\"]\n"), ("b.cfg", "email_domains = [\"*\"]\n")]).err().unwrap();
    assert!(error.contains("b.cfg") && error.contains("email_domains"), "{error}");
    let error = of(&[("a.sh", "oauth2-proxy --email-domain=example.com"), ("b.sh", "oauth2-proxy --email-domain=*")]).err().unwrap();
    assert!(error.contains("b.sh: holds a second command line"), "{error}");
    // Another program's file in a ConfigMap does not take the place of options.
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\ndata:\n  app.yaml: \"server: {port: 80}\\nlevel: info\\n\"\n";
    let out = of(&[("all.yaml", &format!("{}---\n{other}", one("strict", "*")))]).unwrap();
    assert!(out.config.contains("groups = [\"staff\"]"), "{}", out.config);
    assert!(out.report.first.iter().any(|first| first.contains("app.yaml")), "{:?}", out.report.first);
}

#[test]
fn what_a_merge_key_puts_in_counts() {
    let alpha = "shared: &shared\n  allowedGroups: [staff]\nproviders:\n- <<: *shared\n  id: a\n  provider: oidc\n  clientID: a\nupstreamConfig:\n  upstreams: [{id: a, path: /, uri: \"http://a:1\"}]\n";
    let out = of(&[("alpha.yaml", alpha), ("start.sh", "oauth2-proxy --alpha-config=alpha.yaml --email-domain=*")]).unwrap();
    assert!(out.config.contains("groups = [\"staff\"]"), "{}", out.config);
}

#[test]
fn an_opened_path_leads_where_it_led_before_or_stays_closed() {
    for options in [
        "--upstream=http://a:1/app/ --skip-auth-route=GET!=^/app/private",
        "--upstream=http://a:1/app --skip-auth-route=^/apples",
        "--upstream=http://a:1/ --upstream=http://b:1/api/x --skip-auth-route=^/api/x",
        "--upstream=http://a:1/ --skip-auth-route=^/[^a&&b]",
    ] {
        let out = of(&[("start.sh", &format!("{WORKING} --email-domain=* {options}"))]).unwrap();
        assert!(!out.config.contains("access = \"optional\""), "{options}\n{}", out.config);
        assert!(out.report.first.iter().any(|first| first.contains("stays behind the login")), "{options}\n{:?}", out.report.first);
    }
}

#[test]
fn proxies_that_were_not_believed_are_not_believed() {
    let options = "--upstream=http://a:1 --email-domain=* --trusted-proxy-ip=10.0.0.1 --trusted-ip=10.0.0.0/8";
    let out = of(&[("start.sh", &format!("{WORKING} {options}"))]).unwrap();
    assert!(!out.config.contains("trusted_proxies"), "{}", out.config);
}
