//! Asking for the addresses of a name: `/etc/hosts`, then DNS with the search domains of `/etc/resolv.conf`, and where that finds nothing the
//! system's own way, which may know more (mDNS, names of this machine).

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};

/// Whom DNS asks where the config does not say.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// Who answered where DNS does not.
const SYSTEM: &str = "the system";
/// For one name, all servers and search domains together.
const LONGEST: Duration = Duration::from_secs(10);
/// For one question of it: that IPv6 goes unanswered is not to cost the IPv4 that was found.
const QUESTION: Duration = Duration::from_secs(4);
/// How long an answer holds of somebody who does not say.
const UNTOLD: Duration = Duration::from_secs(10);

/// What a name's look-up gave.
pub(super) type Found = Result<Answer, String>;

/// The addresses of one family in steady order, none where there are none; or why nobody could say.
pub(super) type Half = Result<Vec<IpAddr>, String>;

/// Where a name leads. One half at least holds addresses.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) v4: Half,
    pub(super) v6: Half,
    pub(super) holds: Duration,
    /// Under which whole name it was found, or where else.
    pub(super) by: String,
}

/// Why a name leads nowhere.
#[derive(Debug)]
enum Why {
    /// All who were asked say that there are no addresses.
    Told(String),
    /// Somebody could not say.
    Failed(String),
}

/// Asks. Files that it goes by are read again when they have changed.
pub(super) struct Lookup {
    /// Servers to ask in place of those of `/etc/resolv.conf`.
    servers: Vec<SocketAddr>,
    made: Mutex<Option<(Looks, Arc<Sources>)>>,
}

/// Where an upstream's name leads now, as it is looked up for requests: by these servers, or by none as the system says. An address is its own.
///
/// # Errors
/// Why nobody could say.
pub async fn addresses_of(host: &str, servers: &[SocketAddr]) -> Result<Vec<IpAddr>, String> {
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(address) => Ok(vec![address]),
        Err(_) => {
            let Answer { v4, v6, .. } = Lookup::new(servers.to_vec()).addresses(host, None).await?;
            Ok([v4, v6].into_iter().flatten().flatten().collect())
        }
    }
}

/// When the files were written.
type Looks = [Option<SystemTime>; 2];

/// What the files say.
struct Sources {
    hosts: Hosts,
    dns: Result<Dns, String>,
}

struct Dns {
    resolver: TokioResolver,
    search: Vec<Name>,
    /// A name with so many dots is asked for as it stands before it is with the search domains.
    ndots: usize,
}

impl Lookup {
    pub(super) const fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, made: Mutex::new(None) }
    }

    pub(super) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// The addresses of a name. `last` is who answered the last time: as long as they can only not say, nobody is asked who comes after them.
    pub(super) async fn addresses(&self, name: &str, last: Option<&str>) -> Found {
        let sources = self.sources();
        let asked = match tokio::time::timeout(LONGEST, sources.ask(name, last)).await {
            Ok(asked) => asked,
            Err(_) => Err(Why::Failed(format!("no answer within {LONGEST:?}"))),
        };
        let (why, others) = match asked {
            Ok(answer) => return Ok(answer),
            Err(Why::Told(why)) => (why, true),
            Err(Why::Failed(why)) => (why, last.is_none_or(|last| last == SYSTEM)),
        };
        if others && self.servers.is_empty() { system(name).await.map_err(|other| format!("{why}; {other}")) } else { Err(why) }
    }

    fn sources(&self) -> Arc<Sources> {
        let looks = [RESOLV_CONF, HOSTS].map(|file| Path::new(file).metadata().and_then(|file| file.modified()).ok());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, sources)) = &*made
            && *known == looks
        {
            return Arc::clone(sources);
        }
        let dns = if self.servers.is_empty() {
            read_system_conf().and_then(|(config, options)| Dns::new(config, options))
        } else {
            // One entry an address: a server at two ports is two servers.
            let servers = self.servers.iter().map(|server| {
                let mut known = NameServerConfig::udp_and_tcp(server.ip());
                known.connections.iter_mut().for_each(|connection| connection.port = server.port());
                known
            });
            Dns::new(ResolverConfig::from_parts(None, Vec::new(), servers.collect()), ResolverOpts::default())
        };
        // A machine without the file has no such names.
        let hosts = Hosts::from_system().unwrap_or_default();
        let sources = Arc::new(Sources { hosts, dns: dns.map_err(|error| error.to_string()) });
        *made = Some((looks, Arc::clone(&sources)));
        sources
    }
}

impl Sources {
    async fn ask(&self, name: &str, last: Option<&str>) -> Result<Answer, Why> {
        let whole = Name::from_utf8(name).map_err(|error| Why::Failed(error.to_string()))?;
        if let Some(answer) = self.by_hosts(&whole) {
            return Ok(answer);
        }
        let dns = self.dns.as_ref().map_err(|why| Why::Failed(why.clone()))?;
        let names = dns.whole_names(whole);
        for (place, name) in names.iter().enumerate() {
            let by = name.to_string();
            let (v4, v6) = tokio::join!(dns.half(name, RecordType::A), dns.half(name, RecordType::AAAA));
            if [&v4, &v6].into_iter().any(|half| half.as_ref().is_ok_and(|(addresses, _)| !addresses.is_empty())) {
                // The least of all that led there.
                let holds = [&v4, &v6].into_iter().flatten().filter_map(|(_, holds)| *holds).min().unwrap_or(UNTOLD);
                return Ok(Answer { v4: v4.map(|found| found.0), v6: v6.map(|found| found.0), holds, by });
            }
            if let Err(why) = v4.and(v6) {
                // The next name may be another machine's: a domain that answers to everything.
                let later = names.iter().skip(place + 1).any(|name| last == Some(name.to_string().as_str()));
                if !later && last != Some(SYSTEM) {
                    return Err(Why::Failed(why));
                }
            }
        }
        Err(Why::Told("it has no addresses".to_owned()))
    }

    /// What stands there says all: whoever writes an IPv4 address means it alone.
    fn by_hosts(&self, name: &Name) -> Option<Answer> {
        let half = |kind| {
            let found = self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
            in_order(found.iter().flat_map(|found| found.answers()).filter_map(|record| record.data.ip_addr()))
        };
        let (v4, v6) = (half(RecordType::A), half(RecordType::AAAA));
        let there = !v4.is_empty() || !v6.is_empty();
        there.then(|| Answer { v4: Ok(v4), v6: Ok(v6), holds: UNTOLD, by: HOSTS.to_owned() })
    }
}

impl Dns {
    fn new(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self, NetError> {
        let mut search = config.search().to_vec();
        if search.is_empty() {
            search.extend(config.domain().cloned());
        }
        let ndots = options.ndots;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        // A TTL counts from CNAME on.
        options.preserve_intermediates = true;
        options.timeout = Duration::from_secs(2);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()?;
        Ok(Self { resolver, search, ndots })
    }

    /// The names to ask for, one after the other (resolv.conf(5): search, ndots).
    fn whole_names(&self, name: Name) -> Vec<Name> {
        let mut whole = name.clone();
        whole.set_fqdn(true);
        if name.is_fqdn() || name.is_localhost() {
            return vec![whole];
        }
        let first = usize::from(name.num_labels()) > self.ndots;
        // One that would be too long is none.
        let mut names: Vec<Name> = self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
        names.iter_mut().for_each(|name| name.set_fqdn(true));
        let place = if first { 0 } else { names.len() };
        names.insert(place, whole);
        names
    }

    /// The addresses of one family, and for how long they hold.
    async fn half(&self, name: &Name, kind: RecordType) -> Result<(Vec<IpAddr>, Option<Duration>), String> {
        match tokio::time::timeout(QUESTION, self.resolver.lookup(name.clone(), kind)).await {
            Ok(Ok(found)) => {
                let addresses = in_order(found.answers().iter().filter_map(|record| record.data.ip_addr()));
                let holds = found.answers().iter().map(|record| Duration::from_secs(record.ttl.into())).min();
                Ok((addresses, holds))
            }
            Ok(Err(error)) if error.is_no_records_found() => Ok((Vec::new(), None)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {QUESTION:?}")),
        }
    }
}

fn in_order(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

async fn system(name: &str) -> Found {
    let asked = tokio::time::timeout(LONGEST, tokio::net::lookup_host((name, 0))).await;
    let found = asked.map_err(|_| format!("the system does not answer within {LONGEST:?}"))?.map_err(|error| error.to_string())?;
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = in_order(found.map(|at| at.ip())).into_iter().partition(IpAddr::is_ipv4);
    if v4.is_empty() && v6.is_empty() {
        return Err("it has no addresses".to_owned());
    }
    Ok(Answer { v4: Ok(v4), v6: Ok(v6), holds: UNTOLD, by: SYSTEM.to_owned() })
}

#[cfg(test)]
mod tests;
