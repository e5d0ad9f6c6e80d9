//! The commands as a person meets them: what they print, where, and how they end.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;

use crate::harness::gateway::{Gateway, GatewayProcess, TOP, command};
use crate::harness::temp::TempDir;
use crate::harness::wait::{PATIENCE, accepts_within, eventually, free_port};

/// How a command ended.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs `doorward` with nothing in its environment but what is given.
fn doorward(args: &[&str], environment: &[(&str, &str)]) -> Ran {
    let environment: BTreeMap<_, _> = environment.iter().copied().collect();
    let output = Command::new(command()).args(args).env_clear().envs(environment).output().expect("the binary is built");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The same with a config file as its last argument.
fn with_config(args: &[&str], text: &str) -> (Ran, String) {
    let dir = TempDir::new("command");
    let file = dir.write("config.toml", text).display().to_string();
    let args: Vec<&str> = args.iter().copied().chain(["--config", &file]).collect();
    let state = dir.path().display().to_string();
    (doorward(&args, &[("STATE_DIRECTORY", &state)]), file)
}

const SOUND: &str = r#"
public_url = "https://app.example.com"
[provider]
issuer = "https://login.example.com"
client_id = "app"
client_secret = "a-secret-of-the-test"
"#;

#[test]
fn five_mistakes_are_five_messages_each_with_file_key_and_remedy() {
    let config = r#"
public_url = "http://app.example.com"
upstream = "127.0.0.1:8080"
allow = "any-authenticated"
[provider]
issuer = "https://login.example.com"
client_id = "app"
client_secret_file = "/nowhere/client_secret"
scops = ["openid"]
[session]
idle = "12"
"#;
    let (ran, file) = with_config(&["check"], config);
    assert_eq!(ran.code, Some(1));
    let messages: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(messages.len(), 5, "{}", ran.stderr);
    for (key, remedy) in [
        ("public_url", "use https, or write insecure_http = true"),
        ("upstream", "expected http://host:port"),
        ("provider.client_secret_file", "/nowhere/client_secret cannot be read"),
        ("provider.scops", "did you mean \"scopes\"?"),
        ("session.idle", "a time with its unit, such as \"30s\""),
    ] {
        let beginning = format!("error: {file}: {key}: ");
        let message = messages.iter().find(|message| message.starts_with(&beginning));
        let message = message.unwrap_or_else(|| panic!("nothing begins with {beginning:?}:\n{}", ran.stderr));
        assert!(message.contains(remedy), "{message}");
    }
    assert!(ran.stdout.contains("5 problems"), "{}", ran.stdout);
}

#[test]
fn a_sound_config_is_told_as_it_will_be_tried() {
    let routes = r#"
[[route]]
id = "everything"
upstream = "http://127.0.0.1:8080"
allow = "any-authenticated"
[[route]]
id = "orders"
path = "/orders/"
methods = ["GET"]
client = ["10.0.0.0/8"]
upstream = "http://127.0.0.1:8081"
allow = { groups = ["sales"] }
deny = { groups = ["suspended"] }
[[route]]
id = "api"
host = "api.example.com"
upstream = "http://127.0.0.1:8082"
access = "public"
[[route]]
id = "mobile"
path = "/mobile/"
upstream = "http://127.0.0.1:8083"
accept = ["bearer"]
allow = "any-authenticated"
assertion = true
[token]
path = "/oauth/token"
provider = "default"
"#;
    let (ran, _) = with_config(&["check"], &format!("{SOUND}{routes}"));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    let at = |id: &str| ran.stdout.lines().position(|line| line.trim_start().starts_with(id)).unwrap_or_else(|| panic!("no {id}"));
    assert!(at("api") < at("orders") && at("orders") < at("everything"), "{}", ran.stdout);
    for told in [
        "https://app.example.com/oauth2/callback",
        "https://app.example.com/oauth2/signed_out",
        "https://login.example.com",
        "https://app.example.com/oauth2/token and https://app.example.com/oauth/token",
        "https://app.example.com/oauth2/jwks",
        "GET  from 10.0.0.0/8  [session, policy \"orders\", deny first] -> http://127.0.0.1:8081",
    ] {
        assert!(ran.stdout.contains(told), "{told} is missing:\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("a-secret-of-the-test"));
}

#[test]
fn two_routes_that_tie_are_both_named() {
    let routes = r#"
[[route]]
id = "first"
path = "/orders/"
upstream = "http://127.0.0.1:8080"
allow = "any-authenticated"
[[route]]
id = "second"
path = "/orders"
upstream = "http://127.0.0.1:8081"
access = "public"
"#;
    for command in ["check", "run"] {
        let (ran, _) = with_config(&[command], &format!("{SOUND}{routes}"));
        assert_eq!(ran.code, Some(1));
        assert!(ran.stderr.contains("\"first\" and \"second\""), "{}", ran.stderr);
    }
}

#[test]
fn one_mistake_in_the_provider_is_one_message_whatever_hangs_on_it() {
    let routes = r#"
id = "corp"
scops = ["openid"]
[[route]]
accept = ["session"]
provider = ["corp"]
upstream = "http://127.0.0.1:8080"
allow = { groups = ["staff"], provider = ["corp"] }
"#;
    let config = SOUND.replace("client_secret = \"a-secret-of-the-test\"", "client_secret = \"\"");
    let (ran, _) = with_config(&["check"], &format!("{config}{}", routes.replace("scops = [\"openid\"]\n", "")));
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("provider.client_secret: is empty"), "{}", ran.stderr);
    let (ran, _) = with_config(&["check"], &format!("{SOUND}{routes}"));
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[test]
fn silence_allows_nobody_and_says_what_to_write() {
    let (ran, _) = with_config(&["check"], &format!("upstream = \"http://127.0.0.1:8080\"\n{SOUND}"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("allow = \"any-authenticated\""), "{}", ran.stderr);
}

#[test]
fn a_config_in_the_environment_alone_is_enough_and_its_mistakes_name_the_variable() {
    let state = TempDir::new("command");
    let state = state.path().display().to_string();
    let mut environment = vec![
        ("STATE_DIRECTORY", state.as_str()),
        ("DOORWARD_PUBLIC_URL", "https://app.example.com"),
        ("DOORWARD_UPSTREAM", "http://127.0.0.1:8080"),
        ("DOORWARD_ALLOW", "any-authenticated"),
        ("DOORWARD_PROVIDER__ISSUER", "https://login.example.com"),
        ("DOORWARD_PROVIDER__CLIENT_ID", "app"),
        ("DOORWARD_PROVIDER__CLIENT_SECRET", "secret"),
        // What Kubernetes sets for a service of our name.
        ("DOORWARD_PORT", "tcp://10.0.0.1:4180"),
    ];
    let ran = doorward(&["check"], &environment);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    environment.push(("DOORWARD_SESSION__IDLE", "12"));
    let ran = doorward(&["check"], &environment);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("environment variable DOORWARD_SESSION__IDLE: session.idle: "), "{}", ran.stderr);
}

#[test]
fn the_variable_that_names_the_file_is_no_key_of_the_config() {
    let dir = TempDir::new("command");
    let file = dir.write("config.toml", format!("upstream = \"http://127.0.0.1:8080\"\nallow = \"any-authenticated\"\n{SOUND}"));
    let (file, state) = (file.display().to_string(), dir.path().display().to_string());
    let ran = doorward(&["check"], &[("DOORWARD_CONFIG", &file), ("STATE_DIRECTORY", &state)]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_named_and_quotes_no_secret() {
    let ran = doorward(&["check", "--config", "/nowhere/doorward.toml"], &[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("/nowhere/doorward.toml: cannot be read"), "{}", ran.stderr);
    let (ran, file) = with_config(&["check"], "public_url = \"https://app.example.com\"\n[provider]\nclient_secret = hunter2\n");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(&file) && ran.stderr.contains("line 3"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
}

#[test]
fn run_refuses_a_config_with_problems() {
    let (ran, file) = with_config(&["run"], &format!("upstream = \"http://127.0.0.1:8080\"\n{SOUND}"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains(&format!("error: {file}: allow: is missing")), "{}", ran.stderr);
    assert!(ran.stderr.contains("does not start"), "{}", ran.stderr);
}

#[test]
fn an_address_that_is_taken_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for key in ["listen", "admin.listen"] {
        let at = |name: &str| if name == key { address.clone() } else { format!("127.0.0.1:{}", free_port()) };
        let config = format!(
            "listen = \"{}\"\nupstream = \"http://127.0.0.1:8080\"\nallow = \"any-authenticated\"\n{SOUND}[admin]\nlisten = \"{}\"\n[store]\nkind = \"memory\"\n",
            at("listen"),
            at("admin.listen")
        );
        let (ran, _) = with_config(&["run"], &config);
        assert_eq!(ran.code, Some(1), "{key}");
        let told = ran.stderr.lines().last().unwrap_or_default();
        assert!(told.starts_with(&format!("error: {key}: cannot listen on {address}: ")), "{told}");
        assert!(told.contains("in use"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_the_admin_listeners_word_and_a_stopped_gateway_has_none() {
    let gateway =
        Gateway::start(&format!("{TOP}upstream = \"static:200\"\naccess = \"public\"\n").replace("upstream", "[[route]]\nupstream"));
    let address = gateway.admin.trim_start_matches("http://").to_owned();
    for args in [vec!["health", "--admin-listen", &address], vec!["health", "--live", "--admin-listen", &address]] {
        let ran = doorward(&args, &[]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
    }
    // The address is that of the configuration, from wherever it comes; nothing else of it has to be sound.
    let ran = doorward(&["health"], &[("DOORWARD_ADMIN__LISTEN", &address)]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (ran, _) = with_config(&["health"], &format!("nonsense = 1\n[admin]\nlisten = \"{address}\"\n"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    gateway.stop();
    for args in [vec!["health", "--admin-listen", &address], vec!["health", "--live", "--admin-listen", &address]] {
        let ran = doorward(&args, &[]);
        assert_eq!(ran.code, Some(1), "{args:?}");
        assert!(ran.stderr.contains(&format!("no answer from the admin listener at {address}")), "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_drains_is_alive_and_not_ready() {
    let port = free_port();
    let config = format!("{TOP}[[route]]\nupstream = \"static:200\"\naccess = \"public\"\n[drain]\ndelay = \"1h\"\n");
    let gateway = GatewayProcess::start_on(port, &config).await;
    gateway.process.signal("TERM");
    eventually("readiness turns", || {
        let ran = doorward(&["health", "--admin-listen", &gateway.admin], &[]);
        (ran.code == Some(1) && ran.stderr.contains("503") && ran.stderr.contains("draining")).then_some(())
    })
    .await;
    assert_eq!(doorward(&["health", "--live", "--admin-listen", &gateway.admin], &[]).code, Some(0));
    // A second signal ends it at once.
    gateway.process.signal("TERM");
    assert!(gateway.process.wait(PATIENCE).await.success());
    assert!(!accepts_within(gateway.address, std::time::Duration::ZERO).await);
}

#[test]
fn help_names_what_there_is_and_nothing_else() {
    let help = doorward(&["--help"], &[]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    let (_, commands) = help.stdout.split_once("Commands:\n").expect("commands are listed");
    let commands: Vec<&str> =
        commands.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(commands, ["run", "demo", "check", "explain", "health", "sessions", "hash-password", "import"]);
    for (command, options) in [
        ("run", &["--config", "--listen", "--log-level", "--log-format"][..]),
        ("demo", &["--port"][..]),
        ("check", &["--config", "--online"][..]),
        ("explain", &["--config", "--as", "--kind", "--provider", "--header", "--browser", "--address", "--json"][..]),
        ("health", &["--config", "--admin-listen", "--live"][..]),
        ("hash-password", &["--totp"][..]),
    ] {
        let help = doorward(&[command, "--help"], &[]);
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{command}");
        // Examples come after the options, and name them again.
        let listed = help.stdout.split("\nExamples:").next().unwrap_or_default();
        let words = listed.split_whitespace().filter(|word| word.starts_with("--") && *word != "--help");
        let mut named: Vec<&str> = words.collect();
        named.dedup();
        assert_eq!(named, options, "{}", help.stdout);
        for line in listed.lines().filter(|line| line.trim_start().starts_with("--")) {
            let said = line.split_whitespace().filter(|word| !word.starts_with(['-', '<'])).count();
            assert!(said > 2 || help.stdout.contains("\n          "), "an option without an explanation: {line}");
        }
    }
}

#[test]
fn a_command_or_an_option_that_there_is_not_ends_with_2() {
    for args in [&["serve"][..], &["check", "--offline"][..], &["run", "--nonsense"][..], &[][..]] {
        let ran = doorward(args, &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(ran.stderr.contains("Usage: doorward"), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn the_version_is_told() {
    let ran = doorward(&["--version"], &[]);
    assert_eq!((ran.code, ran.stdout.trim()), (Some(0), concat!("doorward ", env!("CARGO_PKG_VERSION"))));
}

/// What a command does with this on its standard input.
fn fed(args: &[&str], input: &str) -> Ran {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut command = Command::new(command());
    let mut child = command.args(args).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that ends early reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn a_password_from_a_pipe_becomes_a_line_that_a_config_takes() {
    let ran = fed(&["hash-password", "--totp", "ann b"], "correct horse\n");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.stdout);
    assert!(lines[0].starts_with("password = \"$argon2id$v=19$m=19456,t=2,p=1$"), "{}", lines[0]);
    let secret = lines[1].strip_prefix("totp = \"").unwrap().trim_end_matches('"');
    assert_eq!((secret.len(), lines[2]), (32, format!("# otpauth://totp/Doorward:ann%20b?secret={secret}&issuer=Doorward").as_str()));
    assert!(!ran.stdout.contains("correct horse"));
    let config = format!(
        "public_url = \"https://app.example.com\"\nupstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n[[user]]\nname = \"ann b\"\n{}",
        ran.stdout
    );
    let (checked, _) = with_config(&["check"], &config);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(checked.stdout.contains("a form of its own: 1 in the config"), "{}", checked.stdout);

    // Another salt each time; a line that came from Windows is the same password, and nothing is none.
    assert_ne!(fed(&["hash-password"], "correct horse\r\n").stdout.lines().next(), Some(lines[0]));
    for (args, input, told) in [
        (&["hash-password"][..], "\n", "empty password"),
        (&["hash-password"], "", "empty password"),
        (&["hash-password"], &"x".repeat(5000), "longer than 4096 bytes"),
        (&["hash-password", "--totp", "a:b"], "x\n", "colon"),
    ] {
        let ran = fed(args, input);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_at_a_terminal_is_asked_for_twice_and_never_shown() {
    let (code, seen) = at_terminal(["correct horse", "correct horse"]).await;
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("password = \"$argon2id$") && !seen.contains("correct horse"), "{seen}");
    let (code, seen) = at_terminal(["correct horse", "correct mule"]).await;
    assert!(code == Some(1) && seen.contains("the two differ") && !seen.contains("argon2id"), "{seen}");
}

/// `hash-password` at a terminal of its own, which `script` gives it: how it ended, and what the terminal showed.
async fn at_terminal(typed: [&str; 2]) -> (Option<i32>, String) {
    use std::io::{Read as _, Write as _};
    use std::process::Stdio;
    let mut child = Command::new("script")
        .args(["-qec", &format!("exec {} hash-password", command()), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is there (Debian: bsdutils)");
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut seen = String::new();
    for (prompt, line) in ["Password: ", "Once more: "].into_iter().zip(typed) {
        while !seen.ends_with(prompt) {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {seen}"));
            seen.push(char::from(byte[0]));
        }
        // People look at the prompt before they type; until the echo is off it would be shown.
        eventually("a terminal without echo", || silent(child.id()).then_some(())).await;
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
    output.read_to_string(&mut seen).unwrap();
    (child.wait().unwrap().code(), seen)
}

/// Whether the terminal of this process's child shows nothing of what is typed.
fn silent(parent: u32) -> bool {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let Some(child) = children.split_whitespace().next() else { return false };
    let Ok(terminal) = std::fs::read_link(format!("/proc/{child}/fd/0")) else { return false };
    let told = Command::new("stty").arg("-a").arg("-F").arg(terminal).output().expect("stty is there (Debian: coreutils)");
    String::from_utf8_lossy(&told.stdout).split_whitespace().any(|word| word == "-echo")
}
