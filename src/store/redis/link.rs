//! One connection for everybody, made when it is first needed and made again when it broke.
//!
//! There is no growing pause between attempts: whoever calls while the connection is down starts an attempt or waits for the one under way.
//! Only right after a failure are calls turned away at once, so that a storm of them does not become a storm of connections.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::connect::{Driver, Target, explain};
use crate::clock::SharedClock;
use crate::fault::Outage;

/// How long after a failed attempt nobody starts another.
const PAUSE: Duration = Duration::from_millis(100);

/// Calls on the shared connection.
pub(super) struct Link(Arc<Shared>);

struct Shared {
    target: Target,
    control: Handle,
    clock: SharedClock,
    connect_timeout: Duration,
    response_timeout: Duration,
    state: Mutex<State>,
}

struct State {
    /// Which attempt the phase belongs to.
    attempt: u64,
    phase: Phase,
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
    connection: MultiplexedConnection,
    /// Said when nobody new is to use it.
    retired: Arc<Notify>,
}

impl Link {
    pub(super) fn new(target: Target, control: Handle, clock: SharedClock, connect_timeout: Duration, response_timeout: Duration) -> Self {
        let state = Mutex::new(State { attempt: 0, phase: Phase::Down(None) });
        Self(Arc::new(Shared { target, control, clock, connect_timeout, response_timeout, state }))
    }

    /// Runs `work` on the connection. What takes longer than `response_timeout`, connecting included, is an outage, and so is everything that
    /// Redis refuses.
    pub(super) async fn call<T, F>(&self, work: impl FnOnce(MultiplexedConnection) -> F) -> Result<T, Outage>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let shared = &self.0;
        let mut used = None;
        let called = timeout(shared.response_timeout, async {
            let live = connection(shared).await?;
            let connection = live.connection.clone();
            used = Some(live);
            Ok(work(connection).await)
        });
        match called.await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => {
                if let Some(live) = used.filter(|_| is_lost(&error)) {
                    shared.retire(&live);
                }
                Err(shared.target.outage(explain(&error)))
            }
            Ok(Err(outage)) => Err(outage),
            Err(_elapsed) => {
                // Perhaps only slow, perhaps gone without a word: a new connection finds out.
                if let Some(live) = used {
                    shared.retire(&live);
                }
                Err(shared.target.outage(format_args!("no answer within {:?}", shared.response_timeout)))
            }
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
            Phase::Up(live) => return Ok(live.clone()),
            Phase::Connecting(result) => (state.attempt, result.clone()),
            Phase::Down(Some(failure)) if shared.clock.instant().saturating_duration_since(failure.at) < PAUSE => {
                return Err(failure.outage.clone());
            }
            Phase::Down(_) => {
                let (done, result) = watch::channel(None);
                state.attempt += 1;
                state.phase = Phase::Connecting(result.clone());
                drop(shared.control.spawn(connect_and_drive(Arc::clone(shared), state.attempt, done)));
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
        Err(shared.target.outage("connecting broke off"))
    })
}

/// Connects, lets everybody who waits know, and drives the connection for as long as it lives.
async fn connect_and_drive(shared: Arc<Shared>, attempt: u64, done: watch::Sender<Option<Result<Live, Outage>>>) {
    let connected = timeout(shared.connect_timeout, shared.target.connect()).await;
    let connected =
        connected.unwrap_or_else(|_elapsed| Err(shared.target.outage(format_args!("no connection within {:?}", shared.connect_timeout))));
    let (connection, driver) = match connected {
        Ok(connected) => connected,
        Err(outage) => {
            shared.leave(attempt, Some(outage.clone()));
            done.send_replace(Some(Err(outage)));
            return;
        }
    };
    let live = Live { attempt, connection, retired: Arc::new(Notify::new()) };
    let retired = Arc::clone(&live.retired);
    shared.lock().phase = Phase::Up(live.clone());
    done.send_replace(Some(Ok(live)));
    drop(done);
    let (grace, weak) = (shared.response_timeout, Arc::downgrade(&shared));
    // From here on the store may be dropped: its last connection handle goes with it, and the driver ends.
    drop(shared);
    drive(driver, &retired, grace).await;
    if let Some(shared) = weak.upgrade() {
        shared.leave(attempt, None);
    }
}

/// Calls that are under way when the connection is retired get the time they were promised.
async fn drive(mut driver: Driver, retired: &Notify, grace: Duration) {
    tokio::select! {
        () = &mut driver => {}
        () = retired.notified() => drop(timeout(grace, driver).await),
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
            state.phase = Phase::Down(outage.map(|outage| Failure { at: self.clock.instant(), outage }));
        }
    }

    fn retire(&self, live: &Live) {
        self.leave(live.attempt, None);
        live.retired.notify_one();
    }
}
