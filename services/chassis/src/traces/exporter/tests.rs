use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool, atomic::AtomicUsize, atomic::Ordering},
    time::SystemTime,
};

use actors::trace::{Kind, Span, TraceParent};
use axum::{Router, body::Bytes, http::StatusCode, routing::post};

use super::*;

fn span(number: u64) -> Span {
    Span {
        name: format!("process topic-{number}"),
        kind: Kind::Consumer,
        context: TraceParent { trace_id: 7, span_id: number + 1, flags: 1 },
        parent: Some(3),
        links: vec![2],
        started: SystemTime::now(),
        ended: SystemTime::now(),
        attributes: vec![("messaging.system", "kafka".into()), ("messaging.kafka.offset", 5.into())],
        error: None,
    }
}

/// A collector that takes posts while `takes`, and how many it took.
async fn collector(takes: Arc<AtomicBool>) -> (SocketAddr, Arc<AtomicUsize>) {
    let (listener, posts) =
        (tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port"), Arc::new(AtomicUsize::new(0)));
    let (address, counted) = (listener.local_addr().expect("bound"), posts.clone());
    let take = post(async move |body: Bytes| {
        assert!(body.windows(8).any(|part| part == b"process "), "a span's name is in it");
        match takes.load(Ordering::Relaxed) {
            true => {
                counted.fetch_add(1, Ordering::Relaxed);
                StatusCode::OK
            }
            false => StatusCode::BAD_REQUEST,
        }
    });
    let app = Router::new().route("/v1/traces", take);
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, posts)
}

async fn flush(queue: &Queue, limit: Duration) -> Duration {
    let (queue, started) = (queue.clone(), Instant::now());
    tokio::task::spawn_blocking(move || queue.flush(limit)).await.expect("no panic");
    started.elapsed()
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_is_told_is_posted_and_a_refusal_is_survived() {
    let takes = Arc::new(AtomicBool::new(false));
    let (address, posts) = collector(takes.clone()).await;
    let queue = start("test", &format!("http://{address}/v1/traces")).expect("a thread");
    queue.push(span(0));
    assert!(flush(&queue, LONG).await < LONG, "a refusal is an answer");
    assert_eq!(posts.load(Ordering::Relaxed), 0);
    takes.store(true, Ordering::Relaxed);
    (0..BATCH as u64 + 1).for_each(|number| queue.push(span(number)));
    assert!(flush(&queue, LONG).await < LONG);
    assert_eq!(posts.load(Ordering::Relaxed), 2, "one full post, and the rest");
    assert_eq!(queue.take_dropped(), 0);
}

/// Nobody who tells a span waits, what there is no room for is counted, and the end is not held up.
async fn harms_nothing(target: &str) {
    let queue = start("test", target).expect("a thread");
    let started = Instant::now();
    (0..30_000).for_each(|number| queue.push(span(number)));
    let told = started.elapsed();
    // So many fit into the queue, beside a post or two under way.
    let dropped = queue.take_dropped();
    assert!(dropped > 10_000, "{dropped} dropped");
    assert!(told < Duration::from_secs(5), "30,000 spans took {told:?}");
    let limit = Duration::from_millis(200);
    let flushed = flush(&queue, limit).await;
    assert!(flushed < Duration::from_secs(3), "the end took {flushed:?}, and had {limit:?}");
}

#[tokio::test]
async fn a_collector_that_is_gone_harms_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    harms_nothing(&format!("http://{address}/v1/traces")).await;
}

#[tokio::test]
async fn a_collector_that_does_not_answer_harms_nothing() {
    // It accepts, by the system, and nobody ever reads.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    harms_nothing(&format!("http://{}/v1/traces", listener.local_addr().expect("bound"))).await;
}

#[test]
fn trouble_is_said_at_once_and_then_now_and_then() {
    let (mut said, start) = (Said::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    said.say(Some((5, "refused".into())), 0, at(0));
    assert_eq!((said.at, said.failed), (Some(at(0)), 0));
    said.say(Some((7, "refused".into())), 3, at(30));
    assert_eq!((said.at, said.failed, said.dropped), (Some(at(0)), 7, 3), "kept for the next line");
    said.say(Some((1, "refused".into())), 0, at(60));
    assert_eq!((said.at, said.failed, said.dropped), (Some(at(60)), 0, 0));
    said.say(None, 0, at(61));
    assert_eq!(said.at, None);
}
