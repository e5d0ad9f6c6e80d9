//! One connection for everybody, made when it is first needed and made again when it broke.
//!
//! There is no growing pause between attempts: whoever calls while the connection is down starts an attempt or waits for the one under way.
//! Only right after a failure are calls turned away at once, so that a storm of them does not become a storm of connections.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::redis::aio::{ConnectionLike as _, MultiplexedConnection};
use ::redis::{ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::connect::{Driver, Opened, explain, outage};
use super::primary::Source;
use super::url::Place;
use crate::clock::SharedClock;
use crate::fault::Outage;

/// How long after a failed attempt nobody starts another.
const PAUSE: Duration = Duration::from_millis(100);

/// What is said of a server that is asked no more.
const REPLACED: &str = "is not a primary any more";

/// Calls on the shared connection.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

/// What every link of a store has in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) control: Handle,
    pub(super) clock: SharedClock,
    /// How long calls that are under way may go on when their connection is given up.
    pub(super) response_timeout: Duration,
}

struct Shared {
    source: Source,
    common: Common,
    state: Mutex<State>,
}

struct State {
    /// Which attempt the phase belongs to.
    attempt: u64,
    phase: Phase,
    /// Nobody is to be sent there any more.
    over: bool,
}

enum Phase {
    Down(Option<Failure>),
    Connecting(watch::Receiver<Option<Result<Live, Outage>>>),
    Up(Live),
}

struct Failure {
    at: Instant,
    outage: Outage,
}

#[derive(Clone)]
struct Live {
    attempt: u64,
    place: Place,
    connection: MultiplexedConnection,
    end: Arc<End>,
}

/// How a connection is told to end.
#[derive(Default)]
struct End {
    /// Nobody new is to use it; calls that are under way get the time they were promised.
    retired: Notify,
    /// Nobody is to believe what it says.
    cut: Notify,
}

/// What a server said, and who it was.
pub(super) struct Answer {
    /// One for each command; errors of single commands among them.
    pub(super) values: Vec<Value>,
    pub(super) place: Place,
    /// Which of this link's connections it was.
    pub(super) connection: u64,
}

/// Why there is no answer.
pub(super) enum Failed {
    /// Nothing was sent: no server was there.
    Unsent(Outage),
    /// It was sent, and perhaps done.
    Lost(Outage),
}

impl Link {
    pub(super) fn new(source: Source, common: Common) -> Self {
        let state = Mutex::new(State { attempt: 0, phase: Phase::Down(None), over: false });
        Self(Arc::new(Shared { source, common, state }))
    }

    /// Sends these commands as one piece; the first `skip` answers are left out. What has no answer by `end`, connecting included, is lost.
    pub(super) async fn send(&self, commands: &Pipeline, skip: usize, end: Instant) -> Result<Answer, Failed> {
        let shared = &self.0;
        let left = || end.saturating_duration_since(shared.common.clock.instant());
        let silent = || format!("no answer within {:?}", shared.common.response_timeout);
        let live = match timeout(left(), connection(shared)).await {
            Ok(live) => live.map_err(Failed::Unsent)?,
            Err(_elapsed) => return Err(Failed::Unsent(shared.source.outage(silent()))),
        };
        let mut connection = live.connection.clone();
        let answered = timeout(left(), connection.req_packed_commands(commands, skip, commands.len() - skip)).await;
        let error = match answered {
            Ok(Ok(values)) => {
                let of_no_use = |value: &Value| matches!(value, Value::ServerError(error) if is_lost(&error.clone().into()));
                match values.iter().find(|value| of_no_use(value)) {
                    Some(Value::ServerError(error)) => error.clone().into(),
                    Some(_) | None => return Ok(Answer { values, place: live.place, connection: live.attempt }),
                }
            }
            Ok(Err(error)) => error,
            Err(_elapsed) => {
                // Perhaps only slow, perhaps gone without a word: a new connection finds out.
                shared.retire(&live);
                return Err(Failed::Lost(outage(&live.place, silent())));
            }
        };
        if is_lost(&error) {
            shared.retire(&live);
        }
        Err(Failed::Lost(outage(&live.place, explain(&error))))
    }

    /// Whether there is no connection that leads elsewhere.
    pub(super) fn is_at(&self, place: &Place) -> bool {
        self.elsewhere(place).is_none()
    }

    /// Gives up the connection that there is; which one was the last to be made before this.
    pub(super) fn leave(&self) -> u64 {
        let (live, last) = {
            let state = self.0.lock();
            match &state.phase {
                Phase::Up(live) => (Some(live.clone()), state.attempt),
                Phase::Down(_) => (None, state.attempt),
                Phase::Connecting(_) => (None, state.attempt.saturating_sub(1)),
            }
        };
        if let Some(live) = live {
            self.0.retire(&live);
        }
        last
    }

    /// Gives up a connection that leads elsewhere, with all calls that are under way on it.
    pub(super) fn leave_unless_at(&self, place: &Place) {
        if let Some(live) = self.elsewhere(place) {
            self.0.leave(live.attempt, None);
            live.end.cut.notify_one();
        }
    }

    /// Nobody believes this server any more: what is under way is cut off, and nothing new begins.
    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        state.over = true;
        if let Phase::Up(live) = &state.phase {
            live.end.cut.notify_one();
        }
        state.phase = Phase::Down(None);
    }

    fn elsewhere(&self, place: &Place) -> Option<Live> {
        match &self.0.lock().phase {
            Phase::Up(live) if live.place != *place => Some(live.clone()),
            Phase::Up(_) | Phase::Connecting(_) | Phase::Down(_) => None,
        }
    }
}

/// Whether the connection is of no more use: broken, or to a server that became a replica or wants another password.
fn is_lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || matches!(error.code(), Some("NOAUTH" | "MASTERDOWN"))
}

async fn connection(shared: &Arc<Shared>) -> Result<Live, Outage> {
    let (attempt, mut result) = {
        let mut state = shared.lock();
        match &state.phase {
            _ if state.over => return Err(shared.source.outage(REPLACED)),
            Phase::Up(live) => return Ok(live.clone()),
            Phase::Connecting(result) => (state.attempt, result.clone()),
            Phase::Down(Some(failure)) if shared.common.clock.instant().saturating_duration_since(failure.at) < PAUSE => {
                return Err(failure.outage.clone());
            }
            Phase::Down(_) => {
                let (done, result) = watch::channel(None);
                state.attempt += 1;
                state.phase = Phase::Connecting(result.clone());
                drop(shared.common.control.spawn(connect_and_drive(Arc::clone(shared), state.attempt, done)));
                (state.attempt, result)
            }
        }
    };
    let done = match result.wait_for(Option::is_some).await {
        Ok(done) => done.clone(),
        Err(_dropped) => None,
    };
    done.unwrap_or_else(|| {
        // The attempt broke off without a word; the next call starts another.
        shared.leave(attempt, None);
        Err(shared.source.outage("connecting broke off"))
    })
}

/// Connects, lets everybody who waits know, and drives the connection for as long as it lives.
async fn connect_and_drive(shared: Arc<Shared>, attempt: u64, done: watch::Sender<Option<Result<Live, Outage>>>) {
    let opened = shared.source.connect(None).await;
    let opened = opened.and_then(|opened| match shared.lock().over {
        true => Err(outage(&opened.place, REPLACED)),
        false => Ok(opened),
    });
    let Opened { place, connection, driver } = match opened {
        Ok(opened) => opened,
        Err(outage) => {
            shared.leave(attempt, Some(outage.clone()));
            done.send_replace(Some(Err(outage)));
            return;
        }
    };
    let live = Live { attempt, place, connection, end: Arc::default() };
    let end = Arc::clone(&live.end);
    // One that is over meanwhile is seen to be so by whoever calls next.
    shared.lock().phase = Phase::Up(live.clone());
    done.send_replace(Some(Ok(live)));
    drop(done);
    let (grace, weak) = (shared.common.response_timeout, Arc::downgrade(&shared));
    // From here on the store may be dropped: its last connection handle goes with it, and the driver ends.
    drop(shared);
    drive(driver, &end, grace).await;
    if let Some(shared) = weak.upgrade() {
        shared.leave(attempt, None);
    }
}

async fn drive(mut driver: Driver, end: &End, grace: Duration) {
    tokio::select! {
        () = &mut driver => return,
        () = end.cut.notified() => return,
        () = end.retired.notified() => {}
    }
    tokio::select! {
        _ = timeout(grace, driver) => {}
        () = end.cut.notified() => {}
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No longer up or connecting by this attempt, for this reason.
    fn leave(&self, attempt: u64, outage: Option<Outage>) {
        let mut state = self.lock();
        if state.attempt == attempt {
            state.phase = Phase::Down(outage.map(|outage| Failure { at: self.common.clock.instant(), outage }));
        }
    }

    fn retire(&self, live: &Live) {
        self.leave(live.attempt, None);
        live.end.retired.notify_one();
    }
}
