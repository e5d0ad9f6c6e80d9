//! A real, headless Chromium, driven over the W3C WebDriver protocol by way of Debian's chromedriver.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::body::{empty, full};
use super::http::HttpClient;
use super::process::{Launch, Process};
use super::temp::TempDir;
use super::wait::PATIENCE;

/// WebDriver's name for the member that holds an element's id.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// How a Chromium is to be.
#[derive(Default)]
pub struct ChromiumOptions {
    host_rules: Vec<String>,
    args: Vec<String>,
    window: Option<(u32, u32)>,
}

impl ChromiumOptions {
    /// Where a name really is, `--host-resolver-rules`: `host("app.example.test", address)` takes all ports of the name there.
    #[must_use]
    pub fn host(mut self, name: &str, address: SocketAddr) -> Self {
        self.host_rules.push(format!("MAP {name} {address}"));
        self
    }

    /// A further argument of the command line.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// The size of the window (by default 1280 × 900).
    #[must_use]
    pub fn window(mut self, width: u32, height: u32) -> Self {
        self.window = Some((width, height));
        self
    }

    /// Starts it, with an empty profile.
    pub async fn start(self) -> Chromium {
        let profile = TempDir::new("chromium");
        let (driver, ready) = driver(&profile).await;
        let port = ready.trim_end_matches('.').rsplit(' ').next().and_then(|port| port.parse().ok());
        let address = SocketAddr::from(([127, 0, 0, 1], port.unwrap_or_else(|| panic!("no port in {ready:?}"))));
        let (width, height) = self.window.unwrap_or((1280, 900));
        let mut args: Vec<String> = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--ignore-certificate-errors",
            "--force-device-scale-factor=1",
        ]
        .map(str::to_owned)
        .to_vec();
        args.push(format!("--window-size={width},{height}"));
        args.push(format!("--user-data-dir={}", profile.path().display()));
        if !self.host_rules.is_empty() {
            args.push(format!("--host-resolver-rules={}", self.host_rules.join(", ")));
        }
        args.extend(self.args);
        let mut chromium = Chromium { driver, address, session: String::new(), _profile: profile };
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": true,
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": args },
        } } });
        let session = chromium.ask(Method::POST, "/session", Some(capabilities)).await.unwrap_or_else(|error| {
            panic!("Chromium does not start (run tests/run, it installs what the tests need): {error}\n{}", chromium.driver.output())
        });
        session["sessionId"].as_str().expect("a session has an id").clone_into(&mut chromium.session);
        chromium
    }
}

/// Chromedriver and what it says when it is there. Its `--port=0` finds a port in one family and takes it in the other, where somebody else may
/// have it: then it ends, and is started again.
async fn driver(profile: &TempDir) -> (Process, String) {
    let start = || Launch::new("chromedriver").arg("--port=0").env("HOME", profile.path()).start();
    let is_there = |line: &str| line.contains("started successfully on port");
    for _ in 0..4 {
        let driver = start();
        if let Some(ready) = driver.try_wait_for_line(is_there, PATIENCE).await {
            return (driver, ready);
        }
        assert!(driver.output().contains("Address already in use"), "{}", driver.output());
    }
    let driver = start();
    let ready = driver.wait_for_line(is_there, PATIENCE).await;
    (driver, ready)
}

/// A running Chromium; driver and browser end when the value is dropped.
pub struct Chromium {
    driver: Process,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

/// An element of the page in the window.
#[derive(Clone, Debug)]
pub struct Element(String);

impl Chromium {
    /// One with the defaults.
    pub async fn start() -> Self {
        ChromiumOptions::default().start().await
    }

    /// What else it can be.
    #[must_use]
    pub fn options() -> ChromiumOptions {
        ChromiumOptions::default()
    }

    /// Goes to a URL and waits until the page is loaded.
    pub async fn go(&self, url: &str) {
        self.post("url", json!({ "url": url })).await;
    }

    /// The URL in the window.
    pub async fn url(&self) -> String {
        text(self.get("url").await)
    }

    /// The page's title.
    pub async fn title(&self) -> String {
        text(self.get("title").await)
    }

    /// The page as HTML.
    pub async fn page_source(&self) -> String {
        text(self.get("source").await)
    }

    /// What a person reads on the page.
    pub async fn body_text(&self) -> String {
        self.text("body").await
    }

    /// Presses the back button.
    pub async fn back(&self) {
        self.post("back", json!({})).await;
    }

    /// Loads the page again.
    pub async fn refresh(&self) {
        self.post("refresh", json!({})).await;
    }

    /// The first element of a CSS selector, waited for; panics with the page when it does not come.
    pub async fn find(&self, css: &str) -> Element {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(element) = self.try_find(css).await {
                return element;
            }
            if Instant::now() > end {
                panic!("no {css:?} at {}\n{}", self.url().await, self.page_source().await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The first element of a CSS selector, when it is there now.
    pub async fn try_find(&self, css: &str) -> Option<Element> {
        let found = self.command(Method::POST, "element", Some(json!({ "using": "css selector", "value": css }))).await;
        found.ok().and_then(|value| value[ELEMENT].as_str().map(|id| Element(id.to_owned())))
    }

    /// How many elements a CSS selector has now.
    pub async fn count(&self, css: &str) -> usize {
        let found = self.post("elements", json!({ "using": "css selector", "value": css })).await;
        found.as_array().map_or(0, Vec::len)
    }

    /// What a person reads in the first element of a selector.
    pub async fn text(&self, css: &str) -> String {
        text(self.on(css, Method::GET, "text", None).await)
    }

    /// An attribute of the first element of a selector.
    pub async fn attribute(&self, css: &str, name: &str) -> Option<String> {
        self.on(css, Method::GET, &format!("attribute/{name}"), None).await.as_str().map(str::to_owned)
    }

    /// Clicks on the first element of a selector.
    pub async fn click(&self, css: &str) {
        self.on(css, Method::POST, "click", Some(json!({}))).await;
    }

    /// Types into the first element of a selector. Keys without a character are WebDriver's: `"\u{e007}"` is Enter, `"\u{e004}"` Tab.
    pub async fn send_keys(&self, css: &str, keys: &str) {
        self.on(css, Method::POST, "value", Some(json!({ "text": keys }))).await;
    }

    /// Types to whatever has the focus, as a person without a mouse does.
    pub async fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({ "type": "keyDown", "value": key.to_string() }), json!({ "type": "keyUp", "value": key.to_string() })])
            .collect();
        self.post("actions", json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] })).await;
    }

    /// Waits until the URL is as `wanted` says; panics with the last one.
    pub async fn wait_for_url(&self, wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let url = self.url().await;
            if wanted(&url) {
                return url;
            }
            if Instant::now() > end {
                panic!("still at {url}\n{}", self.page_source().await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs a script's body in the page and gives what it returns.
    pub async fn execute(&self, script: &str, args: Value) -> Value {
        self.post("execute/sync", json!({ "script": script, "args": args })).await
    }

    /// Opens a new tab, goes on in it and gives its handle.
    pub async fn new_window(&self) -> String {
        let handle = text(self.post("window/new", json!({ "type": "tab" })).await["handle"].take());
        self.switch_to(&handle).await;
        handle
    }

    /// The handle of the tab in use.
    pub async fn window(&self) -> String {
        text(self.get("window").await)
    }

    /// Goes on in another tab.
    pub async fn switch_to(&self, handle: &str) {
        self.post("window", json!({ "handle": handle })).await;
    }

    /// The size of the window.
    pub async fn resize(&self, width: u32, height: u32) {
        self.post("window/rect", json!({ "width": width, "height": height })).await;
    }

    /// Looks like a phone, this many points wide.
    pub async fn like_a_phone(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 2, "mobile": true });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Prefers the dark (or light) colours from now on.
    pub async fn prefer_dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// A command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, params: Value) -> Value {
        self.post("goog/cdp/execute", json!({ "cmd": command, "params": params })).await
    }

    /// The cookies that go to the page in the window: `name`, `value`, `path`, `secure`, `httpOnly`, `sameSite`, `expiry`.
    pub async fn cookies(&self) -> Vec<Value> {
        self.get("cookie").await.as_array().cloned().unwrap_or_default()
    }

    /// Forgets the cookies that go to the page in the window.
    pub async fn delete_cookies(&self) {
        let _ = self.command(Method::DELETE, "cookie", None).await;
    }

    /// What stands in the console since the last call (violations of a Content-Security-Policy too).
    pub async fn console(&self) -> Vec<String> {
        let entries = self.post("se/log", json!({ "type": "browser" })).await;
        entries.as_array().into_iter().flatten().map(|entry| format!("{} {}", entry["level"], entry["message"])).collect()
    }

    /// Takes a picture of the window, keeps it as `target/screenshots/NAME.png` and gives its path.
    pub async fn screenshot(&self, name: &str) -> PathBuf {
        let picture = STANDARD.decode(text(self.get("screenshot").await)).expect("a screenshot is base64");
        let tmp = option_env!("CARGO_TARGET_TMPDIR").unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tmp"));
        let folder = PathBuf::from(tmp).with_file_name("screenshots");
        std::fs::create_dir_all(&folder).expect("target/screenshots can be made");
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, picture).expect("a screenshot can be written");
        path
    }

    /// Something with the first element of a selector. A page that is just being left takes its elements along: then it is looked for again.
    async fn on(&self, css: &str, method: Method, what: &str, body: Option<Value>) -> Value {
        for _ in 0..50 {
            let Element(id) = self.find(css).await;
            match self.command(method.clone(), &format!("element/{id}/{what}"), body.clone()).await {
                Ok(value) => return value,
                Err(error) if error.contains("stale element") => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("WebDriver {what} of {css}: {error}"),
            }
        }
        panic!("WebDriver {what} of {css}: the page is left again and again")
    }

    async fn get(&self, path: &str) -> Value {
        self.command(Method::GET, path, None).await.unwrap_or_else(|error| panic!("WebDriver {path}: {error}"))
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.command(Method::POST, path, Some(body)).await.unwrap_or_else(|error| panic!("WebDriver {path}: {error}"))
    }

    async fn command(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        self.ask(method, &format!("/session/{}/{path}", self.session), body).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        let url = format!("http://{}{path}", self.address);
        let body = body.map_or_else(empty, |body| full(body.to_string()));
        let request = Request::builder().method(method).uri(url).header("content-type", "application/json").body(body);
        let client = HttpClient::new().deadline(Duration::from_secs(120));
        let answer = client.try_fetch(request.expect("a request")).await.map_err(|error| error.to_string())?;
        let mut value = answer.json();
        if answer.status.is_success() { Ok(value["value"].take()) } else { Err(value["value"].to_string()) }
    }
}

impl Drop for Chromium {
    /// Chromium is the driver's child: it is told to end by the driver, then the driver is killed.
    fn drop(&mut self) {
        let goodbye = format!("DELETE /session/{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.session, self.address);
        if let Ok(mut stream) = TcpStream::connect_timeout(&self.address, Duration::from_secs(2)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = stream.write_all(goodbye.as_bytes());
            let _ = stream.read(&mut [0; 512]);
        }
        self.driver.kill();
    }
}

fn text(value: Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected text, got {value}")).to_owned()
}
