//! The store's calls: which keys, which commands, in which order.

use std::time::Duration;

use ::redis::cmd;

use super::Redis;
use super::nodes::{Call, Node, Order, Said, Topology};
use super::url::Place;
use crate::clock::UnixTime;
use crate::fault::Outage;
use crate::secret;
use crate::store::{
    Admission, Cursor, LoginBounds, LoginRecord, OnChange, Part, RecordId, Replaced, SealedSession, SessionStore, StoreFuture,
    StoredSession,
};

/// Records outlive their time by this much: our clock and the server's are not the same, and lifetimes are judged by the records.
const SLACK: Duration = Duration::from_secs(60);

/// How many keys one part of a walk looks at.
const SCANNED: u32 = 500;

/// What is read of a session: `sealed` and `used`.
type Record = (Option<Vec<u8>>, Option<u64>);

impl Redis {
    fn key(&self, kind: &str, id: &RecordId) -> String {
        format!("{}{kind}:{{{}}}", self.prefix, secret::encode(id))
    }

    fn login_key(&self, kind: LoginRecord, id: &RecordId) -> String {
        let kind = match kind {
            LoginRecord::Flow => "flow",
            LoginRecord::Attempt => "attempt",
        };
        self.key(kind, id)
    }

    /// The session's key and its touch's.
    fn session_keys(&self, id: &RecordId) -> [String; 2] {
        [self.key("session", id), self.key("touch", id)]
    }

    fn admission_keys(&self, address: &RecordId) -> [String; 2] {
        [format!("{}{{logins}}:all", self.prefix), format!("{}{{logins}}:of:{}", self.prefix, secret::encode(address))]
    }

    /// Seconds from now, never less than one.
    fn seconds_until(&self, expires_at: UnixTime) -> u64 {
        expires_at.plus(SLACK).since(self.clock.now()).as_secs().max(1)
    }

    /// A call that is one command.
    fn ask<'a, T: ::redis::FromRedisValue + Send + 'a>(&'a self, order: Order<'a>) -> StoreFuture<'a, T> {
        Box::pin(self.nodes.call().ask(order))
    }

    async fn leave_indexes(&self, call: Call<'_>, indexes: &[RecordId], id: RecordId) -> Result<(), Outage> {
        for index in indexes {
            let () = call.ask(Order::new("ZREM", &self.key("index", index)).arg(&id)).await?;
        }
        Ok(())
    }

    /// One part of a walk over one server.
    async fn scan(&self, call: Call<'_>, node: &Node, from: &str) -> Result<((String, Vec<RecordId>), Said), Outage> {
        let begins = format!("{}session:{{", self.prefix);
        let mut scan = cmd("SCAN");
        scan.arg(from).arg("MATCH").arg(format!("{}*", glob_literal(&begins))).arg("COUNT").arg(SCANNED);
        let ((next, keys), said): ((String, Vec<String>), _) = call.ask_at(node, scan).await?;
        let id = |key: &String| secret::decode(key.strip_prefix(&begins)?.strip_suffix('}')?)?.try_into().ok();
        Ok(((next, keys.iter().filter_map(id).collect()), said))
    }

    /// The servers to walk over, in an order that stays, and what says that they are still the same.
    async fn walked(&self, call: Call<'_>) -> Result<(Vec<(Option<Place>, Node)>, u64), Outage> {
        match &self.nodes.topology {
            Topology::One(node) => Ok((vec![(None, node.clone())], 0)),
            Topology::Cluster(cluster) => {
                let known = match cluster.known() {
                    known if known.map.is_whole() && known.version > 0 => known,
                    known => cluster.learn(known.version, None, call.end).await?,
                };
                if !known.map.is_whole() {
                    return Err(Outage::store("the cluster has no node for some slots"));
                }
                let nodes = known.map.primaries().into_iter().map(|place| (Some(place.clone()), cluster.node(&place)));
                Ok((nodes.collect(), known.changes))
            }
        }
    }
}

/// A session and its touch are spoken of one by one where that is possible: while their slot moves, a command that names both is put off
/// until both are in the same place.
impl SessionStore for Redis {
    fn put_session(&self, id: RecordId, session: SealedSession) -> StoreFuture<'_, ()> {
        let call = self.nodes.call();
        Box::pin(async move {
            let (now, until) = (self.clock.now().0, session.expires_at.0);
            let ttl = self.seconds_until(session.expires_at);
            for index in &session.indexes {
                let put = Order::script(&self.scripts.put_index, &[&self.key("index", index)]);
                let () = call.ask(put.arg(now).arg(until).arg(&id).arg(SLACK.as_secs()).confirmed()).await?;
            }
            let [record, touch] = self.session_keys(&id);
            let put = Order::script(&self.scripts.put_session, &[&record]).arg(&session.sealed).arg(&session.listing);
            let put = put.arg(session.indexes.as_flattened()).arg(session.last_used.0).arg(ttl).confirmed();
            let touch = Order::new("SET", &touch).arg(session.last_used.0).arg("EX").arg(ttl);
            let (before, ()) = tokio::try_join!(call.ask::<Option<Vec<u8>>>(put), call.ask::<()>(touch))?;
            let before = before.unwrap_or_default();
            let left = before.as_chunks().0.iter().filter(|index| !session.indexes.contains(index));
            self.leave_indexes(call, &left.copied().collect::<Vec<_>>(), id).await
        })
    }

    fn session(&self, id: RecordId) -> StoreFuture<'_, Option<StoredSession>> {
        let call = self.nodes.call();
        Box::pin(async move {
            let [record, touch] = self.session_keys(&id);
            let record = call.ask::<Record>(Order::new("HMGET", &record).arg(&["sealed", "used"]));
            let touch = call.ask::<Option<u64>>(Order::new("GET", &touch));
            let ((sealed, used), touch) = tokio::try_join!(record, touch)?;
            Ok(sealed.map(|sealed| StoredSession { sealed, last_used: UnixTime(used.max(touch).unwrap_or_default()) }))
        })
    }

    fn touch_session(&self, id: RecordId, last_used: UnixTime) -> StoreFuture<'_, ()> {
        let [record, touch] = self.session_keys(&id);
        self.ask(Order::script(&self.scripts.touch_session, &[&record, &touch]).arg(last_used.0))
    }

    fn replace_session(&self, id: RecordId, before: Vec<u8>, sealed: Vec<u8>) -> StoreFuture<'_, Replaced> {
        let call = self.nodes.call();
        Box::pin(async move {
            let replace = Order::script(&self.scripts.replace_session, &[&self.key("session", &id)]);
            let answer: u8 = call.ask(replace.arg(before).arg(sealed).confirmed()).await?;
            Ok(match answer {
                0 => Replaced::Replaced,
                1 => Replaced::Changed,
                _ => Replaced::Gone,
            })
        })
    }

    fn delete_session(&self, id: RecordId) -> StoreFuture<'_, bool> {
        let call = self.nodes.call();
        Box::pin(async move {
            let [record, touch] = self.session_keys(&id);
            let delete = Order::script(&self.scripts.delete_session, &[&record]).arg(u8::from(self.nodes.waits()));
            let (there, indexes): (bool, Vec<u8>) = call.ask(delete.confirmed()).await?;
            let () = call.ask(Order::new("DEL", &touch)).await?;
            // Only now: a deletion that was not confirmed is to be found again by them.
            self.leave_indexes(call, indexes.as_chunks().0, id).await?;
            Ok(there)
        })
    }

    fn sessions_under(&self, index: RecordId) -> StoreFuture<'_, Vec<RecordId>> {
        let call = self.nodes.call();
        Box::pin(async move {
            let living = Order::new("ZRANGEBYSCORE", &self.key("index", &index));
            let ids: Vec<Vec<u8>> = call.ask(living.arg(format!("({}", self.clock.now().0)).arg("+inf")).await?;
            Ok(ids.into_iter().filter_map(|id| id.try_into().ok()).collect())
        })
    }

    fn listing(&self, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.ask(Order::new("HGET", &self.key("session", &id)).arg("listing"))
    }

    /// A place in the walk is worth something only on the same connection to the same server and under the same map: else it begins again.
    fn all_sessions(&self, from: Option<Cursor>) -> StoreFuture<'_, Part> {
        let call = self.nodes.call();
        Box::pin(async move {
            let (nodes, map) = self.walked(call).await?;
            let from = from.as_ref().and_then(|cursor| At::read(&cursor.0)).filter(|at| at.map == map);
            let at = from.unwrap_or(At { map, server: 0, connection: None, next: "0".to_owned() });
            let Some((_, node)) = nodes.get(at.server) else { return Ok((Vec::new(), None)) };
            let ((mut next, mut ids), mut said) = self.scan(call, node, &at.next).await?;
            if at.connection.is_some_and(|connection| connection != said.connection) {
                // Another server, perhaps, or the same after a restart: its places are others.
                ((next, ids), said) = self.scan(call, node, "0").await?;
            }
            let on = match next.as_str() {
                "0" => At { map, server: at.server + 1, connection: None, next },
                _ => At { map, server: at.server, connection: Some(said.connection), next },
            };
            Ok((ids, (on.server < nodes.len()).then(|| Cursor(on.to_string()))))
        })
    }

    fn put_login(&self, kind: LoginRecord, id: RecordId, sealed: Vec<u8>, expires_at: UnixTime) -> StoreFuture<'_, ()> {
        let ttl = self.seconds_until(expires_at);
        self.ask(Order::new("SET", &self.login_key(kind, &id)).arg(sealed).arg("EX").arg(ttl))
    }

    fn login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.ask(Order::new("GET", &self.login_key(kind, &id)))
    }

    fn take_login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.ask(Order::new("GETDEL", &self.login_key(kind, &id)))
    }

    fn admit_login(&self, flow: RecordId, address: RecordId, expires_at: UnixTime, bounds: LoginBounds) -> StoreFuture<'_, Admission> {
        let call = self.nodes.call();
        Box::pin(async move {
            let [all, of_address] = self.admission_keys(&address);
            let admit = Order::script(&self.scripts.admit_login, &[&all, &of_address]).arg(self.clock.now().0).arg(expires_at.0);
            let answer: u8 = call.ask(admit.arg(&flow).arg(bounds.per_address).arg(bounds.total).arg(SLACK.as_secs())).await?;
            Ok(match answer {
                0 => Admission::Admitted,
                1 => Admission::TooManyOfAddress,
                _ => Admission::TooMany,
            })
        })
    }

    fn release_login(&self, flow: RecordId, address: RecordId) -> StoreFuture<'_, ()> {
        let call = self.nodes.call();
        Box::pin(async move {
            for key in self.admission_keys(&address) {
                let () = call.ask(Order::new("ZREM", &key).arg(&flow)).await?;
            }
            Ok(())
        })
    }

    fn lease(&self, name: RecordId, owner: RecordId, length: Duration) -> StoreFuture<'_, bool> {
        let lease = Order::script(&self.scripts.lease, &[&self.key("lease", &name)]);
        self.ask(lease.arg(&owner).arg(milliseconds(length)).confirmed())
    }

    fn release_lease(&self, name: RecordId, owner: RecordId) -> StoreFuture<'_, ()> {
        self.ask(Order::script(&self.scripts.release_lease, &[&self.key("lease", &name)]).arg(&owner))
    }

    fn remember(&self, mark: RecordId, until: UnixTime) -> StoreFuture<'_, bool> {
        let call = self.nodes.call();
        Box::pin(async move {
            let set = Order::new("SET", &self.key("mark", &mark)).arg("").arg("NX").arg("EX").arg(self.seconds_until(until));
            let set: Option<String> = call.ask(set.confirmed()).await?;
            Ok(set.is_some())
        })
    }

    fn remembered(&self, mark: RecordId) -> StoreFuture<'_, bool> {
        self.ask(Order::new("EXISTS", &self.key("mark", &mark)))
    }

    fn count(&self, name: RecordId, window: Duration) -> StoreFuture<'_, u64> {
        self.ask(Order::script(&self.scripts.count, &[&self.key("count", &name)]).arg(milliseconds(window)))
    }

    fn counted(&self, name: RecordId) -> StoreFuture<'_, u64> {
        let call = self.nodes.call();
        Box::pin(async move {
            let count: Option<u64> = call.ask(Order::new("GET", &self.key("count", &name))).await?;
            Ok(count.unwrap_or_default())
        })
    }

    fn forget_count(&self, name: RecordId) -> StoreFuture<'_, ()> {
        self.ask(Order::new("DEL", &self.key("count", &name)))
    }

    fn common(&self, name: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.ask(Order::new("GET", &self.key("common", &name)))
    }

    fn replace_common(&self, name: RecordId, before: Option<Vec<u8>>, sealed: Vec<u8>, until: UnixTime) -> StoreFuture<'_, bool> {
        let replace = Order::script(&self.scripts.replace_common, &[&self.key("common", &name)]).arg(u8::from(before.is_some()));
        self.ask(replace.arg(before.unwrap_or_default()).arg(sealed).arg(self.seconds_until(until)).confirmed())
    }

    fn watch(&self, told: OnChange) {
        self.begin_watch(told);
    }

    /// Of a cluster any one primary: none of them is the gateway's one store.
    fn ping(&self) -> StoreFuture<'_, ()> {
        let call = self.nodes.call();
        Box::pin(async move {
            let (nodes, _) = self.walked(call).await?;
            let mut answer = Err(Outage::store("no server is known"));
            for (_, node) in &nodes {
                answer = call.ask_at::<()>(node, cmd("PING")).await.map(drop);
                if answer.is_ok() {
                    break;
                }
            }
            answer
        })
    }
}

fn milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A text that matches nothing but itself in `SCAN`'s patterns.
fn glob_literal(text: &str) -> String {
    let mut pattern = String::new();
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// A place in the walk over all sessions.
struct At {
    /// Which map the walk began under.
    map: u64,
    /// Which of the servers.
    server: usize,
    /// Which connection to it gave the place; none before its first part.
    connection: Option<u64>,
    /// The server's own word for the place.
    next: String,
}

impl At {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ' ');
        let map = parts.next()?.parse().ok()?;
        let server = parts.next()?.parse().ok()?;
        let connection = parts.next()?.parse().ok();
        Some(Self { map, server, connection, next: parts.next()?.to_owned() })
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let connection = self.connection.map_or_else(|| "-".to_owned(), |connection| connection.to_string());
        write!(f, "{} {} {connection} {}", self.map, self.server, self.next)
    }
}
