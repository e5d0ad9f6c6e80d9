//! `doorward demo` as whoever tries it out meets it: the real process, its pages, and the lines that it prints to paste.

use std::process::Command;

use crate::harness::browser::{Browser, Page};
use crate::harness::gateway::command;
use crate::harness::process::{Launch, Process};
use crate::harness::wait::PATIENCE;

/// A running demo.
pub struct Demo {
    pub process: Process,
    pub url: String,
}

/// Starts one on a free port.
pub async fn start() -> Demo {
    start_on("0").await
}

async fn start_on(port: &str) -> Demo {
    let process = Launch::new(command()).args(["demo", "--port", port]).clean_env().start();
    process.wait_for_line(|line| line == "ready", PATIENCE).await;
    let text = process.stdout();
    let (_, rest) = text.split_once("Doorward demo at ").unwrap_or_else(|| panic!("no address in\n{text}"));
    let url = rest.split_whitespace().next().unwrap_or_default().to_owned();
    Demo { process, url }
}

/// Types name and password into the demo provider's form and comes back.
async fn sign_in(browser: &mut Browser, page: Page, user: &str, password: &str) -> Page {
    let form = browser.follow_all(page).await;
    assert!(form.visible_text().contains("Sign in to the demo"), "{}", form.visible_text());
    let back = browser.submit(&form, &form.form(), &[("username", user), ("password", password)]).await;
    browser.follow_all(back).await
}

/// A line of the demo, run as it stands there; the token is set first, as it is for whoever pastes them all. Gives the answer's head and
/// body.
fn paste(stdout: &str, line: &str) -> (String, String) {
    let token = stdout.lines().find(|line| line.starts_with("TOKEN=")).expect("the demo prints a token");
    let output = Command::new("bash").args(["-c", &format!("{token}\n{line}")]).output().expect("bash and curl are there");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").map_or(("", text.as_str()), |parts| parts);
    (head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_says_ready_on_its_last_line_and_ends_when_it_is_told_to() {
    let demo = start().await;
    assert_eq!(demo.process.stdout().lines().last(), Some("ready"));
    for name in ["alice", "wonderland", "bob", "builder"] {
        assert!(demo.process.stdout().contains(name), "{name} is not told of");
    }
    demo.process.signal("TERM");
    let status = demo.process.wait(PATIENCE).await;
    assert!(status.success(), "{status}: {}", demo.process.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_whose_port_is_taken_finds_another() {
    let first = start().await;
    let port = first.url.rsplit(':').next().expect("a port");
    let second = start_on(port).await;
    assert_ne!(first.url, second.url);
    assert_eq!(Browser::new().get(&format!("{}/public/", second.url)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn alice_sees_who_she_is_and_bob_is_told_that_staff_only_is_not_for_him() {
    let demo = start().await;
    let mut alice = Browser::new();
    let page = alice.get(&format!("{}/staff/", demo.url)).await;
    let page = sign_in(&mut alice, page, "alice", "wonderland").await;
    assert_eq!((page.status.as_u16(), page.url.path()), (200, "/staff/"));
    let text = page.visible_text();
    for told in ["You reached the sample app", "x-forwarded-user", "alice@example.com", "staff"] {
        assert!(text.contains(told), "{told} is missing:\n{text}");
    }

    let mut bob = Browser::new();
    let page = bob.get(&format!("{}/", demo.url)).await;
    let page = sign_in(&mut bob, page, "bob", "builder").await;
    assert!(page.visible_text().contains("you are bob"), "{}", page.visible_text());
    let page = bob.get(&format!("{}/staff/", demo.url)).await;
    assert_eq!(page.status, 403);
    let text = page.visible_text();
    assert!(text.contains("signed in as Bob") && text.contains("not-allowed"), "{text}");
    assert!(!text.contains("You reached the sample app"), "the app was reached:\n{text}");
    // He is still signed in, and the page offers him another account.
    assert_eq!(bob.get(&format!("{}/", demo.url)).await.status, 200);
    let page = bob.submit(&page, &page.form_to("/oauth2/sign_out"), &[]).await;
    let page = bob.follow_all(page).await;
    assert!(page.visible_text().contains("Sign in to the demo"), "{}", page.visible_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_on_the_demos_form() {
    let demo = start().await;
    let mut browser = Browser::new();
    let page = browser.get(&format!("{}/", demo.url)).await;
    let page = sign_in(&mut browser, page, "alice", "builder").await;
    assert!(page.visible_text().contains("not the name and password"), "{}", page.visible_text());
    assert!(browser.cookie("doorward").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_that_the_demo_prints_does_what_its_comment_says() {
    let demo = start().await;
    let stdout = demo.process.stdout();
    let lines: Vec<&str> = stdout.lines().filter(|line| line.starts_with("curl ")).collect();
    let [browser, no_token, token, asked, asked_with_token, metrics] = lines.as_slice() else { panic!("{} lines:\n{stdout}", lines.len()) };

    let (head, _) = paste(&stdout, browser);
    assert!(head.starts_with("http/1.1 303") && head.contains("/authorize?"), "{head}");

    let (head, body) = paste(&stdout, no_token);
    assert!(head.starts_with("http/1.1 401"), "{head}");
    assert!(head.contains("\nwww-authenticate: bearer"), "{head}");
    assert!(body.contains("no-credential") && body.contains("token_required"), "{body}");

    let (head, body) = paste(&stdout, token);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.contains("demo-program") && !body.contains("root"), "{body}");

    let (head, body) = paste(&stdout, asked);
    assert!(head.starts_with("http/1.1 401") && !body.contains("sample"), "{head}\n{body}");

    let (head, _) = paste(&stdout, asked_with_token);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("\nx-auth-request-user: demo-program"), "{head}");

    let (_, text) = paste(&stdout, metrics);
    assert!(text.contains("no-credential"), "{text}");
}
