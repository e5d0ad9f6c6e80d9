//! Asking for the addresses of a name: `/etc/hosts`, then DNS with the search domains of `/etc/resolv.conf`, and where that finds nothing the
//! system's own way, which may know more (mDNS, names of this machine).

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Whom DNS asks where the config does not say.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// For one name, all servers and search domains together.
const LONGEST: Duration = Duration::from_secs(10);
/// How long an answer of the system holds, which does not say.
const UNTOLD: Duration = Duration::from_secs(10);

/// What a name's look-up gave: its addresses in steady order, and for how long they hold.
pub(super) type Found = Result<(Vec<IpAddr>, Duration), String>;

/// Asks. Files that it goes by are read again when they have changed.
pub(super) struct Lookup {
    /// Servers to ask in place of those of `/etc/resolv.conf`.
    servers: Vec<SocketAddr>,
    made: Mutex<Option<(Looks, Arc<TokioResolver>)>>,
}

/// When the files were written.
type Looks = [Option<SystemTime>; 2];

impl Lookup {
    pub(super) const fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, made: Mutex::new(None) }
    }

    pub(super) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// The addresses of a name.
    pub(super) async fn addresses(&self, name: &str) -> Found {
        let asked = match tokio::time::timeout(LONGEST, self.ask(name)).await {
            Ok(asked) => asked,
            Err(_) => Err(format!("no answer within {LONGEST:?}")),
        };
        match asked {
            Err(why) if self.servers.is_empty() => system(name).await.map_err(|other| format!("{why}; {other}")),
            asked => asked,
        }
        .map(|(mut addresses, holds)| {
            addresses.sort_unstable();
            addresses.dedup();
            (addresses, holds)
        })
    }

    async fn ask(&self, name: &str) -> Found {
        let resolver = self.resolver()?;
        let answer = resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
        let addresses: Vec<IpAddr> = answer.iter().collect();
        // The least of all that led there, names in between included.
        let holds = answer.as_lookup().answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        if addresses.is_empty() { Err("it has no addresses".to_owned()) } else { Ok((addresses, Duration::from_secs(holds.into()))) }
    }

    fn resolver(&self) -> Result<Arc<TokioResolver>, String> {
        let looks = [RESOLV_CONF, HOSTS].map(|file| Path::new(file).metadata().and_then(|file| file.modified()).ok());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, resolver)) = &*made
            && *known == looks
        {
            return Ok(Arc::clone(resolver));
        }
        let resolver = Arc::new(self.make().map_err(|error| error.to_string())?);
        *made = Some((looks, Arc::clone(&resolver)));
        Ok(resolver)
    }

    fn make(&self) -> Result<TokioResolver, hickory_resolver::net::NetError> {
        let system = TokioResolver::builder_tokio();
        let mut builder = if self.servers.is_empty() {
            system?
        } else {
            // One entry an address: a server at two ports is two servers.
            let servers = self.servers.iter().map(|server| {
                let mut known = NameServerConfig::udp_and_tcp(server.ip());
                known.connections.iter_mut().for_each(|connection| connection.port = server.port());
                known
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // A TTL counts from CNAME on.
        options.preserve_intermediates = true;
        options.timeout = Duration::from_secs(2);
        builder.build()
    }
}

async fn system(name: &str) -> Found {
    let found: Vec<IpAddr> = tokio::net::lookup_host((name, 0)).await.map_err(|error| error.to_string())?.map(|at| at.ip()).collect();
    if found.is_empty() { Err("it has no addresses".to_owned()) } else { Ok((found, UNTOLD)) }
}
