//! How all cores go over to the next config at once. Each first makes what it needs for it and goes on with the old one; when all have it, one
//! number that they all look at is changed, and the very next request on any core is the new config's. A request keeps the one it began with.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use super::Answering;
use super::generation::Generation;
use crate::clock::SharedClock;
use crate::endpoint::{self, Body, Core};
use crate::reason::Reason;
use crate::request::Audience;
use crate::respond::{Refusal, Reply};
use crate::server::{ConnectionInfo, CoreService, RequestBody};
use crate::telemetry::{AccessLines, Ids};
use crate::upstream::{TlsMissing, Tunnels, Upstreams};

/// All cores, and the generation that they serve.
pub(super) struct Turns {
    serving: AtomicU64,
    cores: Mutex<Vec<mpsc::UnboundedSender<Order>>>,
}

/// To one core. Answered when it is done.
enum Order {
    /// Have this ready.
    Prepare(Arc<Generation>, oneshot::Sender<Result<(), TlsMissing>>),
    /// Let go of what does not serve any more, though no request comes.
    Settle(oneshot::Sender<Result<(), TlsMissing>>),
}

impl Turns {
    pub(super) fn at(generation: &Generation) -> Arc<Self> {
        Arc::new(Self { serving: AtomicU64::new(generation.number), cores: Mutex::default() })
    }

    /// Goes over to `next`. When it returns all cores serve it.
    ///
    /// # Errors
    /// When a core cannot serve it; then none does.
    pub(super) async fn turn_to(&self, next: &Arc<Generation>) -> Result<(), TlsMissing> {
        self.all(|done| Order::Prepare(Arc::clone(next), done)).await?;
        // A core reads it without any order to other memory: what it is to turn to lies in its own.
        self.serving.store(next.number, Ordering::Release);
        self.all(Order::Settle).await
    }

    /// A core that has ended serves nothing, and has not to be waited for.
    async fn all(&self, order: impl Fn(oneshot::Sender<Result<(), TlsMissing>>) -> Order) -> Result<(), TlsMissing> {
        let cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent: Vec<_> = cores
            .iter()
            .filter_map(|core| {
                let (done, wait) = oneshot::channel();
                core.send(order(done)).ok().map(|()| wait)
            })
            .collect();
        for wait in sent {
            if let Ok(done) = wait.await {
                done?;
            }
        }
        Ok(())
    }
}

/// Makes what serves one core.
#[derive(Clone)]
pub(super) struct CoreMaker {
    pub(super) current: Arc<ArcSwap<Generation>>,
    pub(super) turns: Arc<Turns>,
    pub(super) lines: Arc<Mutex<Vec<AccessLines>>>,
    pub(super) clock: SharedClock,
}

type Serve = Box<dyn Fn(http::Request<RequestBody>, Rc<ConnectionInfo>) -> Answering>;
type OnPanic = Box<dyn Fn(&ConnectionInfo) -> http::Response<Body>>;

impl CoreMaker {
    /// To be called on the core's own thread.
    #[expect(clippy::expect_used, reason = "every https upstream was given its TLS config, and every core has its lines")]
    pub(super) fn service(&self, tunnels: Tunnels) -> CoreService<Serve, OnPanic> {
        let generation = self.current.load();
        let upstreams = (generation.upstreams.clone(), generation.upstream_settings.clone());
        let upstreams = Upstreams::new(upstreams.0, upstreams.1, tunnels, Arc::clone(&self.clock)).expect("TLS was given");
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).pop().expect("one for each core");
        let own = Rc::new(Own {
            turns: Arc::clone(&self.turns),
            number: Cell::new(generation.number),
            now: RefCell::new(core(&generation, upstreams, Rc::new(lines))),
            next: RefCell::new(None),
        });
        let (orders, arriving) = mpsc::unbounded_channel();
        self.turns.cores.lock().unwrap_or_else(PoisonError::into_inner).push(orders);
        drop(spawn_local(Rc::clone(&own).obey(arriving)));
        let panicked = Rc::clone(&own);
        CoreService {
            serve: Box::new(move |request, info| {
                let (core, request) = (own.core(), Box::new(request));
                Box::pin(async move { endpoint::answer(&core, request, &info).await })
            }),
            on_panic: Box::new(move |_| {
                let core = panicked.core();
                let reply = Reply { audience: Audience::Program, request_id: "", pages: &core.gateway.pages };
                core.gateway.metrics.request(Reason::Internal);
                reply.refuse(Reason::Internal, Refusal::default()).map(Body::ready)
            }),
        }
    }
}

fn core(generation: &Generation, upstreams: Upstreams, lines: Rc<AccessLines>) -> Rc<Core> {
    Rc::new(Core {
        gateway: Arc::clone(&generation.gateway),
        family: Rc::new(generation.gateway.family.clone()),
        upstreams: Rc::new(upstreams),
        lines,
        route_names: Rc::new(generation.route_names.clone()),
        ids: Ids::new(),
    })
}

/// What one core serves with.
struct Own {
    turns: Arc<Turns>,
    /// Of the generation of `now`.
    number: Cell<u64>,
    now: RefCell<Rc<Core>>,
    next: RefCell<Option<(u64, Rc<Core>)>>,
}

impl Own {
    /// For a request that begins.
    fn core(&self) -> Rc<Core> {
        if self.turns.serving.load(Ordering::Relaxed) != self.number.get() {
            self.turn();
        }
        Rc::clone(&self.now.borrow())
    }

    #[cold]
    fn turn(&self) {
        let serving = self.turns.serving.load(Ordering::Relaxed);
        let next = self.next.take().filter(|(number, _)| *number == serving);
        if let Some((number, core)) = next {
            self.number.set(number);
            let before = self.now.replace(core);
            drop(before);
        }
    }

    async fn obey(self: Rc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Prepare(generation, done) => {
                    let _ = done.send(self.prepare(&generation));
                }
                Order::Settle(done) => {
                    drop(self.core());
                    let _ = done.send(Ok(()));
                }
            }
        }
    }

    /// Connections to upstreams that are the same are taken over.
    fn prepare(&self, generation: &Generation) -> Result<(), TlsMissing> {
        let before = Rc::clone(&self.now.borrow());
        let upstreams = before.upstreams.taken_over(generation.upstreams.clone(), generation.upstream_settings.clone())?;
        let core = core(generation, upstreams, Rc::clone(&before.lines));
        self.next.replace(Some((generation.number, core)));
        Ok(())
    }
}
