use std::sync::Arc;

use axum::http::HeaderValue;
use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

#[tokio::test]
async fn an_operator_is_told_what_was_done_or_why_not() {
    let health = Health::new("trial");
    assert_eq!(post_json(&health, "/partitions/orders/2/pause", "").await.0, 404, "there is no group");
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    for (path, body, done) in [
        ("/partitions/orders/2/pause", "", "Pause(orders/2)"),
        ("/partitions/orders/2/resume", "", "Resume(orders/2)"),
        (
            "/partitions/orders/2/reset",
            r#"{"to":"start"}"#,
            "Reset(orders/2, Start, Consent { force: false, from: None })",
        ),
        (
            "/partitions/orders/2/reset",
            r#"{"to":17,"force":true,"from":9}"#,
            "Reset(orders/2, Offset(17), Consent { force: true, from: Some(9) })",
        ),
    ] {
        assert_eq!(post_json(&health, path, body).await, (200, json!({"done": done})), "{path}");
    }
    let retry = r#"{"topic":"orders","partition":2,"key":"k"}"#;
    let (status, body) = post_json(&health, "/parked/retry", retry).await;
    assert_eq!(
        (status, &body["done"]),
        (200, &json!(r#"RetryNow { partition: orders/2, which: Key("k") }"#))
    );
    let by_id = r#"{"topic":"orders","partition":2,"id":7}"#;
    let (_, body) = post_json(&health, "/parked/retry", by_id).await;
    assert_eq!(body["done"], json!("RetryNow { partition: orders/2, which: Id(7) }"));
    let dead_letter = r#"{"topic":"orders","partition":2,"key":"k","reason":"by hand"}"#;
    for (path, body, status) in [
        ("/parked/dead-letter", dead_letter, 404),
        ("/parked/give-up", dead_letter, 404),
        ("/parked/dead-letter", retry, 422),
        ("/parked/retry", "nonsense", 422),
        ("/partitions/orders/2/reset", r#"{"to":1.5}"#, 422),
        ("/partitions/orders/2/reset", r#"{"to":"end","forse":true}"#, 422),
        ("/parked/retry", r#"{"topic":"orders","partition":2}"#, 422),
        ("/partitions/orders/2/reset", r#"{"to":"somewhere"}"#, 422),
        ("/partitions/orders/9/pause", "", 409),
        ("/partitions/orders/two/pause", "", 400),
    ] {
        assert_eq!(post_json(&health, path, body).await.0, status, "{path} {body}");
    }
}

#[tokio::test]
async fn an_error_of_the_body_is_in_our_words() {
    let health = Health::new("trial");
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    for body in [
        "nonsense",
        "{}",
        r#"{"to":"end","force":"yes"}"#,
        r#"{"to":"end","from":"x"}"#,
        r#"{"what":1}"#,
        "[]",
    ] {
        let (status, body) = post_json(&health, "/partitions/orders/2/reset", body).await;
        let said = body["detail"].as_str().expect("a text");
        assert_eq!(status, 422, "{said}");
        for word in ["i64", "struct", "enum", "untagged", "variant", "Option", "yes"] {
            assert!(!said.contains(word), "{said}");
        }
    }
}

#[tokio::test]
async fn a_partition_that_a_path_does_not_name_is_told_in_our_words() {
    let health = Health::new("trial");
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    for place in ["orders/two", "orders/-1", "orders/2147483648", "%ff/2"] {
        for (what, body) in [("pause", ""), ("resume", ""), ("reset", r#"{"to":"start"}"#)] {
            let mut request = post(&format!("/partitions/{place}/{what}"), body);
            request.headers_mut().insert("x-correlation-id", HeaderValue::from_static("c-7"));
            let (status, problem) = answer(&health, request).await;
            let said = problem["detail"].as_str().expect("a text");
            assert_eq!((status, &problem["correlation_id"]), (400, &json!("c-7")), "{place}: {said}");
            assert!(said.contains("in the path") && said.contains("`/partitions`"), "{said}");
            for word in ["i32", "parse", "index", "URL", "two"] {
                assert!(!said.contains(word), "{said}");
            }
        }
    }
    for query in ["limit=many", "limit=-1", "limit=1&limit=2"] {
        let (status, problem) = get_json(&health, &format!("/parked?{query}")).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (400, &json!("limit")), "{query}: {problem}");
    }
}

/// Who reads the log finds each time that somebody asked, once, and what became of it.
#[tokio::test]
async fn what_an_operator_asks_for_is_one_line_whether_it_is_done_or_refused() {
    let health = Health::new("trial");
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    let waiting = r#"{"topic":"orders","partition":2,"key":"k"}"#;
    for (path, body, found) in [
        ("/partitions/orders/2/pause", "", "done=\"Pause(orders/2)\""),
        ("/partitions/orders/9/pause", "", "status=409"),
        ("/partitions/orders/two/pause", "", "status=400"),
        ("/partitions/orders/2/reset", r#"{"to":"start"}"#, "partition=2"),
        ("/partitions/orders/2/reset", r#"{"to":"somewhere"}"#, "status=422"),
        ("/parked/retry", waiting, "topic=\"orders\""),
        ("/parked/retry", "nonsense", "status=422"),
        ("/parked/retry", r#"{"topic":"orders","partition":2}"#, "why=\"key: either a key or an id"),
        ("/parked/dead-letter", waiting, "status=422"),
        ("/partitions/orders/8/resume", "", "which is done in part"),
    ] {
        let written = Arc::new(Mutex::new(Vec::new()));
        let to = written.clone();
        let lines =
            tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || Written(to.clone()));
        let listening = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines));
        post_json(&health, path, body).await;
        drop(listening);
        let text = String::from_utf8(written.lock().clone()).expect("UTF-8");
        let lines: Vec<_> = text.lines().filter(|line| line.contains("an operator asked")).collect();
        assert!(lines.len() == 1 && lines[0].contains(found), "{path} {body}: {text}");
        assert!(lines[0].contains("correlation_id"), "{text}");
    }
}

/// A caller that goes away takes nothing with it that was begun.
#[tokio::test]
async fn what_was_asked_for_is_done_and_logged_though_nobody_waits_for_it() {
    let health = Health::new("trial");
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    let written = Arc::new(Mutex::new(Vec::new()));
    let to = written.clone();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || Written(to.clone()));
    let _listening = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines));
    for what in ["pause", "resume"] {
        let asking = answer(&health, post(&format!("/partitions/orders/7/{what}"), ""));
        assert!(asking.now_or_never().is_none(), "it takes its time");
    }
    let said = || String::from_utf8(written.lock().clone()).expect("UTF-8");
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let done = said().matches("an operator asked for this").count();
    assert_eq!(done, 2, "{}", said());
}

/// Takes lines of the log.
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn one_reset_at_a_time() {
    let health = Health::new("trial");
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    let held = health.resetting().try_lock_owned().expect("free");
    let path = "/partitions/orders/2/reset";
    assert_eq!(post_json(&health, path, r#"{"to":"start"}"#).await.0, 429);
    drop(held);
    assert_eq!(post_json(&health, path, r#"{"to":"start"}"#).await.0, 200);
}
