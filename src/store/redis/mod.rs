//! The store that many gateways share: a Redis (6.2 or newer) of its own or with others.
//!
//! `settings` is what the config says, `connect` opens one connection, `link` keeps it, `scripts` is what runs inside Redis.
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
//! | `flow:{ID}`, `attempt:{ID}` | string | login records |
//! | `{logins}:all`, `{logins}:of:ADDRESS` | sorted set | flows under way by their end |
//!
//! # Rights
//! A user of its own needs these and nothing else (`select` only for another database than 0):
//! `~doorward:* +ping +get +set +getdel +del +hget +hmget +hset +expire +pttl +zadd +zcard +zscore +zrem +zrangebyscore +zremrangebyscore
//! +zrevrange +scan +exists +incr +pexpire +evalsha +script|load +select`

mod connect;
mod link;
mod scripts;
mod settings;

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{FromRedisValue, RedisResult, cmd};
use tokio::runtime::Handle;

pub use settings::{PasswordSource, RedisSettings, RedisSettingsError, RedisUrl};

use super::{
    Admission, Cursor, LoginBounds, LoginRecord, Part, RecordId, Replaced, SealedSession, SessionStore, StoreFuture, StoredSession,
};
use crate::clock::{SharedClock, UnixTime};
use crate::secret;
use connect::Target;
use link::Link;
use scripts::Scripts;

/// Records outlive their time by this much: our clock and the server's are not the same, and lifetimes are judged by the records.
const SLACK: Duration = Duration::from_secs(60);

/// How many keys one part of a walk looks at.
const SCANNED: u32 = 500;

/// What is read of a session: `sealed` and `used`.
type Record = (Option<Vec<u8>>, Option<u64>);

/// Sessions and login records in Redis.
pub struct Redis {
    link: Link,
    scripts: Scripts,
    prefix: String,
    clock: SharedClock,
}

impl Redis {
    /// Reads nothing and connects to nothing yet, except that the certificates to trust are read. The connection will live on `control`;
    /// the store's methods may be awaited on any thread.
    ///
    /// # Errors
    /// When settings contradict each other or the certificates cannot be read.
    pub fn new(settings: RedisSettings, control: Handle, clock: SharedClock) -> Result<Self, RedisSettingsError> {
        settings.check()?;
        let prefix = settings.prefix.clone();
        let (connect_timeout, response_timeout) = (settings.connect_timeout, settings.response_timeout);
        let target = Target::new(settings)?;
        let link = Link::new(target, control, SharedClock::clone(&clock), connect_timeout, response_timeout);
        Ok(Self { link, scripts: Scripts::new(), prefix, clock })
    }

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

    fn admission_keys(&self, address: &RecordId) -> [String; 2] {
        [format!("{}{{logins}}:all", self.prefix), format!("{}{{logins}}:of:{}", self.prefix, secret::encode(address))]
    }

    /// Seconds from now, never less than one.
    fn seconds_until(&self, expires_at: UnixTime) -> u64 {
        expires_at.plus(SLACK).since(self.clock.now()).as_secs().max(1)
    }

    /// Runs work on the connection within the time that a call may take.
    fn call<'a, T, F>(&'a self, work: impl FnOnce(MultiplexedConnection) -> F + Send + 'a) -> StoreFuture<'a, T>
    where
        T: 'a,
        F: Future<Output = RedisResult<T>> + Send + 'a,
    {
        Box::pin(self.link.call(work))
    }

    fn ask<'a, T: FromRedisValue + Send + 'a>(&'a self, command: ::redis::Cmd) -> StoreFuture<'a, T> {
        self.call(async move |mut redis| command.query_async(&mut redis).await)
    }
}

impl SessionStore for Redis {
    fn put_session(&self, id: RecordId, session: SealedSession) -> StoreFuture<'_, ()> {
        self.call(async move |mut redis| {
            let (now, until) = (self.clock.now().0, session.expires_at.0);
            let ttl = self.seconds_until(session.expires_at);
            for index in &session.indexes {
                let mut put = self.scripts.put_index.key(self.key("index", index));
                let () = put.arg(now).arg(until).arg(&id).arg(SLACK.as_secs()).invoke_async(&mut redis).await?;
            }
            let mut put = self.scripts.put_session.key(self.key("session", &id));
            put.key(self.key("touch", &id));
            put.arg(&session.sealed).arg(&session.listing).arg(session.indexes.as_flattened()).arg(session.last_used.0).arg(ttl);
            let before: Option<Vec<u8>> = put.invoke_async(&mut redis).await?;
            let before = before.unwrap_or_default();
            for left in before.as_chunks().0.iter().filter(|index| !session.indexes.contains(index)) {
                let () = cmd("ZREM").arg(self.key("index", left)).arg(&id).query_async(&mut redis).await?;
            }
            Ok(())
        })
    }

    fn session(&self, id: RecordId) -> StoreFuture<'_, Option<StoredSession>> {
        self.call(async move |mut redis| {
            let mut both = ::redis::pipe();
            both.cmd("HMGET").arg(self.key("session", &id)).arg(&["sealed", "used"]);
            both.cmd("GET").arg(self.key("touch", &id));
            let (record, touch): (Record, Option<u64>) = both.query_async(&mut redis).await?;
            let (sealed, used) = record;
            Ok(sealed.map(|sealed| StoredSession { sealed, last_used: UnixTime(used.max(touch).unwrap_or_default()) }))
        })
    }

    fn touch_session(&self, id: RecordId, last_used: UnixTime) -> StoreFuture<'_, ()> {
        self.call(async move |mut redis| {
            let mut touch = self.scripts.touch_session.key(self.key("session", &id));
            touch.key(self.key("touch", &id)).arg(last_used.0).invoke_async(&mut redis).await
        })
    }

    fn delete_session(&self, id: RecordId) -> StoreFuture<'_, bool> {
        self.call(async move |mut redis| {
            let mut delete = self.scripts.delete_session.key(self.key("session", &id));
            let (there, indexes): (bool, Vec<u8>) = delete.key(self.key("touch", &id)).invoke_async(&mut redis).await?;
            for index in indexes.as_chunks().0 {
                let () = cmd("ZREM").arg(self.key("index", index)).arg(&id).query_async(&mut redis).await?;
            }
            Ok(there)
        })
    }

    fn sessions_under(&self, index: RecordId) -> StoreFuture<'_, Vec<RecordId>> {
        self.call(async move |mut redis| {
            let mut living = cmd("ZRANGEBYSCORE");
            living.arg(self.key("index", &index)).arg(format!("({}", self.clock.now().0)).arg("+inf");
            let ids: Vec<Vec<u8>> = living.query_async(&mut redis).await?;
            Ok(ids.into_iter().filter_map(|id| id.try_into().ok()).collect())
        })
    }

    fn listing(&self, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.ask(cmd("HGET").arg(self.key("session", &id)).arg("listing").take())
    }

    fn put_login(&self, kind: LoginRecord, id: RecordId, sealed: Vec<u8>, expires_at: UnixTime) -> StoreFuture<'_, ()> {
        self.ask(cmd("SET").arg(self.login_key(kind, &id)).arg(sealed).arg("EX").arg(self.seconds_until(expires_at)).take())
    }

    fn login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.ask(cmd("GET").arg(self.login_key(kind, &id)).take())
    }

    fn take_login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.ask(cmd("GETDEL").arg(self.login_key(kind, &id)).take())
    }

    fn admit_login(&self, flow: RecordId, address: RecordId, expires_at: UnixTime, bounds: LoginBounds) -> StoreFuture<'_, Admission> {
        self.call(async move |mut redis| {
            let mut admit = self.scripts.admit_login.key(&self.admission_keys(&address));
            admit.arg(self.clock.now().0).arg(expires_at.0).arg(&flow).arg(bounds.per_address).arg(bounds.total).arg(SLACK.as_secs());
            let answer: u8 = admit.invoke_async(&mut redis).await?;
            Ok(match answer {
                0 => Admission::Admitted,
                1 => Admission::TooManyOfAddress,
                _ => Admission::TooMany,
            })
        })
    }

    fn release_login(&self, flow: RecordId, address: RecordId) -> StoreFuture<'_, ()> {
        self.call(async move |mut redis| {
            let mut both = ::redis::pipe();
            for key in self.admission_keys(&address) {
                both.cmd("ZREM").arg(key).arg(&flow).ignore();
            }
            both.query_async(&mut redis).await
        })
    }

    fn replace_session(&self, id: RecordId, before: Vec<u8>, sealed: Vec<u8>) -> StoreFuture<'_, Replaced> {
        self.call(async move |mut redis| {
            let mut replace = self.scripts.replace_session.key(self.key("session", &id));
            let answer: u8 = replace.arg(before).arg(sealed).invoke_async(&mut redis).await?;
            Ok(match answer {
                0 => Replaced::Replaced,
                1 => Replaced::Changed,
                _ => Replaced::Gone,
            })
        })
    }

    fn all_sessions(&self, from: Option<Cursor>) -> StoreFuture<'_, Part> {
        self.call(async move |mut redis| {
            let from = from.map_or_else(|| "0".to_owned(), |cursor| cursor.0);
            let begins = format!("{}session:{{", self.prefix);
            let mut scan = cmd("SCAN");
            scan.arg(from).arg("MATCH").arg(format!("{}*", glob_literal(&begins))).arg("COUNT").arg(SCANNED);
            let (next, keys): (String, Vec<String>) = scan.query_async(&mut redis).await?;
            let id = |key: &String| secret::decode(key.strip_prefix(&begins)?.strip_suffix('}')?)?.try_into().ok();
            Ok((keys.iter().filter_map(id).collect(), (next != "0").then_some(Cursor(next))))
        })
    }

    fn lease(&self, name: RecordId, owner: RecordId, length: Duration) -> StoreFuture<'_, bool> {
        self.call(async move |mut redis| {
            let mut lease = self.scripts.lease.key(self.key("lease", &name));
            lease.arg(&owner).arg(milliseconds(length)).invoke_async(&mut redis).await
        })
    }

    fn release_lease(&self, name: RecordId, owner: RecordId) -> StoreFuture<'_, ()> {
        self.call(async move |mut redis| {
            self.scripts.release_lease.key(self.key("lease", &name)).arg(&owner).invoke_async(&mut redis).await
        })
    }

    fn remember(&self, mark: RecordId, until: UnixTime) -> StoreFuture<'_, bool> {
        self.call(async move |mut redis| {
            let mut set = cmd("SET");
            set.arg(self.key("mark", &mark)).arg("").arg("NX").arg("EX").arg(self.seconds_until(until));
            let set: Option<String> = set.query_async(&mut redis).await?;
            Ok(set.is_some())
        })
    }

    fn remembered(&self, mark: RecordId) -> StoreFuture<'_, bool> {
        self.ask(cmd("EXISTS").arg(self.key("mark", &mark)).take())
    }

    fn count(&self, name: RecordId, window: Duration) -> StoreFuture<'_, u64> {
        self.call(async move |mut redis| {
            self.scripts.count.key(self.key("count", &name)).arg(milliseconds(window)).invoke_async(&mut redis).await
        })
    }

    fn counted(&self, name: RecordId) -> StoreFuture<'_, u64> {
        self.call(async move |mut redis| {
            let count: Option<u64> = cmd("GET").arg(self.key("count", &name)).query_async(&mut redis).await?;
            Ok(count.unwrap_or_default())
        })
    }

    fn forget_count(&self, name: RecordId) -> StoreFuture<'_, ()> {
        self.ask(cmd("DEL").arg(self.key("count", &name)).take())
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        self.ask(cmd("PING"))
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
