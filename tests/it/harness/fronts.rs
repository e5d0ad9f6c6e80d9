//! Real reverse proxies in front of the gateway: nginx, Caddy and haproxy from Debian's packages, Traefik and Envoy from PyPI's (`tests/run`
//! installs them), unprivileged, each in a folder of its own.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::process::{Launch, Process};
use super::temp::TempDir;
use super::wait::{PATIENCE, accepts_within, free_port};

/// A front proxy that listens; it ends when the value is dropped.
pub struct Front {
    /// The program.
    pub process: Process,
    /// Its folder (`@DIR@`).
    pub dir: TempDir,
    ports: Vec<u16>,
}

impl Front {
    /// Where it listens (`@PORT@`).
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.nth_address(0)
    }

    /// Where it listens besides (`@PORT2@`, `@PORT3@`: 1, 2).
    #[must_use]
    pub fn nth_address(&self, n: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[n]).into()
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

/// Starts nginx with `http_block`, the inside of `http { … }` (one or several `server { … }`, caches).
///
/// In it `@PORT@` (also `@PORT2@`, `@PORT3@`) becomes a free port, `@DIR@` its folder, and each pair of `replace` is replaced
/// everywhere, so that a snippet from `deploy/` can be run as it is written.
pub async fn nginx(http_block: &str, replace: &[(&str, &str)]) -> Front {
    // Only root may change the user of the workers, and only root must, so that they can read the folder.
    let user = if is_root() { "user root;\n" } else { "" };
    let config = format!(
        "{user}daemon off;\npid @DIR@/nginx.pid;\nerror_log stderr info;\nworker_processes 1;\nevents {{ worker_connections 256; }}\n\
         http {{\naccess_log off;\nclient_body_temp_path @DIR@/body;\nproxy_temp_path @DIR@/proxy;\nfastcgi_temp_path @DIR@/fastcgi;\n\
         uwsgi_temp_path @DIR@/uwsgi;\nscgi_temp_path @DIR@/scgi;\n{http_block}\n}}\n"
    );
    start(&config, "nginx.conf", replace, |dir, file| {
        let prefix = dir.path().to_string_lossy().into_owned();
        // Killed, it would leave its workers behind.
        Launch::new("nginx").args(["-p", &prefix, "-c", file]).goodbye("TERM", Duration::from_secs(5))
    })
    .await
}

/// Starts Caddy with this Caddyfile (without a block of global options: that one is written here). The same replacements as for
/// [`nginx`]; a site's address is best written as `http://:@PORT@`, or `http://NAME:@PORT@`.
pub async fn caddy(sites: &str, replace: &[(&str, &str)]) -> Front {
    let config = format!("{{\n\tadmin off\n\tauto_https off\n\tstorage file_system @DIR@/data\n}}\n\n{sites}\n");
    start(&config, "Caddyfile", replace, |dir, file| {
        Launch::new("caddy")
            .args(["run", "--config", file, "--adapter", "caddyfile"])
            .env("HOME", dir.path())
            .env("XDG_CONFIG_HOME", dir.path())
            .env("XDG_DATA_HOME", dir.path())
    })
    .await
}

/// Starts haproxy with these `listen` sections, which pass bytes on. The same replacements as for [`nginx`].
pub async fn haproxy(sections: &str, replace: &[(&str, &str)]) -> Front {
    let config = format!(
        "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n{sections}\n"
    );
    start(&config, "haproxy.cfg", replace, |_, file| Launch::new("haproxy").args(["-db", "-f", file])).await
}

/// Starts Traefik with this dynamic configuration for its one entry point, at `@PORT@`. The same replacements as for [`nginx`].
pub async fn traefik(dynamic: &str, replace: &[(&str, &str)]) -> Front {
    // It listens before it has read the file.
    let config = format!("{dynamic}\n# @PORT@\n");
    let front = start(&config, "dynamic.yaml", replace, |dir, file| {
        let port =
            std::fs::read_to_string(file).ok().and_then(|text| text.trim().rsplit(' ').next().map(str::to_owned)).unwrap_or_default();
        Launch::new(tool("traefik"))
            .arg(format!("--entryPoints.https.address=127.0.0.1:{port}"))
            .arg(format!("--providers.file.filename={file}"))
            .args([
                "--providers.file.watch=false",
                "--global.checkNewVersion=false",
                "--global.sendAnonymousUsage=false",
                "--log.level=DEBUG",
            ])
            .env("HOME", dir.path())
    })
    .await;
    front.process.wait_for_line(|line| line.contains("Adding route for"), PATIENCE).await;
    front
}

/// Starts Envoy with this bootstrap configuration (YAML). The same replacements as for [`nginx`].
pub async fn envoy(bootstrap: &str, replace: &[(&str, &str)]) -> Front {
    start(bootstrap, "envoy.yaml", replace, |_, file| {
        Launch::new(tool("envoy")).args(["-c", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"])
    })
    .await
}

/// A program that `tests/run` installs under `target/`; else from the PATH.
fn tool(name: &str) -> String {
    let own = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join("fronts/bin").join(name);
    if own.is_file() { own.display().to_string() } else { name.to_owned() }
}

async fn start(template: &str, name: &str, replace: &[(&str, &str)], launch: impl Fn(&TempDir, &str) -> Launch) -> Front {
    let mut last_words = String::new();
    // A port that was free may be taken a moment later: then once more with others.
    for _ in 0..5 {
        let dir = TempDir::new("front");
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let mut config = template.to_owned();
        for (from, to) in replace {
            config = config.replace(from, to);
        }
        for (name, port) in ["@PORT@", "@PORT2@", "@PORT3@"].iter().zip(&ports) {
            config = config.replace(name, &port.to_string());
        }
        config = config.replace("@DIR@", &dir.path().to_string_lossy());
        let file = dir.write(name, &config);
        let process = launch(&dir, &file.to_string_lossy()).dir(dir.path()).start();
        let front = Front { process, dir, ports };
        if listens(&front).await {
            return front;
        }
        last_words = format!("{}\n--- its config:\n{config}", front.process.output());
        if !last_words.contains("in use") {
            break;
        }
    }
    panic!("the front proxy does not start:\n{last_words}");
}

async fn listens(front: &Front) -> bool {
    let tries = PATIENCE.as_millis() / 50;
    for _ in 0..tries {
        if front.process.status().is_some() {
            front.process.wait(PATIENCE).await; // for its last lines
            return false;
        }
        // "in use": it is somebody else who accepts there.
        if accepts_within(front.address(), Duration::from_millis(50)).await && !front.process.output().contains("in use") {
            return front.process.status().is_none();
        }
    }
    false
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
