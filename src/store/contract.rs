//! The contract of [`SessionStore`] as a suite that every store passes: [`run`] panics at the first row that does not hold.
//!
//! It is part of the library, so that the integration tests can run it against a real Redis.

#![expect(clippy::panic, reason = "a suite of assertions; nothing but tests calls it")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Admission, LoginBounds, LoginRecord, RecordId, Replaced, SealedSession, SessionStore, StoredSession};
use crate::clock::{Clock, ManualClock, UnixTime};
use crate::fault::Outage;
use crate::secret::random;

/// By whose time a store's records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// By the gateway's clock, which the suite moves.
    ByClock,
    /// By the server's own: the suite writes records that are over already and waits the two seconds they may last.
    ByServer,
}

/// Runs every row against `store`, which must be empty and use `clock`. Takes a runtime with more than one thread to be worth much.
///
/// # Panics
/// When a row does not hold; the message names it.
pub async fn run(store: Arc<dyn SessionStore>, clock: Arc<ManualClock>, expiry: Expiry) {
    let start = clock.now().minus(clock.ahead());
    let suite = Suite { store, clock, start, expiry };
    suite.it_answers().await;
    suite.a_session_is_what_was_put_and_gone_when_deleted().await;
    suite.a_second_put_replaces_the_first_and_its_index_entries().await;
    suite.a_touch_moves_forward_and_brings_nothing_back().await;
    suite.an_index_entry_finds_a_thousand_sessions_and_forgets_the_deleted().await;
    suite.a_login_record_is_read_often_and_taken_once().await;
    suite.of_fifty_takers_one_wins().await;
    suite.a_value_of_a_megabyte_comes_back_whole().await;
    suite.records_end_with_their_time().await;
    suite.admission_is_bounded_by_address_and_in_all().await;
    suite.of_fifty_flows_at_once_no_more_than_the_bound_are_let_in().await;
    suite.a_session_is_replaced_only_if_it_is_still_what_was_read().await;
    suite.of_fifty_writers_who_read_the_same_one_wins().await;
    suite.a_walk_meets_every_session().await;
    suite.a_lease_has_one_owner_and_ends_by_itself().await;
    suite.a_mark_is_set_once_and_ends_with_its_time().await;
    suite.counts_add_up_until_they_are_forgotten().await;
    suite.a_common_record_is_written_only_over_what_was_read().await;
}

struct Suite {
    store: Arc<dyn SessionStore>,
    clock: Arc<ManualClock>,
    /// When the suite began, before anything was advanced.
    start: UnixTime,
    expiry: Expiry,
}

#[track_caller]
fn answered<T>(row: &str, result: Result<T, Outage>) -> T {
    match result {
        Ok(value) => value,
        Err(outage) => panic!("{row}: {outage}"),
    }
}

#[track_caller]
fn same<T: PartialEq + Debug>(row: &str, found: Result<T, Outage>, expected: &T) {
    let found = answered(row, found);
    assert!(found == *expected, "{row}: found {found:?}, expected {expected:?}");
}

impl Suite {
    /// The suite's time: it stands still but for what the suite advances, so that the same moment named twice is the same.
    fn now(&self) -> UnixTime {
        self.start.plus(self.clock.ahead())
    }

    fn later(&self, seconds: u64) -> UnixTime {
        self.now().plus(Duration::from_secs(seconds))
    }

    fn session(&self, content: &[u8], indexes: &[RecordId]) -> SealedSession {
        SealedSession {
            sealed: content.to_vec(),
            listing: [b"listing of ", content].concat(),
            indexes: indexes.to_vec(),
            last_used: self.now(),
            expires_at: self.later(3600),
        }
    }

    fn read(&self, content: &[u8]) -> Option<StoredSession> {
        Some(StoredSession { sealed: content.to_vec(), last_used: self.now() })
    }

    async fn it_answers(&self) {
        answered("ping", self.store.ping().await);
    }

    async fn a_session_is_what_was_put_and_gone_when_deleted(&self) {
        let (id, index, unknown) = (random(), random(), random());
        let put = self.session(b"\x00sealed\xff", &[index]);
        let read = Some(StoredSession { sealed: put.sealed.clone(), last_used: put.last_used });
        same("nothing before the put", self.store.session(id).await, &None);
        answered("put", self.store.put_session(id, put.clone()).await);
        same("what was put", self.store.session(id).await, &read);
        same("its listing", self.store.listing(id).await, &Some(put.listing));
        same("its index entry", self.store.sessions_under(index).await, &vec![id]);
        same("another one", self.store.session(unknown).await, &None);
        same("another one's listing", self.store.listing(unknown).await, &None);
        same("another index entry", self.store.sessions_under(unknown).await, &vec![]);
        same("deleting another one", self.store.delete_session(unknown).await, &false);
        same("deleting it", self.store.delete_session(id).await, &true);
        same("gone", self.store.session(id).await, &None);
        same("its listing gone", self.store.listing(id).await, &None);
        same("its index entry gone", self.store.sessions_under(index).await, &vec![]);
        same("deleting it again", self.store.delete_session(id).await, &false);
    }

    async fn a_second_put_replaces_the_first_and_its_index_entries(&self) {
        let (id, kept, left, new) = (random(), random(), random(), random());
        answered("first put", self.store.put_session(id, self.session(b"first", &[kept, left])).await);
        let mut second = self.session(b"second", &[kept, new]);
        second.last_used = self.later(50);
        answered("second put", self.store.put_session(id, second).await);
        let read = Some(StoredSession { sealed: b"second".to_vec(), last_used: self.later(50) });
        same("the second", self.store.session(id).await, &read);
        same("its listing", self.store.listing(id).await, &Some(b"listing of second".to_vec()));
        same("an entry of both", self.store.sessions_under(kept).await, &vec![id]);
        same("an entry of the first only", self.store.sessions_under(left).await, &vec![]);
        same("an entry of the second only", self.store.sessions_under(new).await, &vec![id]);
        same("deleted", self.store.delete_session(id).await, &true);
        for index in [kept, left, new] {
            same("no entry is left", self.store.sessions_under(index).await, &vec![]);
        }
        answered("a session without index entries", self.store.put_session(id, self.session(b"third", &[])).await);
        same("the third", self.store.session(id).await, &self.read(b"third"));
        same("deleted", self.store.delete_session(id).await, &true);
    }

    async fn a_touch_moves_forward_and_brings_nothing_back(&self) {
        let id = random();
        let last_used = async |row: &str| answered(row, self.store.session(id).await).map(|session| session.last_used);
        let mut session = self.session(b"x", &[]);
        let at = |seconds: u64| session.expires_at.minus(Duration::from_secs(3600 - seconds));
        let (ten, twenty) = (at(10), at(20));
        session.last_used = ten;
        answered("a touch of nothing", self.store.touch_session(id, twenty).await);
        same("is nothing", self.store.session(id).await, &None);
        answered("put", self.store.put_session(id, session).await);
        answered("touch", self.store.touch_session(id, twenty).await);
        assert_eq!(last_used("touched").await, Some(twenty), "a touch is read");
        answered("a late touch", self.store.touch_session(id, ten).await);
        assert_eq!(last_used("touched late").await, Some(twenty), "a touch moves nothing back");
        same("deleted", self.store.delete_session(id).await, &true);
        answered("a touch of what is gone", self.store.touch_session(id, twenty).await);
        same("brings nothing back", self.store.session(id).await, &None);
        same("nor its listing", self.store.listing(id).await, &None);
    }

    async fn an_index_entry_finds_a_thousand_sessions_and_forgets_the_deleted(&self) {
        let index = random();
        let ids: Vec<RecordId> = (0..1000).map(|_| random()).collect();
        let mut putting = JoinSet::new();
        for id in ids.clone() {
            let (store, session) = (Arc::clone(&self.store), self.session(b"x", &[index, id]));
            putting.spawn(async move { store.put_session(id, session).await });
        }
        for put in putting.join_all().await {
            answered("put", put);
        }
        let found = answered("look-up", self.store.sessions_under(index).await);
        assert_eq!(found.len(), ids.len(), "each session once");
        assert!(found.into_iter().collect::<BTreeSet<_>>() == ids.iter().copied().collect(), "each of the thousand sessions");
        let (deleted, kept) = ids.split_at(990);
        for id in deleted {
            same("deleted", self.store.delete_session(*id).await, &true);
        }
        let found = answered("look-up", self.store.sessions_under(index).await);
        assert!(found.into_iter().collect::<BTreeSet<_>>() == kept.iter().copied().collect(), "the ten that are left");
        for id in kept {
            same("its other entry", self.store.sessions_under(*id).await, &vec![*id]);
            same("deleted", self.store.delete_session(*id).await, &true);
        }
        same("nobody is left", self.store.sessions_under(index).await, &vec![]);
    }

    async fn a_login_record_is_read_often_and_taken_once(&self) {
        use LoginRecord::{Attempt, Flow};
        let id = random();
        same("nothing yet", self.store.login(Flow, id).await, &None);
        same("nothing to take", self.store.take_login(Flow, id).await, &None);
        answered("put", self.store.put_login(Flow, id, b"flow".to_vec(), self.later(600)).await);
        answered("put of the other kind", self.store.put_login(Attempt, id, b"attempt".to_vec(), self.later(600)).await);
        for _ in 0..3 {
            same("read", self.store.login(Flow, id).await, &Some(b"flow".to_vec()));
        }
        answered("put over it", self.store.put_login(Flow, id, b"again".to_vec(), self.later(900)).await);
        same("the later one", self.store.login(Flow, id).await, &Some(b"again".to_vec()));
        same("taken", self.store.take_login(Flow, id).await, &Some(b"again".to_vec()));
        same("gone", self.store.login(Flow, id).await, &None);
        same("not taken twice", self.store.take_login(Flow, id).await, &None);
        same("the other kind is its own", self.store.take_login(Attempt, id).await, &Some(b"attempt".to_vec()));
    }

    async fn of_fifty_takers_one_wins(&self) {
        for _ in 0..10 {
            let id = random();
            answered("put", self.store.put_login(LoginRecord::Attempt, id, b"once".to_vec(), self.later(600)).await);
            let mut takers = JoinSet::new();
            for _ in 0..50 {
                let store = Arc::clone(&self.store);
                takers.spawn(async move { store.take_login(LoginRecord::Attempt, id).await });
            }
            let taken = takers.join_all().await.into_iter().filter_map(|taken| answered("take", taken));
            assert_eq!(taken.collect::<Vec<_>>(), [b"once".to_vec()], "one winner");
        }
    }

    async fn a_value_of_a_megabyte_comes_back_whole(&self) {
        let id = random();
        let big: Vec<u8> = random::<1024>().repeat(1024);
        answered("put", self.store.put_session(id, self.session(&big, &[])).await);
        let found = answered("read", self.store.session(id).await).map(|session| session.sealed);
        assert!(found.as_ref() == Some(&big), "the megabyte is whole");
        same("deleted", self.store.delete_session(id).await, &true);
        answered("put", self.store.put_login(LoginRecord::Flow, id, big.clone(), self.later(600)).await);
        assert!(answered("take", self.store.take_login(LoginRecord::Flow, id).await) == Some(big), "the megabyte is whole");
    }

    async fn records_end_with_their_time(&self) {
        let (id, other, index) = (random(), random(), random());
        let ends = match self.expiry {
            Expiry::ByClock => self.later(1000),
            Expiry::ByServer => self.now().minus(Duration::from_secs(600)),
        };
        let session = SealedSession { expires_at: ends, ..self.session(b"x", &[index]) };
        answered("put", self.store.put_session(id, session.clone()).await);
        answered("put", self.store.put_session(other, session).await);
        for kind in [LoginRecord::Flow, LoginRecord::Attempt] {
            answered("put", self.store.put_login(kind, id, b"x".to_vec(), ends).await);
            answered("put", self.store.put_login(kind, other, b"x".to_vec(), ends).await);
        }
        match self.expiry {
            Expiry::ByClock => {
                // The store's clock goes on while the suite's stands: the steps are wide, so that a slow machine is no difference.
                self.clock.advance(Duration::from_secs(500));
                assert!(answered("read", self.store.session(id).await).is_some(), "there before its time");
                same("there before its time", self.store.login(LoginRecord::Flow, id).await, &Some(b"x".to_vec()));
                self.clock.advance(Duration::from_secs(500));
            }
            Expiry::ByServer => tokio::time::sleep(Duration::from_secs(2)).await,
        }
        same("a session's end", self.store.session(id).await, &None);
        same("a listing's end", self.store.listing(id).await, &None);
        answered("a touch after the end", self.store.touch_session(id, self.later(0)).await);
        same("brings nothing back", self.store.session(id).await, &None);
        for kind in [LoginRecord::Flow, LoginRecord::Attempt] {
            same("a login record's end", self.store.login(kind, id).await, &None);
            same("nothing left to take", self.store.take_login(kind, id).await, &None);
        }
        same("nothing left to delete", self.store.delete_session(other).await, &false);
        answered("a new one in its place", self.store.put_session(id, self.session(b"new", &[index])).await);
        same("is there", self.store.session(id).await, &self.read(b"new"));
        assert!(answered("look-up", self.store.sessions_under(index).await).contains(&id), "and is found");
        same("deleted", self.store.delete_session(id).await, &true);
    }

    async fn admission_is_bounded_by_address_and_in_all(&self) {
        use Admission::{Admitted, TooMany, TooManyOfAddress};
        let bounds = LoginBounds { per_address: 2, total: 5 };
        let addresses: [RecordId; 3] = [random(), random(), random()];
        let [one, two, three] = addresses;
        let flows: [RecordId; 8] = [(); 8].map(|()| random());
        let [a, b, c, d, e, f, g, h] = flows;
        let (until, later) = (self.later(100), self.later(200));
        let admit = |flow, address, until| self.store.admit_login(flow, address, until, bounds);
        same("the first of an address", admit(a, one, until).await, &Admitted);
        same("the second", admit(b, one, until).await, &Admitted);
        same("the third", admit(c, one, until).await, &TooManyOfAddress);
        same("the first again", admit(a, one, until).await, &Admitted);
        same("the third is still out", admit(c, one, until).await, &TooManyOfAddress);
        same("another address", admit(d, two, until).await, &Admitted);
        answered("out with the second", self.store.release_login(b, one).await);
        answered("out with it again", self.store.release_login(b, one).await);
        answered("out with a stranger", self.store.release_login(h, one).await);
        same("room for the third", admit(c, one, later).await, &Admitted);
        same("and for no more", admit(b, one, until).await, &TooManyOfAddress);
        same("the fourth in all", admit(e, two, until).await, &Admitted);
        same("the fifth in all", admit(f, three, later).await, &Admitted);
        same("the sixth in all", admit(g, three, until).await, &TooMany);
        same("one of the five again, for longer", admit(a, one, later).await, &Admitted);
        // Counts follow the gateway's clock in every store. What was refused was not written: it does not count now either.
        self.clock.advance(Duration::from_secs(100));
        same("two are over, two others are in", admit(g, two, later).await, &Admitted);
        same("the second of them", admit(d, two, later).await, &Admitted);
        same("the address that lives on is full", admit(b, one, later).await, &TooManyOfAddress);
        same("and so is the whole", admit(h, three, later).await, &TooMany);
        self.clock.advance(Duration::from_secs(100));
        for flow in [a, b, c, d, e] {
            same("all are over", admit(flow, flow, self.later(10)).await, &Admitted);
            answered("out", self.store.release_login(flow, flow).await);
        }
        same("an empty house", admit(f, one, self.later(10)).await, &Admitted);
        answered("out", self.store.release_login(f, one).await);
    }

    async fn of_fifty_flows_at_once_no_more_than_the_bound_are_let_in(&self) {
        let address = random();
        let bounds = LoginBounds { per_address: 7, total: 1000 };
        let until = self.later(100);
        let flows: Vec<RecordId> = (0..50).map(|_| random()).collect();
        let mut coming = JoinSet::new();
        for flow in flows.clone() {
            let store = Arc::clone(&self.store);
            coming.spawn(async move { store.admit_login(flow, address, until, bounds).await });
        }
        let admissions = coming.join_all().await.into_iter().map(|admission| answered("admit", admission));
        assert_eq!(admissions.filter(|admission| *admission == Admission::Admitted).count(), 7, "as many as the bound");
        for flow in flows {
            answered("out", self.store.release_login(flow, address).await);
        }
    }

    async fn a_session_is_replaced_only_if_it_is_still_what_was_read(&self) {
        let (id, index) = (random(), random());
        let replace = |before: &[u8], sealed: &[u8]| self.store.replace_session(id, before.to_vec(), sealed.to_vec());
        same("nothing to replace", replace(b"one", b"two").await, &Replaced::Gone);
        same("and nothing came of it", self.store.session(id).await, &None);
        answered("put", self.store.put_session(id, self.session(b"one", &[index])).await);
        same("another was expected", replace(b"zero", b"two").await, &Replaced::Changed);
        same("it is as it was", self.store.session(id).await, &self.read(b"one"));
        same("as expected", replace(b"one", b"two\x00\xff").await, &Replaced::Replaced);
        same("it is as it was wanted", self.store.session(id).await, &self.read(b"two\x00\xff"));
        same("its listing stays", self.store.listing(id).await, &Some(b"listing of one".to_vec()));
        same("its index entry stays", self.store.sessions_under(index).await, &vec![id]);
        same("not twice", replace(b"one", b"three").await, &Replaced::Changed);
        same("deleted", self.store.delete_session(id).await, &true);
        same("what is gone stays gone", replace(b"two\x00\xff", b"three").await, &Replaced::Gone);
        same("still gone", self.store.session(id).await, &None);
        same("its index entry gone", self.store.sessions_under(index).await, &vec![]);
    }

    async fn of_fifty_writers_who_read_the_same_one_wins(&self) {
        let id = random();
        answered("put", self.store.put_session(id, self.session(b"before", &[])).await);
        let mut writers = JoinSet::new();
        for number in 0..50_u8 {
            let store = Arc::clone(&self.store);
            writers.spawn(async move { (number, store.replace_session(id, b"before".to_vec(), vec![number]).await) });
        }
        let replaced = writers.join_all().await.into_iter().filter(|(_, replaced)| {
            let replaced = answered("replace", replaced.clone());
            assert_ne!(replaced, Replaced::Gone, "it is there all the while");
            replaced == Replaced::Replaced
        });
        let winners: Vec<u8> = replaced.map(|(number, _)| number).collect();
        assert_eq!(winners.len(), 1, "one winner");
        same("the winner's", self.store.session(id).await.map(|session| session.map(|session| session.sealed)), &Some(winners));
        same("deleted", self.store.delete_session(id).await, &true);
    }

    async fn a_walk_meets_every_session(&self) {
        let ids: BTreeSet<RecordId> = (0..700).map(|_| random()).collect();
        for id in &ids {
            answered("put", self.store.put_session(*id, self.session(b"x", &[])).await);
            answered("put", self.store.put_login(LoginRecord::Flow, *id, b"x".to_vec(), self.later(600)).await);
        }
        let (mut found, mut from) = (BTreeSet::new(), None);
        loop {
            let (part, next) = answered("walk", self.store.all_sessions(from).await);
            found.extend(part);
            match next {
                Some(_) => from = next,
                None => break,
            }
        }
        assert!(found.is_superset(&ids), "every session comes");
        assert!(found.len() < ids.len() + 20, "and hardly anything else: {}", found.len());
        for id in &ids {
            same("deleted", self.store.delete_session(*id).await, &true);
            answered("taken", self.store.take_login(LoginRecord::Flow, *id).await);
        }
    }

    async fn a_lease_has_one_owner_and_ends_by_itself(&self) {
        let (name, other_name, one, other) = (random(), random(), random(), random());
        let (long, short) = (Duration::from_secs(60), Duration::from_millis(50));
        same("free", self.store.lease(name, one, long).await, &true);
        same("held", self.store.lease(name, other, long).await, &false);
        same("prolonged", self.store.lease(name, one, long).await, &true);
        same("another name", self.store.lease(other_name, other, long).await, &true);
        answered("not the other's to give back", self.store.release_lease(name, other).await);
        same("still held", self.store.lease(name, other, long).await, &false);
        answered("given back", self.store.release_lease(name, one).await);
        same("free again", self.store.lease(name, other, short).await, &true);
        tokio::time::sleep(Duration::from_millis(200)).await;
        same("over by itself", self.store.lease(name, one, long).await, &true);
        answered("too late", self.store.release_lease(name, other).await);
        same("it is the next one's", self.store.lease(name, other, long).await, &false);
        answered("given back", self.store.release_lease(name, one).await);
        answered("given back", self.store.release_lease(other_name, other).await);
        let mut takers = JoinSet::new();
        for _ in 0..50 {
            let store = Arc::clone(&self.store);
            takers.spawn(async move { store.lease(name, random(), long).await });
        }
        let taken = takers.join_all().await.into_iter().filter(|taken| answered("lease", taken.clone())).count();
        assert_eq!(taken, 1, "one owner");
    }

    async fn a_mark_is_set_once_and_ends_with_its_time(&self) {
        let (mark, other) = (random(), random());
        same("not there", self.store.remembered(mark).await, &false);
        same("set", self.store.remember(mark, self.later(1000)).await, &true);
        same("there", self.store.remembered(mark).await, &true);
        same("not set twice", self.store.remember(mark, self.later(2000)).await, &false);
        same("another", self.store.remembered(other).await, &false);
        let mut setters = JoinSet::new();
        for _ in 0..50 {
            let (store, until) = (Arc::clone(&self.store), self.later(600));
            setters.spawn(async move { store.remember(other, until).await });
        }
        assert_eq!(setters.join_all().await.into_iter().filter(|set| answered("set", set.clone())).count(), 1, "one was first");
        let short = random();
        match self.expiry {
            Expiry::ByClock => {
                same("set", self.store.remember(short, self.later(1000)).await, &true);
                self.clock.advance(Duration::from_secs(1000));
            }
            Expiry::ByServer => {
                same("set", self.store.remember(short, self.now().minus(Duration::from_secs(600))).await, &true);
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
        same("over", self.store.remembered(short).await, &false);
        same("and may be set again", self.store.remember(short, self.later(1000)).await, &true);
    }

    async fn counts_add_up_until_they_are_forgotten(&self) {
        let (name, other, short) = (random(), random(), random());
        let window = Duration::from_secs(60);
        same("none", self.store.counted(name).await, &0);
        for expected in 1..=3 {
            same("one more", self.store.count(name, window).await, &expected);
        }
        same("so many", self.store.counted(name).await, &3);
        same("another", self.store.counted(other).await, &0);
        answered("forgotten", self.store.forget_count(name).await);
        same("none", self.store.counted(name).await, &0);
        same("from the beginning", self.store.count(name, window).await, &1);
        same("a short one", self.store.count(short, Duration::from_millis(50)).await, &1);
        tokio::time::sleep(Duration::from_millis(200)).await;
        same("over", self.store.counted(short).await, &0);
        same("from the beginning", self.store.count(short, window).await, &1);
    }

    async fn a_common_record_is_written_only_over_what_was_read(&self) {
        let (name, other) = (random(), random());
        let until = self.later(1000);
        let replace =
            |before: Option<&[u8]>, sealed: &[u8]| self.store.replace_common(name, before.map(<[u8]>::to_vec), sealed.to_vec(), until);
        same("not there", self.store.common(name).await, &None);
        same("another was expected", replace(Some(b"one"), b"two").await, &false);
        same("not even an empty one", replace(Some(b""), b"two").await, &false);
        same("still not there", self.store.common(name).await, &None);
        same("none was expected", replace(None, b"one\x00\xff").await, &true);
        same("it is there", self.store.common(name).await, &Some(b"one\x00\xff".to_vec()));
        same("none was expected, again", replace(None, b"two").await, &false);
        same("another was expected", replace(Some(b"one"), b"two").await, &false);
        same("as expected", replace(Some(b"one\x00\xff"), b"two").await, &true);
        same("not twice", replace(Some(b"one\x00\xff"), b"three").await, &false);
        same("the last that was written", self.store.common(name).await, &Some(b"two".to_vec()));
        let mut writers = JoinSet::new();
        for number in 0..50_u8 {
            let store = Arc::clone(&self.store);
            writers.spawn(async move { (number, store.replace_common(other, None, vec![number], until).await) });
        }
        let winners = writers.join_all().await.into_iter().filter(|(_, written)| answered("begin", written.clone()));
        let winners: Vec<u8> = winners.map(|(number, _)| number).collect();
        assert_eq!(winners.len(), 1, "one winner");
        same("the winner's", self.store.common(other).await, &Some(winners));
        // What was written last has its own end, later or earlier than before.
        let (long, short) = (random(), random());
        let begin = |name, until| self.store.replace_common(name, None, b"one".to_vec(), until);
        let over = match self.expiry {
            Expiry::ByClock => self.later(1000),
            Expiry::ByServer => self.now().minus(Duration::from_secs(600)),
        };
        same("begun", begin(long, over).await, &true);
        same("prolonged", self.store.replace_common(long, Some(b"one".to_vec()), b"two".to_vec(), self.later(5000)).await, &true);
        same("begun", begin(short, self.later(5000)).await, &true);
        same("shortened", self.store.replace_common(short, Some(b"one".to_vec()), b"two".to_vec(), over).await, &true);
        match self.expiry {
            Expiry::ByClock => self.clock.advance(Duration::from_secs(1000)),
            Expiry::ByServer => tokio::time::sleep(Duration::from_secs(2)).await,
        }
        same("there", self.store.common(long).await, &Some(b"two".to_vec()));
        same("over", self.store.common(short).await, &None);
        same("not over what is gone", self.store.replace_common(short, Some(b"two".to_vec()), b"x".to_vec(), until).await, &false);
        same("a new one in its place", begin(short, self.later(5000)).await, &true);
    }
}
