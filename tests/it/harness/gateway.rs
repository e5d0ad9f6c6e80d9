//! The gateway under test: in this process with a clock that a test moves, or as a process of its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use doorward::app::{App, Options, ReloadError};
use doorward::clock::{Clock as _, ManualClock};
use doorward::config::{self, Config, Problem, Sources};

use super::http;
use super::process::{Launch, Process};
use super::temp::TempDir;
use super::wait::{eventually, free_port};

/// A gateway in this process. Its config stands in a real file; `@PORT@` in it is the port it serves on, `@DIR@` its own folder.
pub struct Gateway {
    app: Option<App>,
    /// Moves its time.
    pub clock: Arc<ManualClock>,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Where it serves.
    pub address: SocketAddr,
    /// Its admin listener.
    pub admin: String,
    lines: SharedLines,
    /// Its folder: config, state.
    pub dir: Arc<TempDir>,
    text: String,
    port: u16,
    environment: BTreeMap<String, String>,
}

/// Access lines as they were written.
#[derive(Clone, Default)]
struct SharedLines(Arc<Mutex<Vec<u8>>>);

impl Write for SharedLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A config's beginning for a gateway on plain http: its public URL, and nothing else.
pub const TOP: &str = "public_url = \"http://127.0.0.1:@PORT@\"\n";

/// A `[provider]` table for one of the harness's providers.
#[must_use]
pub fn provider(issuer: &str, client_id: &str, client_secret: &str) -> String {
    format!(
        "[provider]\nissuer = \"{issuer}\"\nclient_id = \"{client_id}\"\nclient_secret = \"{client_secret}\"\nscopes = [\"openid\", \"profile\", \"email\", \"groups\"]\n"
    )
}

impl Gateway {
    /// Starts with this config (TOML). The listen address is a port that was free; the store is embedded, in the gateway's own folder, unless
    /// the config says otherwise.
    #[must_use]
    pub fn start(text: &str) -> Self {
        Self::start_on(free_port(), text)
    }

    /// As [`Gateway::start`], on a port that is known before: for redirect URIs that a provider has to be told first.
    #[must_use]
    pub fn start_on(port: u16, text: &str) -> Self {
        Self::begin(port, text, Arc::new(TempDir::new("gateway")), Arc::default(), BTreeMap::new())
    }

    /// As [`Gateway::start`], with these variables in its environment.
    #[must_use]
    pub fn start_among(environment: &[(&str, &str)], text: &str) -> Self {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::begin(free_port(), text, Arc::new(TempDir::new("gateway")), Arc::default(), environment)
    }

    fn begin(port: u16, text: &str, dir: Arc<TempDir>, clock: Arc<ManualClock>, more: BTreeMap<String, String>) -> Self {
        let config = loaded(port, text, &dir, &more).unwrap_or_else(|problems| {
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("the config has problems:\n{}", told.join("\n"))
        });
        let lines = SharedLines::default();
        let options = Options { access_lines: Box::new(lines.clone()), cores: 2, level: None };
        let app = App::start_with(config, Arc::<ManualClock>::clone(&clock), options)
            .unwrap_or_else(|error| panic!("the gateway does not start: {error}"));
        Self {
            clock,
            url: format!("http://127.0.0.1:{port}"),
            address: app.address(),
            admin: format!("http://{}", app.admin_address()),
            app: Some(app),
            lines,
            dir,
            text: text.to_owned(),
            port,
            environment: more,
        }
    }

    /// Ends it and starts it again: same port, same folder, same clock.
    #[must_use]
    pub fn restart(mut self) -> Self {
        if let Some(app) = self.app.take() {
            app.stop();
        }
        let environment = std::mem::take(&mut self.environment);
        Self::begin(self.port, &self.text, Arc::clone(&self.dir), Arc::clone(&self.clock), environment)
    }

    /// The same with another config.
    #[must_use]
    pub fn restart_with(mut self, change: impl FnOnce(&str) -> String) -> Self {
        self.text = change(&self.text);
        self.restart()
    }

    /// Ends it as SIGTERM does, and waits for that.
    pub fn stop(mut self) {
        if let Some(app) = self.app.take() {
            app.stop();
        }
    }

    /// The config that it was started with.
    #[must_use]
    pub fn config(&self) -> &str {
        &self.text
    }

    /// Writes another config in the place of its own and has it taken, as SIGHUP does.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn reload(&self, text: &str) -> Result<u64, ReloadError> {
        self.app.as_ref().expect("it runs").reload(loaded(self.port, text, &self.dir, &self.environment)).await
    }

    /// How much goes on in it beside requests.
    #[must_use]
    pub fn background_tasks(&self) -> usize {
        self.app.as_ref().expect("it runs").background_tasks()
    }

    /// Its redirect URI.
    #[must_use]
    pub fn redirect_uri(&self) -> String {
        format!("{}/oauth2/callback", self.url)
    }

    /// Lets its time pass.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Its time, in Unix seconds, for providers that share the clock.
    #[must_use]
    pub fn now(&self) -> Arc<dyn Fn() -> u64 + Send + Sync> {
        let clock = Arc::clone(&self.clock);
        Arc::new(move || clock.now().0)
    }

    /// All access lines so far.
    #[must_use]
    pub fn access_lines(&self) -> String {
        String::from_utf8_lossy(&self.lines.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits for the access line that holds `text`, and gives it.
    pub async fn access_line(&self, text: &str) -> String {
        eventually(&format!("an access line with {text:?}"), || {
            self.access_lines().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
        .await
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> String {
        http::fetch(http::get(&format!("{}/metrics", self.admin))).await.text()
    }

    /// The count of one series of `/metrics`, by everything that stands before its value; 0 where it is not there.
    pub async fn metric(&self, series: &str) -> u64 {
        let all = self.metrics().await;
        let line = all.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse::<f64>().ok()).map_or(0, |value| value as u64)
    }
}

/// A gateway that is a process of its own: the real command, the system's clock.
pub struct GatewayProcess {
    /// The process.
    pub process: Process,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Where it serves.
    pub address: SocketAddr,
    /// Its admin listener, as `127.0.0.1:PORT`.
    pub admin: String,
    /// Its folder.
    pub dir: Arc<TempDir>,
}

impl GatewayProcess {
    /// `doorward run` with this config on this port.
    pub async fn start_on(port: u16, text: &str) -> Self {
        Self::start_in(Arc::new(TempDir::new("gateway")), port, text).await
    }

    /// The same in a folder that was used before, so that it finds its state again.
    pub async fn start_in(dir: Arc<TempDir>, port: u16, text: &str) -> Self {
        let file = dir.write("config.toml", substituted(text, port, &dir).as_bytes());
        let admin = format!("127.0.0.1:{}", free_port());
        let process = Launch::new(command())
            .args(["run", "--config"])
            .arg(&file)
            .arg("--listen")
            .arg(format!("127.0.0.1:{port}"))
            .env("STATE_DIRECTORY", dir.path())
            .env("DOORWARD_ADMIN__LISTEN", &admin)
            .env("RUST_BACKTRACE", "0")
            .start();
        process.wait_for_line(|line| line.contains("doorward serves"), super::wait::PATIENCE).await;
        Self { process, url: format!("http://127.0.0.1:{port}"), address: SocketAddr::from(([127, 0, 0, 1], port)), admin, dir }
    }

    /// `doorward run` on a socket that somebody else holds, handed over as systemd does under the name `web` (sd_listen_fds(3)): several
    /// processes may have it, one after the other or at once.
    pub async fn start_with(socket: &TcpListener, dir: Arc<TempDir>, text: &str) -> Self {
        let address = socket.local_addr().expect("a listener has an address");
        let file = dir.write("config.toml", substituted(text, address.port(), &dir).as_bytes());
        let admin = format!("127.0.0.1:{}", free_port());
        let held = OwnedFd::from(socket.try_clone().expect("a socket can be held twice"));
        let process = Launch::new("sh")
            .args([
                "-c",
                "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$0\" run --config \"$1\" --listen fd:web",
            ])
            .args([command().as_ref(), file.as_os_str()])
            .stdin_from(held)
            .env("STATE_DIRECTORY", dir.path())
            .env("DOORWARD_ADMIN__LISTEN", &admin)
            .start();
        process.wait_for_line(|line| line.contains("doorward serves"), super::wait::PATIENCE).await;
        Self { process, url: format!("http://{address}"), address, admin, dir }
    }

    /// Writes another config in the place of its own, at one stroke.
    pub fn rewrite(&self, text: &str) {
        let new = self.dir.write("config.new", substituted(text, self.address.port(), &self.dir).as_bytes());
        std::fs::rename(new, self.dir.join("config.toml")).expect("a file can take another's place");
    }

    /// What `/metrics` says of one series; 0 where it is not there.
    pub async fn metric(&self, series: &str) -> u64 {
        let all = http::fetch(http::get(&format!("http://{}/metrics", self.admin))).await.text();
        let line = all.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse::<f64>().ok()).map_or(0, |value| value as u64)
    }
}

/// The `doorward` binary of this build.
#[must_use]
pub const fn command() -> &'static str {
    env!("CARGO_BIN_EXE_doorward")
}

fn loaded(port: u16, text: &str, dir: &TempDir, more: &BTreeMap<String, String>) -> Result<Config, Vec<Problem>> {
    let file = dir.write("config.toml", substituted(text, port, dir).as_bytes());
    let mut environment = more.clone();
    environment.insert("STATE_DIRECTORY".to_owned(), dir.path().display().to_string());
    config::load(&Sources { file: Some(&file), environment, flags: flags(port, text) })
}

fn substituted(text: &str, port: u16, dir: &TempDir) -> String {
    text.replace("@PORT@", &port.to_string()).replace("@DIR@", &dir.path().display().to_string())
}

/// Where it listens unless the config's own top level says so.
fn flags(port: u16, text: &str) -> Vec<(String, String)> {
    let listens = text.lines().take_while(|line| !line.starts_with('[')).any(|line| line.starts_with("listen = "));
    let pairs = [
        ("listen", format!("127.0.0.1:{port}")),
        ("admin.listen", "127.0.0.1:0".to_owned()),
        ("drain.delay", "0s".to_owned()),
        ("drain.deadline", "2s".to_owned()),
    ];
    pairs.into_iter().filter(|(key, _)| !(listens && *key == "listen")).map(|(key, value)| (key.to_owned(), value)).collect()
}
