//! The one thread that writes. Whatever is waiting when it is free goes into one transaction, and everybody in it is answered when that is
//! committed: under load many logins share one flush to the disk, and alone nobody waits for company.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::open::{File, message};
use super::tables::Tables;
use crate::clock::SharedClock;
use crate::fault::Outage;

/// How many changes one transaction takes.
const BATCH: usize = 256;
/// How many changes wait or run at once; more wait for their turn without being queued.
const QUEUE: usize = 1024;
/// How long a change that may be lost stays in memory only.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// How many such commits there are at most: redb frees no page of theirs before a flush, so the file grows with them.
const FLUSH_COMMITS: u32 = 64;
/// How often a file that could not be opened again is tried.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// A disk that takes longer than this for a change is an outage.
const DEADLINE: Duration = Duration::from_secs(5);

/// When a change is safe from a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Before its caller hears of it.
    Immediate,
    /// With the next change that is, or within a second.
    Eventual,
}

/// Hands changes to the thread. Dropping it flushes and waits for the thread's end.
pub(super) struct Writer {
    /// Empty only while it is dropped.
    jobs: Option<Sender<Box<dyn Job>>>,
    places: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(file: Arc<File>, clock: SharedClock) -> io::Result<Self> {
        let (jobs, waiting) = channel();
        let thread = thread::Builder::new().name("doorward-store".into()).spawn(move || write_until_closed(&file, &clock, &waiting))?;
        Ok(Self { jobs: Some(jobs), places: Arc::new(Semaphore::new(QUEUE)), thread: Some(thread) })
    }

    /// Makes a change and waits until it is as safe as `durability` says. An outage may also mean that it was made and nobody could tell.
    pub(super) async fn write<T, W>(&self, durability: Durability, work: W) -> Result<T, Outage>
    where
        T: Send + 'static,
        W: FnOnce(&mut Tables<'_>) -> Result<T, redb::Error> + Send + 'static,
    {
        let ended = || Outage::store("the store's writer has ended");
        let written = timeout(DEADLINE, async {
            let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_closed| ended())?;
            let (reply, answer) = oneshot::channel();
            let change = Change { durability, work: Some(work), result: None, reply, _place: place };
            self.jobs.as_ref().ok_or_else(ended)?.send(Box::new(change)).map_err(|_closed| ended())?;
            answer.await.map_err(|_closed| ended())?
        });
        written.await.unwrap_or_else(|_elapsed| Err(Outage::store("the disk is too slow")))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It catches what panics in it; there is nobody to tell anyway.
            drop(thread.join());
        }
    }
}

/// A change that waits for its transaction, whatever it returns.
trait Job: Send {
    fn durability(&self) -> Durability;
    fn run(&mut self, tables: &mut Tables<'_>) -> Result<(), redb::Error>;
    fn answer(self: Box<Self>, committed: Result<(), Outage>);
}

struct Change<T, W> {
    durability: Durability,
    work: Option<W>,
    result: Option<T>,
    reply: oneshot::Sender<Result<T, Outage>>,
    _place: OwnedSemaphorePermit,
}

impl<T, W> Job for Change<T, W>
where
    T: Send,
    W: FnOnce(&mut Tables<'_>) -> Result<T, redb::Error> + Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, tables: &mut Tables<'_>) -> Result<(), redb::Error> {
        if let Some(work) = self.work.take() {
            self.result = Some(work(tables)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), Outage>) {
        let Self { result, reply, .. } = *self;
        // Whoever asked may have left.
        drop(reply.send(committed.and_then(|()| result.ok_or_else(|| Outage::store("the change did not run")))));
    }
}

/// What is in memory only.
struct Unflushed {
    since: Instant,
    commits: u32,
}

fn write_until_closed(file: &File, clock: &SharedClock, waiting: &Receiver<Box<dyn Job>>) {
    let mut unflushed: Option<Unflushed> = None;
    let mut broken = false;
    loop {
        let left = |unflushed: &Unflushed| FLUSH_AFTER.saturating_sub(clock.instant().saturating_duration_since(unflushed.since));
        let patience = if broken { Some(REOPEN_EVERY) } else { unflushed.as_ref().map(left) };
        let (mut batch, closed) = next_batch(waiting, patience);
        if broken {
            broken = !file.reopen();
        }
        let due = unflushed.as_ref().is_some_and(|some| closed || some.commits >= FLUSH_COMMITS || left(some).is_zero());
        let immediate = due || batch.iter().any(|job| job.durability() == Durability::Immediate);
        if !batch.is_empty() || due {
            let durability = if immediate { Durability::Immediate } else { Durability::Eventual };
            let committed = commit(file, &mut batch, durability);
            if committed.is_err() {
                broken = !file.reopen();
            }
            // What was in memory only is lost with a file that had to be opened again.
            unflushed = if immediate || committed.is_err() {
                None
            } else {
                let before = unflushed.unwrap_or_else(|| Unflushed { since: clock.instant(), commits: 0 });
                Some(Unflushed { commits: before.commits + 1, ..before })
            };
            for job in batch {
                job.answer(committed.clone());
            }
        }
        if closed {
            return;
        }
    }
}

/// What is waiting now or comes within `patience`, and whether nothing will come any more.
fn next_batch(waiting: &Receiver<Box<dyn Job>>, patience: Option<Duration>) -> (Vec<Box<dyn Job>>, bool) {
    let first = match patience {
        None => waiting.recv().map_err(|_closed| RecvTimeoutError::Disconnected),
        Some(patience) => waiting.recv_timeout(patience),
    };
    match first {
        Ok(first) => (std::iter::once(first).chain(waiting.try_iter()).take(BATCH).collect(), false),
        Err(RecvTimeoutError::Timeout) => (Vec::new(), false),
        Err(RecvTimeoutError::Disconnected) => (Vec::new(), true),
    }
}

fn commit(file: &File, batch: &mut [Box<dyn Job>], durability: Durability) -> Result<(), Outage> {
    let attempt = AssertUnwindSafe(|| {
        file.with(|database| {
            let mut writing = database.begin_write()?;
            if durability == Durability::Eventual {
                writing.set_durability(redb::Durability::None)?;
            }
            let mut tables = Tables::open(&writing)?;
            batch.iter_mut().try_for_each(|job| job.run(&mut tables))?;
            drop(tables);
            writing.commit()?;
            Ok(())
        })
    });
    match catch_unwind(attempt) {
        Ok(committed) => committed.map_err(Outage::store),
        Err(panic) => Err(Outage::store(format_args!("a defect in the store: {}", message(&*panic)))),
    }
}
