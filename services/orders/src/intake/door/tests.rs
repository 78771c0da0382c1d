use super::*;
use crate::request::Accepts;

fn request() -> Request {
    Request::parse(b"", Accepts { test_tokens: false, max_amount_cents: 5_000 }).expect("the default order")
}

fn correlation() -> Correlation {
    Correlation { id: "c-1".into(), traceparent: "00-a-b-01".into() }
}

#[tokio::test]
async fn an_order_and_its_event_agree() {
    let (door, mut jobs) = door(1);
    let placed = tokio::spawn(async move { door.place(request(), None, correlation()).await });
    let job = jobs.recv().await.expect("a job");
    let contracts::Parsed::Event(envelope) =
        Envelope::parse(job.emit.value.as_deref().expect("a body")).expect("ours")
    else {
        panic!("ours")
    };
    assert_eq!(envelope.event_id, job.order.created.event_id);
    let contracts::Event::OrderCreated(event) = envelope.event else { panic!("{envelope:?}") };
    assert_eq!((event.order_id, event.amount_cents), (job.order.order_id, job.order.amount_cents));
    assert_eq!(job.emit.headers.text("traceparent"), Some("00-a-b-01"));
    let answer = Ok(Placed { order_id: job.order.order_id, replayed: false });
    job.reply.send(answer.clone()).expect("somebody waits");
    assert_eq!(placed.await.expect("no panic"), answer);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_lost_answer_is_unknown() {
    let (door, mut jobs) = door(1);
    let first = tokio::spawn({
        let door = door.clone();
        async move { door.place(request(), None, correlation()).await }
    });
    while jobs.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(door.place(request(), None, correlation()).await, Err(Refusal::Busy(_))));
    let job = jobs.recv().await.expect("the first");
    let id = job.order.order_id;
    drop(job);
    assert_eq!(first.await.expect("no panic"), Err(Refusal::Unknown(id)));
    drop(jobs);
    assert!(matches!(door.place(request(), None, correlation()).await, Err(Refusal::Busy(_))), "closed");
}
