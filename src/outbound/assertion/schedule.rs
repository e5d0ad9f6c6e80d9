//! Which key signs when. A new key is published for a while before it signs, and an old one until what it signed is over, so that an upstream
//! that keeps the keys for a while knows every key it meets.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::LIFE;
use crate::clock::UnixTime;
use crate::secret;
use crate::token::{Algorithm, SigningKey, SigningKeyError};

/// A key stays published this long after the next one began to sign: the life of what it signed, and room for clocks that differ and for a
/// gateway that hears of the next one late.
const RETIRING: Duration = Duration::from_secs(60 * 60);
const _: () = assert!(RETIRING.as_secs() > 2 * LIFE.as_secs());
/// A new key is published this long before it signs, where the keys live long enough.
const LEAD_AT_MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a new key is published before it signs: a tenth of its life, a day at most.
pub(super) fn lead(rotation: Duration) -> Duration {
    (rotation / 10).min(LEAD_AT_MOST)
}

/// A key with its time.
pub(super) struct Scheduled {
    pub(super) key: Arc<SigningKey>,
    pkcs8: Zeroizing<Vec<u8>>,
    pub(super) signs_from: UnixTime,
}

/// All keys in the order in which they sign; at least one.
#[derive(Clone)]
pub(super) struct Schedule(Vec<Arc<Scheduled>>);

/// What was read, and when it was written.
pub(super) struct Read {
    pub(super) schedule: Schedule,
    pub(super) written_at: UnixTime,
}

/// As it is written, before it is sealed.
#[derive(Serialize, Deserialize)]
struct Written {
    keys: Vec<WrittenKey>,
    written_at: UnixTime,
}

#[derive(Serialize, Deserialize)]
struct WrittenKey {
    pkcs8: String,
    signs_from: UnixTime,
}

impl Drop for WrittenKey {
    fn drop(&mut self) {
        self.pkcs8.zeroize();
    }
}

impl Schedule {
    /// With one fresh key that signs from `now` on.
    pub(super) fn begin(now: UnixTime) -> Result<Self, SigningKeyError> {
        Ok(Self(vec![fresh(now)?]))
    }

    /// What [`Schedule::write`] wrote; `None` for anything else.
    pub(super) fn read(bytes: &[u8]) -> Option<Read> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        let read = |written: &WrittenKey| {
            let pkcs8 = Zeroizing::new(secret::decode(&written.pkcs8)?);
            let key = Arc::new(SigningKey::from_pkcs8(&pkcs8, None).ok()?);
            Some(Arc::new(Scheduled { key, pkcs8, signs_from: written.signs_from }))
        };
        let keys: Vec<_> = written.keys.iter().map(read).collect::<Option<_>>()?;
        (!keys.is_empty()).then(|| Read { schedule: Self::in_order(keys), written_at: written.written_at })
    }

    pub(super) fn write(&self, now: UnixTime) -> Zeroizing<Vec<u8>> {
        let keys = self.0.iter().map(|one| WrittenKey { pkcs8: secret::encode(&one.pkcs8), signs_from: one.signs_from });
        // Texts and numbers: there is nothing that JSON does not hold.
        Zeroizing::new(serde_json::to_vec(&Written { keys: keys.collect(), written_at: now }).unwrap_or_default())
    }

    fn in_order(mut keys: Vec<Arc<Scheduled>>) -> Self {
        // By name where two begin together, so that all gateways find the same order.
        keys.sort_by(|one, other| (one.signs_from, one.key.kid()).cmp(&(other.signs_from, other.key.kid())));
        keys.dedup_by(|one, other| one.key.kid() == other.key.kid());
        Self(keys)
    }

    /// The key that signs: the last whose time has come. Before any has (another gateway's clock is ahead) the first does.
    pub(super) fn signer(&self, now: UnixTime) -> Option<&Arc<SigningKey>> {
        let begun = self.0.iter().rev().find(|one| one.signs_from <= now);
        begun.or(self.0.first()).map(|one| &one.key)
    }

    /// The keys to publish: all but those whose successor has been signing for long.
    pub(super) fn published(&self, now: UnixTime) -> impl Iterator<Item = &Arc<Scheduled>> {
        let ends = self.0.iter().skip(1).map(|next| Some(next.signs_from.plus(RETIRING))).chain([None]);
        self.0.iter().zip(ends).filter(move |(_, end)| end.is_none_or(|end| now < end)).map(|(one, _)| one)
    }

    /// These keys and those of `others` that are still to be published, each once.
    pub(super) fn with(&self, others: Option<&Self>, now: UnixTime) -> Self {
        let all = Self::in_order(self.0.iter().chain(others.into_iter().flat_map(|others| &others.0)).cloned().collect());
        Self(all.published(now).cloned().collect())
    }

    /// Whether the next key is to be made: the last one's life is over but for the time that the next one is published before it signs.
    pub(super) fn is_due(&self, now: UnixTime, rotation: Duration) -> bool {
        self.0.last().is_none_or(|last| now >= last.signs_from.plus(rotation.saturating_sub(lead(rotation))))
    }

    /// With the next key, published from now on.
    pub(super) fn with_next(&self, now: UnixTime, rotation: Duration) -> Result<Self, SigningKeyError> {
        let after_last = self.0.last().map_or(now, |last| last.signs_from.plus(rotation));
        let mut keys = self.0.clone();
        keys.push(fresh(after_last.max(now.plus(lead(rotation))))?);
        Ok(Self::in_order(keys))
    }

    /// Whether both hold the same keys.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.0.iter().map(|one| one.key.kid()).eq(other.0.iter().map(|one| one.key.kid()))
    }
}

fn fresh(signs_from: UnixTime) -> Result<Arc<Scheduled>, SigningKeyError> {
    // What every library verifies; whoever wants EdDSA gives a key.
    let (key, pkcs8) = SigningKey::generate(Algorithm::Es256)?;
    Ok(Arc::new(Scheduled { key: Arc::new(key), pkcs8, signs_from }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    const START: UnixTime = UnixTime(1_800_000_000);

    fn names(keys: &Schedule, now: UnixTime) -> Vec<String> {
        keys.published(now).map(|one| one.key.kid().to_owned()).collect()
    }

    #[test]
    fn a_key_is_published_before_it_signs_and_after() {
        let one = Schedule::begin(START).unwrap();
        let first = one.signer(START).unwrap().kid().to_owned();
        assert!(!one.is_due(START.plus(MONTH - DAY - Duration::from_secs(1)), MONTH));
        let due = START.plus(MONTH - DAY);
        assert!(one.is_due(due, MONTH));
        let two = one.with_next(due, MONTH).unwrap();
        assert!(!two.is_due(due, MONTH), "one next key is enough");
        let turn = START.plus(MONTH);
        let second = two.signer(turn).unwrap().kid().to_owned();
        assert_ne!(first, second);
        let second_before = |seconds| UnixTime(turn.0 - seconds);
        assert_eq!(two.signer(second_before(1)).unwrap().kid(), first);
        for (now, published) in [
            (due, vec![first.clone(), second.clone()]),
            (turn, vec![first.clone(), second.clone()]),
            (turn.plus(RETIRING - Duration::from_secs(1)), vec![first.clone(), second.clone()]),
            (turn.plus(RETIRING), vec![second.clone()]),
            (turn.plus(MONTH), vec![second.clone()]),
        ] {
            assert_eq!(names(&two, now), published, "{now}");
            assert_eq!(names(&two.with(None, now), now), published, "what is over goes: {now}");
        }
        assert_eq!(one.signer(START.plus(3 * MONTH)).unwrap().kid(), first, "without a next one it signs on");
        assert_eq!(one.signer(UnixTime(START.0 - 5)).unwrap().kid(), first, "a clock that is behind signs all the same");
    }

    #[test]
    fn a_key_that_is_made_late_is_published_as_long_before_it_signs() {
        let one = Schedule::begin(START).unwrap();
        let late = START.plus(5 * MONTH);
        let two = one.with_next(late, MONTH).unwrap();
        assert_eq!(two.signer(late.plus(DAY - Duration::from_secs(1))).unwrap().kid(), one.signer(late).unwrap().kid());
        assert_ne!(two.signer(late.plus(DAY)).unwrap().kid(), one.signer(late).unwrap().kid());
        assert_eq!(lead(DAY), DAY / 10);
        assert!(lead(DAY) > 10 * super::super::PUBLISHED_FOR);
    }

    #[test]
    fn what_was_written_reads_as_it_was() {
        let two = Schedule::begin(START).unwrap().with_next(START, MONTH).unwrap();
        let read = Schedule::read(&two.write(START)).unwrap();
        assert_eq!(read.written_at, START);
        let read = read.schedule;
        assert!(read.same(&two));
        assert_eq!(read.0[1].signs_from, two.0[1].signs_from);
        for bytes in
            [&b""[..], b"{}", b"[]", br#"{"keys":[],"written_at":1}"#, br#"{"keys":[{"pkcs8":"AAAA","signs_from":1}],"written_at":1}"#]
        {
            assert!(Schedule::read(bytes).is_none());
        }
    }

    #[test]
    fn keys_of_two_gateways_come_together_in_one_order() {
        let (one, other) = (Schedule::begin(START).unwrap(), Schedule::begin(START).unwrap());
        let both = one.with(Some(&other), START);
        assert_eq!(both.0.len(), 2);
        assert!(both.same(&other.with(Some(&one), START)));
        assert!(both.same(&both.with(Some(&both), START)));
    }
}
