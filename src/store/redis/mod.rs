//! The store that many gateways share: a Redis (6.2 or newer) of its own or with others, at one address, behind sentinels, or a cluster.
//!
//! `settings` and `url` are what the config says. `connect` opens one connection, `primary` knows where to, `link` keeps it. `nodes` sends a
//! command to the server of its key, in a cluster by the map of `slots` and `cluster`. `calls` is the store, `scripts` is what runs inside
//! Redis. `tracking` has changes told that others make, `switches` hears from sentinels, and `watched` knows whether every change is told.
//!
//! # Keys
//! Under the prefix stand, with the hash tag in braces so that what belongs together shares a slot:
//!
//! | key | type | holds |
//! |---|---|---|
//! | `session:{ID}` | hash | `sealed`, `listing`, `indexes`, `used` |
//! | `touch:{ID}` | string | the last use; apart, so that a touch will not invalidate what is cached of the session |
//! | `index:{TAG}` | sorted set | sessions by their end |
//! | `lease:{ID}` | string | who refreshes this session now |
//! | `mark:{TAG}` | string | something that happened: a `jti`, a code that was used, a `sid` that was ended |
//! | `count:{TAG}` | string | failures of late |
//! | `common:{TAG}` | string | what all gateways here share: the keys that sign assertions, sealed |
//! | `flow:{ID}`, `attempt:{ID}` | string | login records |
//! | `{logins}:all`, `{logins}:of:ADDRESS` | sorted set | flows under way by their end |
//!
//! # Rights
//! A user of its own needs these and nothing else (`select` only for another database than 0, and another prefix in place of this one):
//! `~doorward:* +ping +get +set +getdel +del +hget +hmget +hset +expire +pttl +zadd +zcard +zscore +zrem +zrangebyscore +zremrangebyscore
//! +zrevrange +scan +exists +incr +pexpire +evalsha +script|load +client|tracking +select`.
//! Behind sentinels also `+role`, in a cluster also `+cluster|slots +asking`, and with `wait_replicas` also `+wait`. The sentinels' own user
//! needs `+sentinel|master +sentinel|get-master-addr-by-name +subscribe &+switch-master`.
//!
//! # What is acknowledged
//! A Redis gives its writes to its replicas a moment after it answered. With `wait_replicas` a login, a refresh, a lease, a mark or an ending is
//! acknowledged only when that many replicas have it (`WAIT`); else it is an [`Outage`](crate::fault::Outage), though it is written on the
//! primary: a session that nobody has the cookie of, or an ending that is to be asked for again. Touches and login records do not wait.

mod calls;
mod cluster;
mod connect;
mod link;
mod nodes;
mod primary;
mod scripts;
mod settings;
mod slots;
mod switches;
mod tracking;
mod url;
mod watched;

use std::sync::Arc;

use tokio::runtime::Handle;

pub use settings::{PasswordSource, RedisSettings, RedisSettingsError, RedisTls, SentinelSettings, Servers};
pub use url::RedisUrl;

use self::url::Place;
use super::OnChange;
use crate::clock::SharedClock;
use cluster::Cluster;
use connect::Connector;
use link::{Common, Link};
use nodes::{Node, Nodes, Topology};
use primary::{Origin, Sentinels, Source};
use rustls_pki_types::ServerName;
use scripts::Scripts;
use watched::Watched;

/// Sessions and login records in Redis.
pub struct Redis {
    nodes: Arc<Nodes>,
    /// For the connection on which changes are told; a cluster has one for each of its nodes.
    one: Option<Arc<Source>>,
    sentinels: Option<Arc<Sentinels>>,
    scripts: Scripts,
    prefix: String,
    clock: SharedClock,
    control: Handle,
}

impl Redis {
    /// Reads nothing and connects to nothing yet. Connections will live on `control`; the store's methods may be awaited on any thread.
    ///
    /// # Errors
    /// When settings contradict each other.
    pub fn new(settings: RedisSettings, control: Handle, clock: SharedClock) -> Result<Self, RedisSettingsError> {
        settings.check()?;
        let RedisSettings { servers, username, password, tls, prefix, wait_replicas, connect_timeout, response_timeout } = settings;
        certified(&servers)?;
        let common = Common { control: control.clone(), clock: SharedClock::clone(&clock), response_timeout };
        let waits = wait_replicas > 0;
        let (topology, one, sentinels) = match servers {
            Servers::One(url) => {
                let username = username.or(url.username);
                let password = password.or_else(|| url.password.map(PasswordSource::fixed));
                let connector = Arc::new(Connector { database: url.database, username, password, tls });
                let source = || Source { connector: Arc::clone(&connector), origin: Origin::Fixed(url.place.clone()), connect_timeout };
                let node = Node::new(waits, || Link::new(source(), common.clone()));
                (Topology::One(node), Some(Arc::new(source())), None)
            }
            Servers::Sentinels(sentinels) => {
                let SentinelSettings { urls, master_name, username: their_user, password: their_password } = sentinels;
                let theirs = Connector { database: 0, username: their_user, password: their_password, tls: tls.clone() };
                let places = urls.into_iter().map(|url| url.place).collect();
                // One that vanished must not use up the time that is there for a call.
                let sentinels = Arc::new(Sentinels { connector: theirs, places, master_name, patience: connect_timeout / 2 });
                let connector = Arc::new(Connector { database: 0, username, password, tls });
                let source = || {
                    let origin = Origin::Sentinels(Arc::clone(&sentinels));
                    Source { connector: Arc::clone(&connector), origin, connect_timeout }
                };
                let node = Node::new(waits, || Link::new(source(), common.clone()));
                (Topology::One(node), Some(Arc::new(source())), Some(sentinels))
            }
            Servers::Cluster(urls) => {
                let connector = Arc::new(Connector { database: 0, username, password, tls });
                let seeds = urls.into_iter().map(|url| url.place).collect();
                let cluster = Cluster::new(seeds, connector, common, connect_timeout, waits);
                (Topology::Cluster(Arc::new(cluster)), None, None)
            }
        };
        let nodes =
            Nodes { topology, watched: Arc::new(Watched::default()), clock: SharedClock::clone(&clock), response_timeout, wait_replicas };
        Ok(Self { nodes: Arc::new(nodes), one, sentinels, scripts: Scripts::new(), prefix, clock, control })
    }

    /// Begins to have changes told; a second time nothing happens.
    fn begin_watch(&self, told: OnChange) {
        if !self.nodes.watched.begin(told) {
            return;
        }
        let prefix = format!("{}session:", self.prefix);
        drop(self.control.spawn(tracking::run(Arc::downgrade(&self.nodes), self.one.clone(), prefix)));
        if let Some(sentinels) = &self.sentinels {
            drop(self.control.spawn(switches::follow(Arc::downgrade(&self.nodes), Arc::clone(sentinels))));
        }
    }
}

/// A certificate can name each of them that shows one.
fn certified(servers: &Servers) -> Result<(), RedisSettingsError> {
    let listed = match servers {
        Servers::One(url) => std::slice::from_ref(url),
        Servers::Sentinels(sentinels) => &sentinels.urls,
        Servers::Cluster(urls) => urls,
    };
    let nameless = |url: &RedisUrl| matches!(&url.place, Place::Tls { host, .. } if ServerName::try_from(host.as_str()).is_err());
    if listed.iter().any(nameless) {
        return Err(RedisSettingsError("store.url: no name or address that a certificate could show".into()));
    }
    Ok(())
}
