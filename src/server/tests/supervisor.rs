//! What systemd hears, at a socket of the test's own.

use std::os::unix::net::UnixDatagram;

use super::*;

fn words(socket: &UnixDatagram) -> Vec<String> {
    let mut words = Vec::new();
    let mut bytes = [0; 256];
    while let Ok(read) = socket.recv(&mut bytes) {
        words.push(String::from_utf8_lossy(&bytes[..read]).into_owned());
    }
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_is_stuck_starves_the_watchdog_and_one_that_ended_does_not() {
    let path = std::env::temp_dir().join(format!("doorward-notify-{}", crate::secret::random_token()));
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let server = TestServer::start(limits());
    let supervisor = Supervisor::new(path.to_str(), Some(Duration::from_millis(100))).unwrap();
    supervisor.reloading();
    supervisor.ready();
    assert_eq!(words(&socket), ["RELOADING=1", "READY=1"]);
    Tasks::new(Handle::current()).background(supervisor.clone().watch(Arc::clone(&server.cores)));
    let fed = || words(&socket).iter().filter(|word| *word == "WATCHDOG=1").count();
    eventually(|| fed() > 0).await;

    // One core of two hangs in a request: nothing is said until it comes round again.
    let mut stuck = server.connect().await;
    stuck.write_all(b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    eventually(|| STUCK.load(Ordering::SeqCst) == 1).await;
    // A round whose answers are all there may still be told.
    sleep(Duration::from_millis(100)).await;
    fed();
    sleep(Duration::from_millis(400)).await;
    assert_eq!(fed(), 0);
    assert!(server.get("/x").await.contains("200 OK"), "the other core serves all the while");
    STUCK.store(2, Ordering::SeqCst);
    eventually(|| fed() > 0).await;

    server.drain.advance(Stage::Ended);
    server.cores.ended().await;
    fed();
    eventually(|| fed() > 0).await;
    std::fs::remove_file(&path).unwrap();
    // Nobody listens: that is told in the log and changes nothing.
    supervisor.stopping();
}

#[tokio::test]
async fn nobody_who_listens_is_nobody_told() {
    let server = TestServer::start(limits());
    let silent = Supervisor::new(None, Some(Duration::from_millis(1))).unwrap();
    silent.ready();
    within(silent.watch(Arc::clone(&server.cores))).await;
    let unwatched = Supervisor::new(Some("@doorward-nobody"), None).unwrap();
    within(unwatched.watch(Arc::clone(&server.cores))).await;
    assert!(Supervisor::new(Some(&"x".repeat(200)), None).is_err());
}
