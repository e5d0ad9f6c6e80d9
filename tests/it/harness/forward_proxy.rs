//! A real HTTP proxy that wants a password: squid from Debian's package, in a folder of its own. It knows names that nobody else does.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::process::{Launch, Process};
use super::temp::TempDir;
use super::wait::{PATIENCE, accepts_within, eventually, free_port};

/// The user that it lets through.
pub const USER: &str = "ann";
/// The password, which has to be percent-encoded in a URL.
pub const PASSWORD: &str = "p@ss:word";

/// A proxy that listens; it ends when the value is dropped.
pub struct ForwardProxy {
    process: Process,
    dir: TempDir,
    port: u16,
}

impl ForwardProxy {
    /// `names` are those that it finds at 127.0.0.1. Nobody gets through without user and password.
    pub async fn start(names: &[&str]) -> Self {
        for _ in 0..5 {
            let (dir, port) = (TempDir::new("squid"), free_port());
            // As root it runs as another user.
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("one's own folder can be opened");
            let hosts: String = names.iter().map(|name| format!("127.0.0.1 {name}\n")).collect();
            dir.write("hosts", hosts);
            let good = format!(
                "while read -r user word; do case \"$user $word\" in '{USER} {PASSWORD}'|'{USER} p%40ss%3Aword'|'{USER} p%40ss:word') echo OK;; *) echo ERR;; esac; done\n"
            );
            dir.write("helper.sh", good);
            let config = "http_port 127.0.0.1:@PORT@\npid_filename none\nvisible_hostname squid.test\nmax_filedescriptors 1024\ncache deny all\n\
                cache_mem 8 MB\nhosts_file @DIR@/hosts\ndns_nameservers 127.0.0.1\ncache_log /dev/null\nlogformat short %rm %ru %un %>Hs\n\
                access_log stdio:@DIR@/access.log short\nbuffered_logs off\nnetdb_filename none\npinger_enable off\nshutdown_lifetime 0 seconds\n\
                auth_param basic program /bin/sh @DIR@/helper.sh\nauth_param basic children 1 startup=1\n\
                acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n";
            let config = config.replace("@PORT@", &port.to_string()).replace("@DIR@", &dir.path().to_string_lossy());
            let file = dir.write("squid.conf", config);
            let process = Launch::new("squid").args(["-N", "-f"]).arg(file).start();
            let proxy = Self { process, dir, port };
            if proxy.listens().await {
                return proxy;
            }
        }
        panic!("squid does not start");
    }

    async fn listens(&self) -> bool {
        for _ in 0..PATIENCE.as_millis() / 50 {
            if self.process.status().is_some() {
                return false;
            }
            if accepts_within(self.address(), Duration::from_millis(50)).await {
                return true;
            }
        }
        false
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Its URL with the right user and password.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("p%40ss%3Aword")
    }

    /// The same with another password, percent-encoded.
    #[must_use]
    pub fn url_of(&self, password: &str) -> String {
        format!("http://{USER}:{password}@{}", self.address())
    }

    /// Waits until that many tunnels to `place` were there, and gives their lines: method, target, user and status. A tunnel is written
    /// down when it has ended.
    pub async fn tunnels(&self, place: &str, at_least: usize) -> Vec<String> {
        let begins = format!("CONNECT {place} ");
        let ended = || {
            let log = std::fs::read_to_string(self.dir.join("access.log")).unwrap_or_default();
            let lines: Vec<String> = log.lines().filter(|line| line.starts_with(&begins)).map(str::to_owned).collect();
            (lines.len() >= at_least).then_some(lines)
        };
        eventually("tunnels that have ended", ended).await
    }
}
