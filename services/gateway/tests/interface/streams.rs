//! Orders that are followed through the gateway.

use std::time::Duration;

use chassis::shutdown::Trigger;
use reqwest::Response;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::support::{LIMIT, Trial, UNLIMITED, client, gateway, place, token};

async fn follow(address: std::net::SocketAddr, id: &str, last: &str) -> Response {
    let request = client().get(format!("http://{address}/orders/{id}/events"));
    let request = request.bearer_auth(token("kim", &json!({}))).header("last-event-id", last);
    request.send().await.expect("an answer")
}

/// Reads until `text` has come, or the end.
async fn until(stream: &mut Response, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        let chunk = timeout(LIMIT, stream.chunk()).await.expect("something within the limit");
        let Some(chunk) = chunk.expect("no error") else { break };
        read.push_str(std::str::from_utf8(&chunk).expect("a text"));
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_through_another_gateway_when_its_own_stops() {
    let trial = Trial::start().await;
    let (address, stop) = gateway(trial.orders, &UNLIMITED).await;
    let (other, _stays) = gateway(trial.orders, &UNLIMITED).await;
    let id = place(address, &token("kim", &json!({})), &json!({"item": "soup"})).await;
    let mut stream = follow(address, &id, "0").await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert_eq!(stream.headers()["cache-control"], "no-store");
    until(&mut stream, "event: order").await;
    let stopped = Instant::now();
    Trigger::fire(&stop);
    let rest = until(&mut stream, "never").await;
    assert!(rest.trim().is_empty(), "{rest}");
    assert!(stopped.elapsed() < Duration::from_secs(2), "{:?}", stopped.elapsed());

    let mut again = follow(other, &id, "1").await;
    let cancel = client().post(format!("http://{other}/orders/{id}/cancel"));
    cancel.bearer_auth(token("kim", &json!({}))).send().await.expect("an answer");
    let rest = until(&mut again, "never").await;
    assert!(rest.contains("id: 2\n") && rest.contains("\"status\":\"CANCELLED\""), "{rest}");
    assert!(!rest.contains("ORDER_CREATED"), "{rest}");
}

/// Orders that wait take a place of their own kind, and the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_follow_leave_room_for_those_who_ask() {
    let trial = Trial::start().await;
    let (address, _stop) =
        gateway(trial.orders, &[&UNLIMITED[..], &["--max-streams", "2", "--max-in-flight", "1"]].concat())
            .await;
    let kim = token("kim", &json!({}));
    let id = place(address, &kim, &json!({"item": "soup"})).await;
    let (one, _two) = (follow(address, &id, "0").await, follow(address, &id, "0").await);
    assert_eq!(follow(address, &id, "0").await.status(), 503);
    let get = async |path: &str| {
        let request = client().get(format!("http://{address}/orders/{id}{path}")).bearer_auth(&kim);
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!((get("").await, get("?wait=1").await), (200, 503));
    drop(one);
    let freed = async {
        while get("?wait=1").await == 503 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, freed).await.expect("the place of one who has gone is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_caller_follows_only_so_many() {
    let trial = Trial::start().await;
    let few = [&UNLIMITED[..], &["--streams-per-caller", "2"]].concat();
    let (address, _stop) = gateway(trial.orders, &few).await;
    let id = place(address, &token("kim", &json!({})), &json!({"item": "soup"})).await;
    let streams = [follow(address, &id, "0").await, follow(address, &id, "0").await];
    let refused = follow(address, &id, "0").await;
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (429, true));
    let boss = token("boss", &json!({"role": "operator"}));
    let other = client().get(format!("http://{address}/orders/{id}/events")).bearer_auth(boss);
    assert_eq!(other.send().await.expect("an answer").status(), 200, "others are not held up");
    drop(streams);
}

/// Else the gateway would not be done in time, and the wait would be cut off without an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_at_a_gateway_that_stops_is_told_to_ask_again() {
    let trial = Trial::start().await;
    let (address, stop) = gateway(trial.orders, &UNLIMITED).await;
    let kim = token("kim", &json!({}));
    let id = place(address, &kim, &json!({"item": "soup"})).await;
    let request = client().get(format!("http://{address}/orders/{id}?wait=20")).bearer_auth(&kim).send();
    let waiting = tokio::spawn(request);
    let followed = async {
        while trial.followed() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, followed).await.expect("it waits");
    let stopped = Instant::now();
    Trigger::fire(&stop);
    let answer = waiting.await.expect("no panic").expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (503, true));
    assert!(stopped.elapsed() < Duration::from_secs(2), "{:?}", stopped.elapsed());
}

/// A token is looked at when a stream is opened, and holds no longer than it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_token_that_opened_it() {
    let trial = Trial::start().await;
    let (address, _stop) = gateway(trial.orders, &UNLIMITED).await;
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    // Clocks may differ by 30 seconds: it is over by its own, and not for those.
    let short = token("kim", &json!({"exp": now - 26}));
    let id = place(address, &token("kim", &json!({})), &json!({"item": "soup"})).await;
    let request = client().get(format!("http://{address}/orders/{id}/events")).bearer_auth(short);
    let mut stream = request.send().await.expect("an answer");
    assert_eq!(stream.status(), 200);
    let rest = until(&mut stream, "never").await;
    assert!(rest.contains("PENDING"), "{rest}");
}

/// An answer that orders gives late, as it was asked to, is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_may_be_longer_than_other_answers_may_take() {
    let trial = Trial::start().await;
    let short = [&UNLIMITED[..], &["--response-timeout-ms", "700"]].concat();
    let (address, _stop) = gateway(trial.orders, &short).await;
    let kim = token("kim", &json!({}));
    let id = place(address, &kim, &json!({"item": "soup"})).await;
    let started = Instant::now();
    let request = client().get(format!("http://{address}/orders/{id}?wait=2")).bearer_auth(&kim);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
}
