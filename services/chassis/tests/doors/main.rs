//! Peers that are slow, silent, or too many, on a real listener.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, routing::get, routing::post};
use chassis::{
    http::{Body, Limits, Server, dress},
    shutdown::{Trigger, trigger},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, Semaphore},
    time::{sleep, timeout},
};

/// What a test that fails waits for.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);
const LARGE: usize = 24 << 20;

struct Trial {
    server: Server,
    stop: Trigger,
    /// A request to `/held` has arrived.
    arrived: Arc<Notify>,
    /// Answers one of them for each permit.
    answer: Arc<Semaphore>,
}

impl Trial {
    async fn new(limits: Limits) -> Self {
        let (arrived, answer) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
        let (here, there) = (arrived.clone(), answer.clone());
        let held = async move || {
            here.notify_one();
            there.acquire().await.expect("open").forget();
            "held\n"
        };
        let app = Router::new()
            .route("/", get(async || "hello\n"))
            .route("/echo", post(async |Body(bytes): Body| bytes))
            .route("/large", get(async || vec![b'x'; LARGE]))
            .route("/held", get(held));
        let (stop, listener) = trigger();
        let server = Server::start(([127, 0, 0, 1], 0).into(), dress(app), limits, listener);
        Self { server: server.await.expect("a free port"), stop, arrived, answer }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.address).await.expect("accepted by the kernel")
    }

    /// Connects and writes.
    async fn say(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.expect("written");
        stream
    }
}

fn limits() -> Limits {
    Limits { head: LONG, body: LONG, write: LONG, connections: 100 }
}

/// All that comes until the server closes, or resets.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let reading = async { while let Ok(1..) = stream.read_buf(&mut all).await {} };
    timeout(LONG, reading).await.expect("closed by the server");
    String::from_utf8_lossy(&all).into_owned()
}

async fn answered(stream: &mut TcpStream, what: &str) {
    let mut text = String::new();
    let reading = async {
        while !text.ends_with(what) {
            let mut buffer = [0; 1024];
            let n = stream.read(&mut buffer).await.expect("readable");
            assert_ne!(n, 0, "closed after {text:?}");
            text.push_str(std::str::from_utf8(&buffer[..n]).expect("UTF-8"));
        }
    };
    timeout(LONG, reading).await.expect("answered");
}

#[tokio::test]
async fn half_a_head_is_closed_in_time_however_it_drips() {
    let trial = Trial::new(Limits { head: SHORT, ..limits() }).await;
    let start = Instant::now();
    let mut silent = trial.connect().await;
    let dripping = trial.say("GET / HTTP/1.1\r\nX: ").await;
    let (mut reading, mut writing) = dripping.into_split();
    let drip = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            sleep(SHORT / 10).await;
        }
    });
    let mut buffer = [0; 1024];
    while let Ok(Ok(1..)) = timeout(LONG, reading.read(&mut buffer)).await {}
    drip.await.expect("the server hangs up");
    rest(&mut silent).await;
    assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_in_time() {
    let trial = Trial::new(Limits { head: SHORT, ..limits() }).await;
    let mut idle = trial.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    answered(&mut idle, "hello\n").await;
    assert_eq!(rest(&mut idle).await, "", "nothing more is said");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_408() {
    let trial = Trial::new(Limits { body: SHORT, ..limits() }).await;
    let mut slow = trial.say("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345").await;
    let answer = rest(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("within 300 ms"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

/// Its place is free for the next one.
#[tokio::test]
async fn a_peer_that_does_not_read_is_left_in_time() {
    let trial = Trial::new(Limits { write: SHORT, connections: 1, ..limits() }).await;
    let mut deaf = trial.say("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut next = trial.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(rest(&mut next).await.ends_with("hello\n"));
    assert!(rest(&mut deaf).await.len() < LARGE, "the answer was cut off");
}

/// It is slow, and it does read.
#[tokio::test]
async fn a_peer_that_reads_is_not_left() {
    let trial = Trial::new(Limits { write: SHORT, ..limits() }).await;
    let mut slow = trial.say("GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let (mut total, mut buffer) = (0, vec![0; 4 << 20]);
    loop {
        match timeout(LONG, slow.read(&mut buffer)).await.expect("goes on").expect("not cut off") {
            0 => break,
            n => total += n,
        }
        sleep(SHORT / 20).await;
    }
    assert!(total > LARGE, "{total}");
}

#[tokio::test]
async fn beyond_the_cap_connections_wait_and_those_there_are_go_on() {
    let trial = Trial::new(Limits { connections: 2, ..limits() }).await;
    let held = "GET /held HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut first = trial.say(held).await;
    let mut second = trial.say(held).await;
    trial.arrived.notified().await;
    trial.arrived.notified().await;
    let mut third = trial.say(held).await;
    assert!(timeout(SHORT, trial.arrived.notified()).await.is_err(), "it waits to be accepted");
    assert!(trial.server.doors().are_open().is_err());
    trial.answer.add_permits(1);
    trial.arrived.notified().await;
    trial.answer.add_permits(2);
    for stream in [&mut first, &mut second, &mut third] {
        assert!(rest(stream).await.ends_with("held\n"));
    }
    assert!(trial.server.doors().are_open().is_ok());
}

#[tokio::test]
async fn where_all_places_are_taken_those_without_a_request_give_way() {
    let trial = Trial::new(Limits { connections: 3, ..limits() }).await;
    let mut half = trial.say("GET / HTTP/1.1\r\nX: ").await;
    let mut body = trial.say("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345").await;
    let mut held = trial.say("GET /held HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    trial.arrived.notified().await;
    let start = Instant::now();
    let mut next = trial.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(rest(&mut next).await.ends_with("hello\n"));
    assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
    trial.answer.add_permits(1);
    assert!(rest(&mut held).await.ends_with("held\n"), "what is being served stays");
    drop((rest(&mut half).await, rest(&mut body).await));
}

#[tokio::test]
async fn a_drain_waits_for_requests_and_not_for_halves_of_them() {
    let trial = Trial::new(limits()).await;
    let mut held = trial.say("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    trial.arrived.notified().await;
    let others = [
        trial.connect().await,
        trial.say("GET / HTTP/1.1\r\nX: ").await,
        trial.say("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345").await,
        trial.say("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await,
    ];
    let Trial { server, stop, answer, .. } = trial;
    let address = server.address;
    let start = Instant::now();
    stop.fire();
    let stopped = tokio::spawn(server.stopped(LONG));
    // The listener is closed; what is in hand is not.
    while TcpStream::connect(address).await.is_ok() {
        assert!(start.elapsed() < LONG);
    }
    answer.add_permits(1);
    answered(&mut held, "held\n").await;
    assert!(stopped.await.expect("no panic"), "clean");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop(others);
}
