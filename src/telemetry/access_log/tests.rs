use std::sync::mpsc::{Sender, channel};
use std::time::UNIX_EPOCH;

use http::HeaderMap;
use proptest::prelude::*;

use super::super::trace::{Ids, Sampling, TraceContext};
use super::*;

fn record<'a>(method: &'a Method, host: &'a str, path: &'a str, route: Option<&'a str>, user: Option<&'a str>) -> AccessRecord<'a> {
    let ids = Ids::new();
    AccessRecord {
        at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
        request_id: RequestId::new(&ids),
        trace_id: TraceContext::of(&HeaderMap::new(), &ids, Sampling::Off).trace_id(),
        address: "192.0.2.1".parse().unwrap(),
        method,
        host,
        path,
        status: 200,
        reason: Reason::Allowed,
        would_be: None,
        detail: None,
        about: None,
        route,
        credential: Some(CredentialKind::Session),
        user,
        duration: Duration::from_micros(1234),
        upstream: Some(Duration::from_micros(1000)),
        bytes: Some(17),
    }
}

proptest! {
    #[test]
    fn a_line_is_one_json_object_whatever_a_stranger_sends(host: String, path: String, route: Option<String>, user: Option<String>) {
        let mut out = Vec::new();
        push_json(&mut out, &mut Stamp::default(), &record(&Method::GET, &host, &path, route.as_deref(), user.as_deref()));
        let text = String::from_utf8(out).unwrap();
        prop_assert_eq!(text.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(line["host"].as_str(), Some(host.as_str()));
        prop_assert_eq!(line["path"].as_str(), Some(path.as_str()));
        prop_assert_eq!(line["user"].as_str(), user.as_deref());
        prop_assert_eq!(line["reason"].as_str(), Some("allowed"));
        prop_assert_eq!(line["ms"].as_f64(), Some(1.234));
        prop_assert_eq!(line["bytes"].as_u64(), Some(17));
    }

    #[test]
    fn a_text_line_is_one_line_with_one_of_each_name(host: String, path: String, user: Option<String>) {
        let mut out = Vec::new();
        push_line(&mut out, &mut Stamp::default(), &record(&Method::GET, &host, &path, None, user.as_deref()));
        let text = String::from_utf8(out).unwrap();
        prop_assert_eq!(text.lines().count(), 1);
        prop_assert!(!text.trim_end_matches('\n').chars().any(char::is_control));
        // Outside quotes a name stands once, however hard a value tries.
        let mut quoted = false;
        let bare: String = text.replace("\\\\", "").replace("\\\"", "").chars().filter(|c| { quoted ^= *c == '"'; !quoted }).collect();
        prop_assert_eq!(bare.matches(" reason=").count(), 1);
    }
}

#[test]
fn every_line_arrives_and_close_writes_the_rest() {
    let metrics = Metrics::new();
    let (sink, lines) = sink();
    let log = AccessLog::start(LogFormat::Json, Box::new(sink), Arc::clone(&metrics)).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            let core = log.lines();
            scope.spawn(move || (0..5000).for_each(|_| core.write(&record(&Method::GET, "h", "/", None, None))));
        }
    });
    assert!(log.close(Duration::from_secs(10)));
    let text: Vec<u8> = lines.try_iter().flatten().collect();
    let text = String::from_utf8(text).unwrap();
    let dropped = dropped(&metrics);
    assert_eq!(text.lines().count() as u64 + dropped, 15_000);
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn lines_are_written_without_waiting_for_more() {
    let (sink, lines) = sink();
    let log = AccessLog::start(LogFormat::Text, Box::new(sink), Metrics::new()).unwrap();
    log.lines().write(&record(&Method::GET, "h", "/x", Some("r"), Some("Zoë M")));
    let line = String::from_utf8(lines.recv_timeout(Duration::from_secs(2)).unwrap()).unwrap();
    assert!(line.starts_with("2023-11-14T22:13:20.042Z 200 GET host=h path=/x reason=allowed route=r credential=session user=\"Zoë M\""));
    assert!(log.close(Duration::from_secs(2)));
}

#[test]
fn a_sink_that_blocks_costs_lines_that_are_counted_and_never_time() {
    let metrics = Metrics::new();
    let (release, gate) = channel::<()>();
    let log = AccessLog::start(LogFormat::Json, Box::new(Stuck(gate)), Arc::clone(&metrics)).unwrap();
    let core = log.lines();
    let path = "/".repeat(1000);
    // Over 1 MiB twice: once in the writer's hands, once in the buffer.
    for _ in 0..4000 {
        core.write(&record(&Method::GET, "h", &path, None, None));
    }
    assert!(dropped(&metrics) > 1000, "{}", dropped(&metrics));
    assert!(!log.close(Duration::from_millis(20)));
    drop(release);
}

#[test]
fn lines_that_the_sink_refuses_are_counted() {
    let metrics = Metrics::new();
    let log = AccessLog::start(LogFormat::Json, Box::new(Broken), Arc::clone(&metrics)).unwrap();
    let core = log.lines();
    (0..3).for_each(|_| core.write(&record(&Method::GET, "h", "/", None, None)));
    assert!(log.close(Duration::from_secs(2)));
    assert_eq!(dropped(&metrics), 3);
}

fn dropped(metrics: &Metrics) -> u64 {
    let text = metrics.encode();
    text.lines().find_map(|line| line.strip_prefix("doorward_access_log_dropped_total ")).unwrap().parse().unwrap()
}

struct Sent(Sender<Vec<u8>>);

fn sink() -> (Sent, Receiver<Vec<u8>>) {
    let (sender, receiver) = channel();
    (Sent(sender), receiver)
}

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Stuck(Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
