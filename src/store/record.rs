//! What a store keeps, sealed and opened: pure functions between our types and bytes.
//!
//! Every sealed value is bound to its kind and to the name it is stored under (an attempt, which lies under its flow's name, to its `state`), so a
//! value moved to another record opens as nothing. Inside
//! the seal stands one byte for the format and then JSON; a format that this release does not know opens as nothing too.

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::RecordId;
use crate::clock::UnixTime;
use crate::login::{Flow, FlowCookie, PendingLogin, State};
use crate::secret::{SealKey, SealRing};
use crate::session::{Session, SessionCookie, ShownAs};

/// Raised when an older release could not read what this one writes. Added members need no new format: unknown ones are ignored.
const FORMAT: u8 = 1;
/// How much of a `User-Agent` a listing keeps.
const USER_AGENT_BYTES: usize = 200;

const SESSION: &[u8] = b"session";
const LISTING: &[u8] = b"listing";
const FLOW: &[u8] = b"flow";
const ATTEMPT: &[u8] = b"attempt";
const ENDED: &[u8] = b"ended";

/// Seals a session with the key that only its cookie holds.
#[must_use]
pub fn seal_session(session: &Session, cookie: &SessionCookie) -> Vec<u8> {
    seal(cookie.key(), SESSION, &cookie.record_id(), session)
}

/// Opens a session; `None` for whatever this cookie did not seal.
#[must_use]
pub fn open_session(sealed: &[u8], cookie: &SessionCookie) -> Option<Session> {
    open(cookie.key(), SESSION, &cookie.record_id(), sealed)
}

/// What is left of a session whose time is over: enough to tell its person that it was, and to know them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The keyed hash of (`iss`, `sub`): see [`subject_tag`].
    pub subject: RecordId,
    /// When it was over.
    pub at: UnixTime,
    /// Why.
    pub why: EndedBy,
}

/// The ways in which time ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// It was not used.
    Idle,
    /// It reached its longest time.
    Absolute,
    /// The provider's token was over.
    Token,
}

/// Seals what is left of a session, in its place.
#[must_use]
pub fn seal_ended(ended: &Ended, cookie: &SessionCookie) -> Vec<u8> {
    seal(cookie.key(), ENDED, &cookie.record_id(), ended)
}

/// Opens what is left of a session.
#[must_use]
pub fn open_ended(sealed: &[u8], cookie: &SessionCookie) -> Option<Ended> {
    open(cookie.key(), ENDED, &cookie.record_id(), sealed)
}

/// Names a person to whoever has one of the gateway's keys, and to nobody else. Its first key's; look-ups try [`subject_tags`].
#[must_use]
pub fn subject_tag(ring: &SealRing, issuer: &str, sub: &str) -> RecordId {
    ring.index(&[b"subject", issuer.as_bytes(), sub.as_bytes()])
}

/// The same under every key.
#[must_use]
pub fn subject_tags(ring: &SealRing, issuer: &str, sub: &str) -> Vec<RecordId> {
    ring.indexes(&[b"subject", issuer.as_bytes(), sub.as_bytes()])
}

/// Seals a flow with the key in its own cookie.
#[must_use]
pub fn seal_flow(flow: &Flow, cookie: &FlowCookie) -> Vec<u8> {
    seal(cookie.key(), FLOW, &cookie.handle.record_id(), flow)
}

/// Opens a flow; `None` for whatever this cookie did not seal.
#[must_use]
pub fn open_flow(sealed: &[u8], cookie: &FlowCookie) -> Option<Flow> {
    open(cookie.key(), FLOW, &cookie.handle.record_id(), sealed)
}

/// Seals an attempt with the key in its flow's cookie: the browser binding of a login.
#[must_use]
pub fn seal_attempt(attempt: &PendingLogin, state: &State, cookie: &FlowCookie) -> Vec<u8> {
    seal(cookie.key(), ATTEMPT, &state.record_id(), attempt)
}

/// Opens an attempt; `None` when it belongs to another browser, flow or `state`.
#[must_use]
pub fn open_attempt(sealed: &[u8], state: &State, cookie: &FlowCookie) -> Option<PendingLogin> {
    open(cookie.key(), ATTEMPT, &state.record_id(), sealed)
}

/// What a list of sessions shows without their cookies. Sealed by the gateway's own key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Who vouches.
    pub issuer: String,
    /// Who is signed in, as the issuer names them.
    pub sub: String,
    /// The name a person would know them by.
    pub name: String,
    /// When they signed in.
    pub signed_in_at: UnixTime,
    /// The address they signed in from.
    pub address: IpAddr,
    /// What their browser called itself: at most 200 bytes, without control characters.
    pub user_agent: String,
    /// How its session is shown.
    #[serde(default, skip_serializing_if = "ShownAs::is_cookie")]
    pub shown_as: ShownAs,
}

impl Listing {
    /// Of a session that begins now, from the request that began it.
    #[must_use]
    pub fn new(session: &Session, address: IpAddr, user_agent: &str) -> Self {
        let mut kept = String::new();
        for character in user_agent.chars().filter(|character| !character.is_control()) {
            if kept.len() + character.len_utf8() > USER_AGENT_BYTES {
                break;
            }
            kept.push(character);
        }
        Self {
            issuer: session.identity.issuer.to_string(),
            sub: session.identity.sub.to_string(),
            name: session.identity.display_name().to_owned(),
            signed_in_at: session.created_at,
            address: address.to_canonical(),
            user_agent: kept,
            shown_as: session.shown_as,
        }
    }
}

/// Seals a listing with the gateway's first key.
#[must_use]
pub fn seal_listing(listing: &Listing, id: &RecordId, ring: &SealRing) -> Vec<u8> {
    ring.seal(&context(LISTING, id), &pack(listing))
}

/// Opens a listing with whichever of the gateway's keys fits.
#[must_use]
pub fn open_listing(sealed: &[u8], id: &RecordId, ring: &SealRing) -> Option<Listing> {
    unpack(&ring.open(&context(LISTING, id), sealed)?)
}

/// The index entries a session is written under: by (`iss`, `sub`), and by (`iss`, `sid`) where the provider named its own session.
#[must_use]
pub fn indexes(ring: &SealRing, issuer: &str, sub: &str, sid: Option<&str>) -> Vec<RecordId> {
    let mut tags = vec![ring.index(&[b"sub", issuer.as_bytes(), sub.as_bytes()])];
    tags.extend(sid.map(|sid| ring.index(&[b"sid", issuer.as_bytes(), sid.as_bytes()])));
    tags
}

/// Where to look for the sessions of a person, under every key.
#[must_use]
pub fn entries_of_sub(ring: &SealRing, issuer: &str, sub: &str) -> Vec<RecordId> {
    ring.indexes(&[b"sub", issuer.as_bytes(), sub.as_bytes()])
}

/// Where to look for the sessions that came of one session at the provider, under every key.
#[must_use]
pub fn entries_of_sid(ring: &SealRing, issuer: &str, sid: &str) -> Vec<RecordId> {
    ring.indexes(&[b"sid", issuer.as_bytes(), sid.as_bytes()])
}

/// Names the address that a login came from without telling it. IPv6 counts by its /64, since a person has at least that; an IPv4 address in
/// IPv6 clothes counts as IPv4.
#[must_use]
pub fn address_tag(ring: &SealRing, address: IpAddr) -> RecordId {
    match address.to_canonical() {
        IpAddr::V4(address) => ring.index(&[b"address", &address.octets()]),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            ring.index(&[b"address", &network.to_be_bytes()])
        }
    }
}

fn seal<T: Serialize>(key: &[u8; 32], kind: &[u8], id: &RecordId, value: &T) -> Vec<u8> {
    SealKey::new(key).seal(&context(kind, id), &pack(value))
}

fn open<T: DeserializeOwned>(key: &[u8; 32], kind: &[u8], id: &RecordId, sealed: &[u8]) -> Option<T> {
    unpack(&SealKey::new(key).open(&context(kind, id), sealed)?)
}

/// No kind begins another one, and the id has one length, so two contexts never meet.
fn context(kind: &[u8], id: &RecordId) -> Vec<u8> {
    [kind, id].concat()
}

#[expect(clippy::expect_used, reason = "our records are structs and maps with text keys: nothing that JSON cannot hold")]
fn pack<T: Serialize>(value: &T) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(2048));
    plain.push(FORMAT);
    serde_json::to_writer(&mut *plain, value).expect("a record is JSON");
    plain
}

fn unpack<T: DeserializeOwned>(plain: &[u8]) -> Option<T> {
    let (&format, json) = plain.split_first()?;
    if format != FORMAT {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests;
