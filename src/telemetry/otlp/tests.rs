use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use http::HeaderMap;

use super::*;
use crate::clock::{ManualClock, UnixTime};
use crate::telemetry::trace::Sampling;

/// What was sent, and what is answered.
#[derive(Clone, Default)]
struct Collector {
    taken: Arc<Mutex<Vec<Vec<u8>>>>,
    asked: Arc<Mutex<usize>>,
    refusals: Arc<Mutex<Vec<Undelivered>>>,
}

impl Collector {
    fn deliver(&self) -> Deliver {
        let this = self.clone();
        Arc::new(move |bytes| {
            let this = this.clone();
            Box::pin(async move {
                *this.asked.lock().unwrap() += 1;
                if let Some(refused) = this.refusals.lock().unwrap().pop() {
                    return Err(refused);
                }
                this.taken.lock().unwrap().push(bytes);
                Ok(())
            })
        })
    }

    /// Refuses the next `times`, and then takes what comes.
    fn refuse(&self, times: usize, how: &Undelivered) {
        *self.refusals.lock().unwrap() = vec![how.clone(); times];
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }

    /// How often a text is in what was taken.
    fn holds(&self, text: &str) -> usize {
        let taken = self.taken.lock().unwrap().concat();
        taken.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
    }
}

struct Scene {
    collector: Collector,
    tracer: Arc<Tracer>,
    metrics: Arc<Metrics>,
}

impl Scene {
    fn new(again: Duration) -> (Self, Exporter) {
        let (collector, metrics, clock) = (Collector::default(), Metrics::new(), Arc::new(ManualClock::default()));
        let (tracer, mut exporter) = Tracer::new(Share::new(1.0), "test", collector.deliver(), Arc::clone(&metrics), clock);
        exporter.again = [again; 3];
        exporter.gather = Duration::from_millis(20);
        (Self { collector, tracer, metrics }, exporter)
    }

    fn counted(&self) -> (u64, u64) {
        let text = self.metrics.encode();
        let count = |series: &str| {
            let line = text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{series} not in\n{text}"));
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        (count("doorward_spans_exported_total"), count("doorward_spans_dropped_total"))
    }

    async fn counts(&self, expected: (u64, u64)) {
        let wait = async {
            while self.counted() != expected {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), wait).await.is_err() {
            panic!("{:?}, not {expected:?}", self.counted());
        }
    }
}

async fn beside(exporter: Exporter, test: impl Future<Output = ()>) {
    tokio::select! {
        () = exporter.run() => panic!("the exporter ended"),
        () = test => {}
    }
}

fn span(name: &str) -> Span {
    let of = TraceContext::of(&HeaderMap::new(), &Ids::new(), Sampling::ByShare(Share::new(1.0)));
    Span {
        trace: of.trace_id(),
        id: of.spans().unwrap().own,
        parent: None,
        remote_parent: false,
        kind: SpanKind::Server,
        name: name.to_owned(),
        began: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        took: Duration::from_millis(3),
        attributes: vec![("url.path", "/a".into())],
        status: SpanStatus::Unset,
    }
}

fn later() -> Undelivered {
    Undelivered::Later("away".to_owned())
}

#[tokio::test]
async fn spans_go_together_and_all_are_there_after_a_flush() {
    let (scene, exporter) = Scene::new(Duration::from_secs(60));
    beside(exporter, async {
        for number in 0..1300 {
            scene.tracer.tell(span(&format!("span-{number}-")));
        }
        scene.tracer.flush().await;
        assert_eq!(scene.collector.asked(), 3, "512, 512 and the rest");
        for number in [0, 511, 512, 1299] {
            assert_eq!(scene.collector.holds(&format!("span-{number}-")), 1, "{number}");
        }
        assert_eq!(scene.counted(), (1300, 0));
        // Nothing to send is sent to nobody.
        scene.tracer.flush().await;
        assert_eq!(scene.collector.asked(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_span_alone_is_sent_without_being_asked_for() {
    let (scene, exporter) = Scene::new(Duration::from_secs(60));
    beside(exporter, async {
        scene.tracer.tell(span("alone"));
        scene.counts((1, 0)).await;
    })
    .await;
}

#[tokio::test]
async fn a_collector_that_is_away_is_tried_again_and_one_that_refuses_is_not() {
    let (scene, exporter) = Scene::new(Duration::from_millis(5));
    beside(exporter, async {
        scene.collector.refuse(3, &later());
        scene.tracer.tell(span("patient"));
        scene.counts((1, 0)).await;
        assert_eq!((scene.collector.asked(), scene.collector.holds("patient")), (4, 1));

        scene.collector.refuse(4, &later());
        scene.tracer.tell(span("hopeless"));
        scene.counts((1, 1)).await;
        assert_eq!((scene.collector.asked(), scene.collector.holds("hopeless")), (8, 0));

        scene.collector.refuse(1, &Undelivered::Refused("400".to_owned()));
        scene.tracer.tell(span("refused"));
        scene.counts((1, 2)).await;
        assert_eq!((scene.collector.asked(), scene.collector.holds("refused")), (9, 0));

        scene.tracer.tell(span("after"));
        scene.counts((2, 2)).await;
    })
    .await;
}

#[tokio::test]
async fn who_ends_does_not_wait_for_a_collector_that_is_away() {
    let (scene, exporter) = Scene::new(Duration::from_secs(60));
    beside(exporter, async {
        scene.collector.refuse(2, &later());
        scene.tracer.tell(span("lost"));
        tokio::time::timeout(Duration::from_secs(20), scene.tracer.flush()).await.expect("it hangs");
        assert_eq!((scene.collector.asked(), scene.counted()), (1, (0, 1)));
    })
    .await;
}

#[tokio::test]
async fn what_does_not_fit_in_the_queue_is_dropped_at_once_and_counted() {
    let (scene, exporter) = Scene::new(Duration::from_secs(60));
    for _ in 0..QUEUE + 7 {
        scene.tracer.tell(span("one-of-many"));
    }
    assert_eq!(scene.counted(), (0, 7));
    beside(exporter, async {
        scene.tracer.flush().await;
        assert_eq!(scene.counted(), (QUEUE as u64, 7));
    })
    .await;
}

#[test]
fn an_unreachable_collector_is_told_once_in_a_while() {
    let (mut told, at) = (Told::default(), UnixTime(1_800_000_000));
    assert!(!told.taken(), "it never was away");
    assert!(told.lost(at));
    assert!(!told.lost(at) && !told.lost(at.plus(Duration::from_secs(599))));
    assert!(told.lost(at.plus(Duration::from_secs(600))));
    assert!(told.taken() && !told.taken());
    assert!(told.lost(at.plus(Duration::from_secs(601))), "it went away anew");
}

#[tokio::test]
async fn a_call_is_a_part_of_the_request_that_is_recorded() {
    let (scene, exporter) = Scene::new(Duration::from_secs(60));
    scene.metrics.trace_calls(&scene.tracer);
    let context = |share| TraceContext::of(&HeaderMap::new(), &Ids::new(), Sampling::ByShare(Share::new(share)));
    beside(exporter, async {
        let call = || async { scene.metrics.store_call("put_session", Duration::from_millis(1)) };
        call().await;
        super::super::current::at_work(context(0.0), call()).await;
        scene.tracer.flush().await;
        assert_eq!(scene.counted(), (0, 0));
        let of = context(1.0);
        super::super::current::at_work(of, call()).await;
        scene.tracer.flush().await;
        assert_eq!((scene.counted(), scene.collector.holds("store put_session")), ((1, 0), 1));
        let taken = scene.collector.taken.lock().unwrap().concat();
        let parent = of.spans().unwrap().own.to_be_bytes();
        assert!(taken.windows(8).any(|window| window == parent), "the parent is the request's own span");
    })
    .await;
}
