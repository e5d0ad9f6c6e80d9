//! The threads that carry requests: one single-threaded runtime each, and nothing of a request ever leaves the one it came to.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc as startup};
use std::task::{Context, Waker};
use std::{io, thread};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::spawn_local;

use super::BoxError;
use super::connection::{Builders, ConnectionInfo, serve};
use super::drain::{Drain, Stage};
use super::limits::ConnectionLimits;
use super::proxy_protocol::ProxyPeers;
use super::request_body::RequestBody;
use super::socket::Carrier;
use crate::clock::SharedClock;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Open;

/// What all connections share.
#[derive(Clone)]
pub struct ServerSettings {
    /// Bounds on strangers.
    pub limits: ConnectionLimits,
    /// When to stop.
    pub drain: Drain,
    /// Where connections and panics are counted.
    pub metrics: Arc<Metrics>,
    /// For the times of connections.
    pub clock: SharedClock,
}

/// How one core answers. Made on the core's own thread, so that it may hold what never leaves it.
pub struct CoreService<S, P> {
    /// Answers a request: `Fn(Request<RequestBody>, Rc<ConnectionInfo>) -> impl Future<Output = Response<B>>`.
    pub serve: S,
    /// Tells of a request whose answer panicked, and gives its 500 page: `Fn(&ConnectionInfo) -> Response<B>`. The panic is counted, the
    /// request is not.
    pub on_panic: P,
}

/// The threads. A clone of the handle in listeners hands them connections.
pub struct Cores {
    cores: Vec<CoreHandle>,
    places: Arc<Semaphore>,
    /// How many places there are, taken or not.
    most: Mutex<usize>,
    next: AtomicUsize,
    settings: ServerSettings,
    /// Closed when the last thread has ended.
    ended: Mutex<mpsc::Receiver<Infallible>>,
}

struct CoreHandle {
    load: Arc<Load>,
    handed: mpsc::UnboundedSender<Handed>,
    questions: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

/// What is handed to a core from outside.
enum Handed {
    Connection(Box<Accepted>),
    /// For connections that come from now on.
    Limits(ConnectionLimits),
}

/// How many connections a core has, those on their way to it included.
#[derive(Default)]
struct Load {
    open: AtomicUsize,
    emptied: Notify,
}

/// A connection's place: among all that may be open, on its core, in the metrics. Free again when dropped.
pub(super) struct Place {
    load: Arc<Load>,
    _permit: OwnedSemaphorePermit,
    _open: Open,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.load.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.load.emptied.notify_one();
        }
    }
}

/// A socket on its way to a core.
pub(super) struct Accepted {
    pub(super) arrival: Arrival,
    pub(super) place: Place,
}

/// What came in by a listener.
pub(super) struct Arrival {
    pub(super) socket: Carrier,
    pub(super) info: ConnectionInfo,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    /// Where a PROXY header comes first.
    pub(super) proxy: Option<ProxyPeers>,
}

/// What the connections of one core share that came under the same limits.
pub(super) struct Core<S, P> {
    pub(super) service: Rc<CoreService<S, P>>,
    pub(super) builders: Builders,
    pub(super) local: Rc<Local>,
}

/// The part of it that does not depend on the service. The settings are a copy: no core counts references where another does.
pub(super) struct Local {
    pub(super) settings: ServerSettings,
    pub(super) drain: Rc<LocalDrain>,
}

impl Cores {
    /// Starts `count` threads, at least one. `make_service` is called once on each, within its runtime, with the core's number.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start<M, S, P, F, B>(count: usize, settings: ServerSettings, make_service: M) -> io::Result<Arc<Self>>
    where
        M: Fn(usize) -> CoreService<S, P> + Send + Clone + 'static,
        S: Fn(Request<RequestBody>, Rc<ConnectionInfo>) -> F + 'static,
        P: Fn(&ConnectionInfo) -> Response<B> + 'static,
        F: Future<Output = Response<B>> + 'static,
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let (alive, ended) = mpsc::channel(1);
        let start = |number: usize| {
            let (handed, arriving) = mpsc::unbounded_channel();
            let (questions, asked) = mpsc::unbounded_channel();
            let load = Arc::<Load>::default();
            let (ready, started) = startup::sync_channel(1);
            let (make_service, alive) = (make_service.clone(), alive.clone());
            let (settings, core_load) = (settings.clone(), Arc::clone(&load));
            thread::Builder::new().name(format!("doorward-core-{number}")).spawn(move || {
                // Dropped in the reverse order: what serves, and the store it holds, is gone when the end is told.
                let _alive = alive;
                let make_service = make_service;
                match runtime(number) {
                    Ok(runtime) => runtime.block_on(async {
                        let core = Core::of(Rc::new(make_service(number)), settings, Rc::default());
                        let _ = ready.send(Ok(()));
                        drop(spawn_local(answer_questions(asked)));
                        run(core, arriving, &core_load).await;
                    }),
                    Err(error) => drop(ready.send(Err(error))),
                }
            })?;
            // A thread that says nothing has panicked while it made its service.
            started.recv().unwrap_or_else(|_| Err(io::Error::other(format!("core {number} did not start"))))?;
            Ok(CoreHandle { load, handed, questions })
        };
        let cores = (0..count.max(1)).map(start).collect::<io::Result<_>>()?;
        let most = most_places(&settings.limits);
        let (places, most) = (Arc::new(Semaphore::new(most)), Mutex::new(most));
        Ok(Arc::new(Self { cores, places, most, next: AtomicUsize::new(0), settings, ended: Mutex::new(ended) }))
    }

    /// Connections that come from now on have these limits; those that are open keep theirs. How many there may be is for [`Cores::resize`].
    pub fn limit(&self, limits: ConnectionLimits) {
        for core in &self.cores {
            // A core that has ended takes no connections either.
            let _ = core.handed.send(Handed::Limits(limits));
        }
    }

    /// So many connections may be open from now on. Where more are, it waits until as many have ended, and no new one is taken meanwhile.
    pub async fn resize(&self, limits: ConnectionLimits) {
        let mut most = self.most.lock().await;
        let wanted = most_places(&limits);
        self.places.add_permits(wanted.saturating_sub(*most));
        while *most > wanted {
            // In pieces: what was forgotten stays so though this is given up.
            let piece = u32::try_from(*most - wanted).unwrap_or(u32::MAX);
            let piece = piece.min(1024);
            let Ok(permits) = self.places.acquire_many(piece).await else { return };
            permits.forget();
            *most -= piece as usize;
        }
        *most = wanted;
    }

    /// Resolves when every thread has ended: after [`Stage::Draining`] with the last connection, after [`Stage::Ended`] in any case.
    pub async fn ended(&self) {
        let _ = self.ended.lock().await.recv().await;
    }

    /// How many connections each core has.
    #[must_use]
    pub fn connections(&self) -> Vec<usize> {
        self.cores.iter().map(|core| core.load.open.load(Ordering::Relaxed)).collect()
    }

    /// Resolves when every core has come round to saying so; one that is stuck in a request does not. A core that has ended owes no answer.
    pub(super) async fn all_answer(&self) {
        let asked: Vec<_> = self
            .cores
            .iter()
            .map(|core| {
                let (answer, answered) = oneshot::channel();
                let _ = core.questions.send(answer);
                answered
            })
            .collect();
        for answered in asked {
            let _ = answered.await;
        }
    }

    pub(super) const fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// A place for one more connection, if there is one.
    pub(super) fn place_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Waits for a place.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes the semaphore.
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Gives a connection to the core with the fewest; of equals each has its turn. Few long-lived connections are spread evenly so, which
    /// SO_REUSEPORT would leave to chance.
    pub(super) fn hand_over(&self, arrival: Arrival, permit: OwnedSemaphorePermit) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.cores.len().max(1);
        let (before, from) = self.cores.split_at_checked(turn).unwrap_or((&[], &self.cores));
        let Some(core) = from.iter().chain(before).min_by_key(|core| core.load.open.load(Ordering::Relaxed)) else { return };
        core.load.open.fetch_add(1, Ordering::AcqRel);
        let place = Place { load: Arc::clone(&core.load), _permit: permit, _open: self.settings.metrics.connection_opened() };
        // A core that has ended takes nothing: the socket is closed.
        let _ = core.handed.send(Handed::Connection(Box::new(Accepted { arrival, place })));
    }
}

impl<S, P> Core<S, P> {
    fn of(service: Rc<CoreService<S, P>>, settings: ServerSettings, drain: Rc<LocalDrain>) -> Rc<Self> {
        let builders = Builders::new(&settings.limits);
        Rc::new(Self { service, builders, local: Rc::new(Local { settings, drain }) })
    }

    /// The same for connections under other limits.
    fn limited(&self, limits: ConnectionLimits) -> Rc<Self> {
        let settings = ServerSettings { limits, ..self.local.settings.clone() };
        Self::of(Rc::clone(&self.service), settings, Rc::clone(&self.local.drain))
    }
}

fn most_places(limits: &ConnectionLimits) -> usize {
    limits.max_connections.clamp(1, Semaphore::MAX_PERMITS)
}

fn runtime(number: usize) -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().thread_name(format!("doorward-core-{number}-blocking")).build_local(LocalOptions::default())
}

async fn answer_questions(mut asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
    while let Some(answer) = asked.recv().await {
        let _ = answer.send(());
    }
}

/// Serves until the drain has emptied this core or has run out of patience. What is left then goes with the runtime.
async fn run<S, P, F, B>(mut core: Rc<Core<S, P>>, mut arriving: mpsc::UnboundedReceiver<Handed>, load: &Load)
where
    S: Fn(Request<RequestBody>, Rc<ConnectionInfo>) -> F + 'static,
    P: Fn(&ConnectionInfo) -> Response<B> + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let drain = core.local.settings.drain.clone();
    let spawn = |accepted, core: &Rc<Core<S, P>>| drop(spawn_local(serve(accepted, Rc::clone(core))));
    loop {
        tokio::select! {
            handed = arriving.recv() => match handed {
                Some(Handed::Connection(accepted)) => spawn(*accepted, &core),
                Some(Handed::Limits(limits)) => core = core.limited(limits),
                None => return,
            },
            () = drain.reached(Stage::Draining) => break,
        }
    }
    core.local.drain.begin();
    while load.open.load(Ordering::Acquire) > 0 {
        tokio::select! {
            // What was accepted just before the listeners closed.
            Some(handed) = arriving.recv() => if let Handed::Connection(accepted) = handed {
                spawn(*accepted, &core);
            },
            () = load.emptied.notified() => {}
            () = drain.reached(Stage::Ended) => {
                let open = load.open.load(Ordering::Relaxed);
                if open > 0 {
                    tracing::warn!(connections = open, "connections were still open at the deadline and are dropped");
                }
                return;
            }
        }
    }
}

/// The drain as the connections of one core see it: a flag, and whom to wake when it is set. Waiting on the process's own costs a lock at
/// each turn of each connection.
#[derive(Default)]
pub(super) struct LocalDrain {
    begun: Cell<bool>,
    wakers: RefCell<HashMap<u64, Waker>>,
    next: Cell<u64>,
}

impl LocalDrain {
    fn begin(&self) {
        self.begun.set(true);
        let wakers: Vec<Waker> = self.wakers.borrow_mut().drain().map(|(_, waker)| waker).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether it has begun.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// For one connection, polled by one task.
    pub(super) fn notice(&self) -> Notice<'_> {
        let key = self.next.get();
        self.next.set(key + 1);
        Notice { drain: self, key, registered: false }
    }
}

/// One connection's interest in the drain.
pub(super) struct Notice<'a> {
    drain: &'a LocalDrain,
    key: u64,
    registered: bool,
}

impl Notice<'_> {
    /// Whether the drain has begun; if not, the task will be woken when it does.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> bool {
        if self.drain.has_begun() {
            return true;
        }
        if !self.registered {
            self.registered = true;
            self.drain.wakers.borrow_mut().insert(self.key, cx.waker().clone());
        }
        false
    }
}

impl Drop for Notice<'_> {
    fn drop(&mut self) {
        if self.registered {
            self.drain.wakers.borrow_mut().remove(&self.key);
        }
    }
}
