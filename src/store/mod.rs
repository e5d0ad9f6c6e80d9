//! Where sessions and logins under way are kept: sealed bytes under hashed names. Nothing in a store opens without a cookie.
//!
//! One trait, three stores (`embedded`, `memory`, `redis`), one contract suite (`contract`). `record` seals and opens, `cache` keeps opened
//! sessions in this process, and `sessions` holds [`Sessions`], which the rest of the gateway speaks to.

mod cache;
#[doc(hidden)]
pub mod contract;
pub mod embedded;
mod measured;
pub mod memory;
pub mod record;
pub mod redis;
mod sessions;
mod streams;
mod volatile;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::fault::Outage;

pub use cache::{CachedSession, SessionCache};
pub use measured::Measured;
pub use record::Listing;
pub use sessions::{Created, Listed, Loaded, Renewal, Sessions, Under};

/// The hashed name of a record.
pub type RecordId = [u8; 32];

/// What a store's methods return: *not there* is `Ok(None)`, *could not ask* is an [`Outage`].
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, Outage>> + Send + 'a>>;

/// A session as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSession {
    /// Sealed by the cookie's key: everything of worth.
    pub sealed: Vec<u8>,
    /// Sealed by the gateway's own key: what a list of sessions shows.
    pub listing: Vec<u8>,
    /// The index entries it is to be found under: HMACs of (`iss`, `sid`) and (`iss`, `sub`).
    pub indexes: Vec<RecordId>,
    /// When it was last used.
    pub last_used: UnixTime,
    /// When the store may sweep it. Lifetimes are judged elsewhere, by times in the sealed record.
    pub expires_at: UnixTime,
}

/// A session as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// Sealed by the cookie's key.
    pub sealed: Vec<u8>,
    /// The latest touch.
    pub last_used: UnixTime,
}

/// The two kinds of record on the way through login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginRecord {
    /// [`crate::login::Flow`].
    Flow,
    /// [`crate::login::PendingLogin`].
    Attempt,
}

/// How many logins may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginBounds {
    /// From one address.
    pub per_address: u64,
    /// In all.
    pub total: u64,
}

/// Whether one more login may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It was counted in.
    Admitted,
    /// This address has too many under way; nothing was written.
    TooManyOfAddress,
    /// There are too many in all; nothing was written.
    TooMany,
}

/// What became of a compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It was as expected and now is as wanted.
    Replaced,
    /// Somebody else wrote it meanwhile; it is theirs.
    Changed,
    /// It is not there.
    Gone,
}

/// Where a walk over all sessions goes on. Its text is the store's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// A part of a walk over all sessions, and where the next part begins; `None`: that was all.
pub type Part = (Vec<RecordId>, Option<Cursor>);

/// What a store tells of what others do to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This session was written or is gone.
    Session(RecordId),
    /// Changes may be missed from now on: nothing that was read before may be relied on.
    Lost,
    /// From now on every change is told.
    Watched,
    /// Every change so far was told. Said again and again; where it stays out nothing is known, not even that changes are missed.
    Heard,
}

/// Hears of changes. Called on the control runtime; it must not block.
pub type OnChange = Arc<dyn Fn(Change) + Send + Sync>;

/// The contract of a store. Every implementation passes the same suite.
pub trait SessionStore: Send + Sync {
    /// Writes a session; its index entries are there before the session is (an entry may dangle, a session is never unlisted). An overwrite
    /// replaces the touch and drops index entries that it no longer has.
    fn put_session(&self, id: RecordId, session: SealedSession) -> StoreFuture<'_, ()>;

    /// Reads a session with its latest touch.
    fn session(&self, id: RecordId) -> StoreFuture<'_, Option<StoredSession>>;

    /// Notes a use. Never brings a session back that is gone, and never moves a touch backwards.
    fn touch_session(&self, id: RecordId, last_used: UnixTime) -> StoreFuture<'_, ()>;

    /// Writes `sealed` in place of `before`, and only of that (compare-and-set). Listing, index entries, touch and expiry stay as they are.
    fn replace_session(&self, id: RecordId, before: Vec<u8>, sealed: Vec<u8>) -> StoreFuture<'_, Replaced>;

    /// Deletes a session with its touch and index entries; whether it was there. When this returns it is gone on every replica.
    fn delete_session(&self, id: RecordId) -> StoreFuture<'_, bool>;

    /// The sessions under an index entry; some may be gone already.
    fn sessions_under(&self, index: RecordId) -> StoreFuture<'_, Vec<RecordId>>;

    /// What a list shows of a session, as sealed by the gateway's key.
    fn listing(&self, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>>;

    /// Walks over all sessions, part by part. What is there all the while comes at least once; what comes may be gone already.
    fn all_sessions(&self, from: Option<Cursor>) -> StoreFuture<'_, Part>;

    /// Writes a login record over whatever is there.
    fn put_login(&self, kind: LoginRecord, id: RecordId, sealed: Vec<u8>, expires_at: UnixTime) -> StoreFuture<'_, ()>;

    /// Reads a login record and leaves it.
    fn login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>>;

    /// Takes a login record away: of many who try at once, on any replica, one gets it.
    fn take_login(&self, kind: LoginRecord, id: RecordId) -> StoreFuture<'_, Option<Vec<u8>>>;

    /// Counts a flow in, under the hash of the address it came from, unless the bounds are reached. It counts until `expires_at` or
    /// [`SessionStore::release_login`]. Counting the same flow again changes nothing but its expiry.
    fn admit_login(&self, flow: RecordId, address: RecordId, expires_at: UnixTime, bounds: LoginBounds) -> StoreFuture<'_, Admission>;

    /// Counts a flow out; of one that was never counted, nothing happens.
    fn release_login(&self, flow: RecordId, address: RecordId) -> StoreFuture<'_, ()>;

    /// Takes a lease, or prolongs one's own: whether `owner` holds it now. It ends by itself after `length` of real time, whatever clock the
    /// gateway has: it is about work that is under way.
    fn lease(&self, name: RecordId, owner: RecordId, length: Duration) -> StoreFuture<'_, bool>;

    /// Gives a lease back. One that is somebody else's by now stays theirs.
    fn release_lease(&self, name: RecordId, owner: RecordId) -> StoreFuture<'_, ()>;

    /// Notes that something happened, until then; `true`: for the first time. Of many who note the same at once, on any replica, one is first.
    fn remember(&self, mark: RecordId, until: UnixTime) -> StoreFuture<'_, bool>;

    /// Whether it was noted.
    fn remembered(&self, mark: RecordId) -> StoreFuture<'_, bool>;

    /// Counts one more; how many there are now. They are forgotten together, `window` of real time after the first.
    fn count(&self, name: RecordId, window: Duration) -> StoreFuture<'_, u64>;

    /// How many there are.
    fn counted(&self, name: RecordId) -> StoreFuture<'_, u64>;

    /// Forgets a count.
    fn forget_count(&self, name: RecordId) -> StoreFuture<'_, ()>;

    /// A record that all gateways on this store have in common, as it was last written.
    fn common(&self, name: RecordId) -> StoreFuture<'_, Option<Vec<u8>>>;

    /// Writes `sealed` over `before`, and only over that (compare-and-set; `None`: where there is nothing): whether it was written. It is there
    /// until `until`, unless it is written again before.
    fn replace_common(&self, name: RecordId, before: Option<Vec<u8>>, sealed: Vec<u8>, until: UnixTime) -> StoreFuture<'_, bool>;

    /// Has changes told that other processes make. A store that no other process writes to has none to tell.
    fn watch(&self, _told: OnChange) {}

    /// Whether the store answers.
    fn ping(&self) -> StoreFuture<'_, ()>;
}
