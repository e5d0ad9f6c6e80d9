//! How it ends.

use super::*;

async fn drain(server: &TestServer, delay: Duration, deadline: Duration) -> Drained {
    server.drain.run(delay, deadline, server.cores.ended()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_finishes_and_then_everything_is_closed() {
    let server = TestServer::start(limits());
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_some(&mut idle).await;
    let mut late = server.connect().await;
    late.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_some(&mut late).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut sender = http2(server.connect().await).await;
    let idle2 = http2(server.connect().await).await;
    let slow = sender.send_request(request("/slow"));
    eventually(|| server.seen() == 4).await;
    let in_flight = async {
        let response = slow.await.unwrap();
        assert_eq!(text(response).await, "slow");
        let mut answer = String::new();
        busy.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("connection: close") && answer.ends_with("slow"), "{answer}");
    };
    // Its request was on its way when the drain began.
    let asked_late = async {
        server.drain.reached(Stage::Draining).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        late.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        late.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    };
    let (drained, (), (), waited) =
        within(async { tokio::join!(drain(&server, Duration::ZERO, SOON), in_flight, asked_late, closed_after(&mut idle)) }).await;
    assert_eq!(drained, Drained::Finished);
    let soon = Duration::from_millis(800)..Duration::from_millis(1500);
    assert!(soon.contains(&waited), "an idle connection is closed when nothing comes for a second: {waited:?}");
    eventually(|| idle2.is_closed() && sender.is_closed()).await;
    assert!(TcpStream::connect(server.address).await.is_err(), "the listener is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_stay_open_while_balancers_notice() {
    let server = TestServer::start(limits());
    let draining = drain(&server, Duration::from_millis(700), SOON);
    let announced = async {
        server.drain.reached(Stage::Announced).await;
        assert!(!server.drain.is_ready());
        let text = server.get("/").await;
        assert!(text.ends_with("hello"), "{text}");
        assert_eq!(server.drain.stage(), Stage::Announced);
    };
    let (drained, ()) = within(async { tokio::join!(draining, announced) }).await;
    assert_eq!(drained, Drained::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_drops_what_is_left_tunnels_too() {
    let server = TestServer::start(limits());
    let mut tunnel = server.connect().await;
    tunnel.write_all(b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await.unwrap();
    read_some(&mut tunnel).await;
    let mut hanging = server.connect().await;
    hanging.write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    eventually(|| server.seen() == 2).await;
    let drained = within(drain(&server, Duration::ZERO, Duration::from_millis(300))).await;
    assert_eq!(drained, Drained::CutOff);
    closed_after(&mut tunnel).await;
    closed_after(&mut hanging).await;
    within(server.cores.ended()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_accepted_just_before_may_still_ask() {
    let server = TestServer::start(limits());
    let mut fresh = server.connect().await;
    let mut silent = server.connect().await;
    eventually(|| server.cores.connections().iter().sum::<usize>() == 2).await;
    let late = async {
        server.drain.reached(Stage::Draining).await;
        sleep(Duration::from_millis(100)).await;
        fresh.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        fresh.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    };
    let (drained, (), waited) = within(async { tokio::join!(drain(&server, Duration::ZERO, SOON), late, closed_after(&mut silent)) }).await;
    assert_eq!(drained, Drained::Finished);
    assert!(waited < Duration::from_secs(4), "one that stays silent does not hold the drain: {waited:?}");
}
