//! Which node of a cluster has which key: Redis Cluster specification, "Key distribution model" and "MOVED Redirection".

use std::collections::BTreeMap;

use ::redis::{RedisError, ServerErrorKind, Value};

use super::url::Place;

/// The number of slots.
const SLOTS: u16 = 16384;

/// The slot of a key: CRC16 of what stands between its first `{` and the next `}`, or of all of it.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag).filter(|tag| !tag.is_empty());
    crc16(tag.unwrap_or(key).as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the specification's appendix has it: polynomial 0x1021, beginning with 0, nothing reflected.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

/// Who serves what. The last slot of each piece, with the node that has the piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotMap {
    pieces: BTreeMap<u16, Option<Place>>,
}

impl SlotMap {
    /// Reads the answer to `CLUSTER SLOTS` of the node at `asked`.
    pub(super) fn read(answer: Value, asked: &Place) -> Option<Self> {
        type Node = (Option<String>, u16);
        let Value::Array(ranges) = answer else { return None };
        let mut map = Self { pieces: BTreeMap::from([(SLOTS - 1, None)]) };
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let mut parts = parts.into_iter();
            let mut number = || ::redis::from_redis_value::<u16>(parts.next()?).ok();
            let (first, last) = (number()?, number()?);
            // The node's name and further addresses follow; the first of the nodes is the primary.
            let Value::Array(node) = parts.next()? else { return None };
            let node = Value::Array(node.into_iter().take(2).collect());
            let (host, port): Node = ::redis::from_redis_value(node).ok()?;
            if first > last || last >= SLOTS {
                return None;
            }
            let place = match host.as_deref() {
                Some("?") => None,
                None | Some("") => Some(asked.beside(asked.host(), port)),
                Some(host) => Some(asked.beside(host, port)),
            };
            map.give(first, last, place);
        }
        Some(map)
    }

    /// Who has this slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Place> {
        self.pieces.range(slot..).next()?.1.as_ref()
    }

    /// Notes who has these slots.
    pub(super) fn give(&mut self, first: u16, last: u16, place: Option<Place>) {
        // The piece that these are cut out of keeps its owner before them, and behind them under its own end.
        if let Some(before) = first.checked_sub(1) {
            let owner = self.owner(before).cloned();
            self.pieces.insert(before, owner);
        }
        let within: Vec<u16> = self.pieces.range(first..last).map(|(end, _)| *end).collect();
        for end in within {
            self.pieces.remove(&end);
        }
        self.pieces.insert(last, place);
    }

    /// All who have slots.
    pub(super) fn primaries(&self) -> std::collections::BTreeSet<Place> {
        self.pieces.values().flatten().cloned().collect()
    }

    /// Whether every slot has its node.
    pub(super) fn is_whole(&self) -> bool {
        self.pieces.values().all(Option::is_some)
    }

    /// The same map for comparisons: neighbours of one node are one piece.
    pub(super) fn joined(&self) -> Self {
        let mut pieces: BTreeMap<u16, Option<Place>> = BTreeMap::new();
        for (end, owner) in &self.pieces {
            if pieces.last_key_value().is_some_and(|(_, before)| before == owner) {
                pieces.pop_last();
            }
            pieces.insert(*end, owner.clone());
        }
        Self { pieces }
    }
}

/// What a node says instead of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The slot is somebody else's now.
    Moved(Place),
    /// This key may be there already; the slot will be.
    Ask(Place),
    /// The keys are being moved right now.
    Again,
    /// The node serves nothing, or not this.
    Down,
}

impl Redirect {
    /// `None`: an error like any other.
    pub(super) fn read(error: &RedisError, asked: &Place) -> Option<Self> {
        let to = || {
            let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
            // An unknown or empty host is the one that was asked.
            let host = if matches!(host, "" | "?") { asked.host() } else { host };
            Some(asked.beside(host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
        };
        match error.kind() {
            ::redis::ErrorKind::Server(ServerErrorKind::Moved) => Some(to().map_or(Self::Down, Self::Moved)),
            ::redis::ErrorKind::Server(ServerErrorKind::Ask) => Some(to().map_or(Self::Down, Self::Ask)),
            ::redis::ErrorKind::Server(ServerErrorKind::TryAgain) => Some(Self::Again),
            ::redis::ErrorKind::Server(ServerErrorKind::ClusterDown) => Some(Self::Down),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16) -> Place {
        Place::Tcp { host: "127.0.0.1".to_owned(), port }
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        // Appendix A of the specification: the check value of this CRC.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of("123456789"), 0x31C3);
        for (one, other) in [
            ("doorward:session:{abc}", "doorward:touch:{abc}"),
            ("{user1000}.following", "{user1000}.followers"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
        ] {
            assert_eq!(slot_of(one), slot_of(other), "{one} {other}");
        }
        assert_ne!(slot_of("foo{}{bar}"), slot_of("bar"));
        assert_ne!(slot_of("doorward:{logins}:all"), slot_of("doorward:session:{abc}"));
    }

    #[test]
    fn a_map_is_read_and_patched() {
        let node = |host: Value, port: i64| Value::Array(vec![host, Value::Int(port), bulk("id"), Value::Array(vec![])]);
        let range = |first, last, nodes: Vec<Value>| Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat());
        let answer = Value::Array(vec![
            range(5461, 10922, vec![node(bulk("127.0.0.1"), 2), node(bulk("127.0.0.1"), 9)]),
            range(0, 5460, vec![node(bulk(""), 1)]),
            range(10923, 16383, vec![node(Value::Nil, 3)]),
        ]);
        let mut map = SlotMap::read(answer, &place(7)).unwrap();
        assert!(map.is_whole());
        let owner = |map: &SlotMap, slot| map.owner(slot).cloned();
        for (slot, port) in [(0, 1), (5460, 1), (5461, 2), (10922, 2), (10923, 3), (16383, 3)] {
            assert_eq!(owner(&map, slot), Some(place(port)), "{slot}");
        }
        assert_eq!(map.primaries(), [1, 2, 3].map(place).into());
        let before = map.joined();
        map.give(6000, 6000, Some(place(3)));
        for (slot, port) in [(5999, 2), (6000, 3), (6001, 2)] {
            assert_eq!(owner(&map, slot), Some(place(port)), "{slot}");
        }
        assert_ne!(map.joined(), before);
        map.give(6000, 6000, Some(place(2)));
        assert_eq!(map.joined(), before);
        map.give(0, 16383, Some(place(4)));
        assert_eq!((owner(&map, 0), owner(&map, 16383), map.primaries().len()), (Some(place(4)), Some(place(4)), 1));
    }

    #[test]
    fn a_hole_in_the_map_is_seen_and_junk_is_no_map() {
        let range =
            |first, last| Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(vec![bulk("10.0.0.1"), Value::Int(1)])]);
        let map = SlotMap::read(Value::Array(vec![range(0, 99), range(101, 16383)]), &place(7)).unwrap();
        assert!(!map.is_whole() && map.owner(100).is_none() && map.owner(99).is_some() && map.owner(101).is_some());
        assert!(!SlotMap::read(Value::Array(vec![]), &place(7)).unwrap().is_whole());
        for junk in [Value::Nil, Value::Array(vec![Value::Int(1)]), Value::Array(vec![range(0, 16384)]), Value::Array(vec![range(9, 8)])] {
            assert_eq!(SlotMap::read(junk, &place(7)), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_map_says_what_it_was_told_last(gifts in proptest::collection::vec((0..SLOTS, 0..SLOTS, 1..5u16), 1..20)) {
            let mut map = SlotMap { pieces: BTreeMap::from([(SLOTS - 1, None)]) };
            let mut expected = vec![None; usize::from(SLOTS)];
            for (one, other, port) in gifts {
                let (first, last) = (one.min(other), one.max(other));
                map.give(first, last, Some(place(port)));
                expected[usize::from(first)..=usize::from(last)].fill(Some(place(port)));
            }
            for slot in 0..SLOTS {
                proptest::prop_assert_eq!(map.owner(slot), expected[usize::from(slot)].as_ref());
            }
            proptest::prop_assert_eq!(&map.joined().primaries(), &map.primaries());
        }
    }
}
