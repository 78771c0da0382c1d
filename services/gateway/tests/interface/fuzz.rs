//! Arbitrary bytes, for a time: whatever comes, the gateway goes on and nothing is stored.

use std::{
    net::SocketAddr,
    panic,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::support::{LIMIT, Trial, client, gateway, place, token};

/// For so long in the tests of every day; `GATEWAY_FUZZ_S` says otherwise.
const LENGTH: Duration = Duration::from_secs(5);
const CONNECTIONS: u64 = 64;

/// Pieces that get further than noise does.
const PIECES: [&str; 26] = [
    "GET ",
    "POST ",
    "OPTIONS ",
    "HEAD ",
    "/place-order",
    "/orders",
    "/orders/",
    "/events",
    "/cancel",
    "/docs",
    "?wait=",
    "?after=",
    "00000000-0000-7000-8000-000000000000",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "host: f\r\n",
    "content-length: 9\r\n",
    "transfer-encoding: chunked\r\n",
    "expect: 100-continue\r\n",
    "idempotency-key: k\r\n",
    "last-event-id: 1\r\n",
    "\r\n\r\n",
    "{\"item\":",
    "\"\\ud800\"",
    "[[[[[[[[",
    "1e999",
];

fn noise(random: &mut StdRng, token: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.random_range(1..24) {
        match random.random_range(0..10) {
            0 => bytes.extend((0..random.random_range(0..200)).map(|_| random.random::<u8>())),
            1 => bytes.extend_from_slice(format!("authorization: Bearer {token}\r\n").as_bytes()),
            2 => bytes.extend(vec![random.random::<u8>(); random.random_range(0..3_000)]),
            _ => bytes.extend_from_slice(PIECES.choose(random).copied().unwrap_or_default().as_bytes()),
        }
    }
    if random.random_bool(0.3) && !bytes.is_empty() {
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
    }
    bytes
}

/// What comes back; the worst of it.
async fn send(address: SocketAddr, bytes: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.expect("it takes connections");
    let _refused = stream.write_all(bytes).await;
    let mut read = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut read)).await.expect("an end within the limit").ok()?;
    let text = String::from_utf8_lossy(&read).into_owned();
    text.split("HTTP/1.1 ").skip(1).any(|answer| answer.starts_with('5')).then_some(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arbitrary_bytes_end_nothing_and_store_nothing() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before_us = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before_us(info);
    }));
    let seconds = std::env::var("GATEWAY_FUZZ_S").ok().and_then(|text| text.parse().ok());
    let length = seconds.map_or(LENGTH, Duration::from_secs);
    let seed = std::env::var("GATEWAY_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    println!("GATEWAY_FUZZ_SEED={seed}, for {length:?}");

    let trial = Trial::start().await;
    // A body that does not come is waited for only so long.
    let short = ["--rate-limit", "0", "--http-body-timeout-ms", "100", "--http-head-timeout-ms", "100"];
    let (address, _stop) = gateway(trial.orders, &short).await;
    let kim = token("kim", &json!({}));
    place(address, &kim, &json!({"item": "soup"})).await;
    // A default order is what a POST without a body asks for, and noise may well be that: all its orders are somebody's whose token says so.
    let orders = "select count(*) from orders where customer_id <> 'noise'";
    let before = trial.count(orders).await;
    let until = Instant::now() + length;
    let tasks = (0..CONNECTIONS).map(|n| {
        let token = token("noise", &json!({}));
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed.wrapping_add(n));
            let (mut sent, mut worst) = (0_u64, Vec::new());
            while Instant::now() < until {
                let bytes = noise(&mut random, &token);
                if let Some(text) = send(address, &bytes).await {
                    worst.push(format!("{:?}\n{text}", String::from_utf8_lossy(&bytes)));
                }
                sent += 1;
            }
            (sent, worst)
        })
    });
    let mut sent = 0;
    for task in futures_util::future::join_all(tasks).await {
        let (of_it, worst) = task.expect("no panic");
        assert!(worst.is_empty(), "GATEWAY_FUZZ_SEED={seed}\n{}", worst.join("\n"));
        sent += of_it;
    }
    println!("{sent} requests");
    assert!(sent > 100, "{sent}");
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "GATEWAY_FUZZ_SEED={seed}");
    assert_eq!(trial.count(orders).await, before);
    let answer = client().get(format!("http://{address}/orders")).bearer_auth(&kim).send().await;
    assert_eq!(answer.expect("an answer").status(), 200);
}
