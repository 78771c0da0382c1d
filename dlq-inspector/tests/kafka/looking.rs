//! `topics`, `list` and `show` against a real Kafka.

use crate::common::{Group, expect, expect_with, inspector, run, time};
use dead_letters::{Class, DeadLetter, RequeueOutcome, dlq_topic};
use rdkafka::message::{Header, OwnedHeaders};

#[test]
fn list_shows_what_died_why_and_where() {
    let group = Group::new();
    let old = group.bury_one(7);
    let poison = DeadLetter {
        class: Class::Poison,
        error_code: "not-json".into(),
        error: "expected value at line 1 column 1".into(),
        event_id: None,
        event_type: None,
        ..group.letter(2, 9, 1)
    };
    group.bury(&poison, "k", "no json");
    // A crash may publish a dead letter twice.
    group.bury(&poison, "k", "no json");

    let lines = expect(0, &["list", "--group", &group.name, "-o", "json"]).json();
    assert_eq!(lines.len(), 2, "twins are one: {lines:#?}");
    let [newest, oldest] = &lines[..] else { panic!("two lines") };
    assert!(time(newest, "failed_at") > time(oldest, "failed_at"), "newest first");
    assert_eq!(newest["class"], "poison");
    assert_eq!(newest["error"], "expected value at line 1 column 1");
    assert_eq!(
        (&newest["topic"], &newest["partition"], &newest["offset"]),
        (&"orders".into(), &2.into(), &9.into())
    );
    assert!(newest["event_id"].is_null());
    assert_eq!(oldest["id"], old.to_string());
    assert_eq!(oldest["state"], "open");
    assert_eq!(oldest["error_code"], "amount-over-limit");
    assert_eq!(oldest["key"], "order-7");
    assert_eq!(oldest["generation"], 1);

    let table = expect(0, &["list", "--group", &group.name]).out;
    let line = table.lines().find(|line| line.contains("not-json")).expect("the poison record's line");
    for word in ["poison", "orders/2/9", "open", &group.name] {
        assert!(line.contains(word), "{word} in {line}");
    }
}

#[test]
fn selectors_narrow_and_the_limit_counts_after_them() {
    let group = Group::new();
    for offset in 1..=5 {
        group.bury_one(offset);
    }
    group.bury(&DeadLetter { class: Class::Crash, ..group.letter(1, 100, 1) }, "k", "{}");

    let newest =
        expect(0, &["list", "--group", &group.name, "--class", "permanent", "--limit", "2", "-o", "json"]);
    let offsets: Vec<_> = newest.json().iter().map(|line| line["offset"].as_i64()).collect();
    assert_eq!(offsets, [Some(5), Some(4)]);
    assert!(newest.err.contains("2 of 5 shown"), "{}", newest.err);

    let either = ["list", "--group", &group.name, "--order", "order-2", "--key", "order-3", "-o", "json"];
    assert_eq!(expect(0, &either).json().len(), 2);
    expect(3, &["list", "--group", &group.name, "--code", "something-else"]);
    expect(2, &["list", "--group", "no-such-group"]);
    expect(2, &["list", "--class", "nonsense"]);
}

#[test]
fn list_shows_what_is_open_and_says_what_else_there_is() {
    let group = Group::new();
    let [open, done, closed] = [1, 2, 3].map(|offset| group.bury_one(offset).to_string());
    let list = ["list", "--group", &group.name];
    assert_eq!(expect(0, &list).err, "");
    expect(0, &["requeue", &done, "--execute"]);
    group.serve(1, |_| RequeueOutcome::Applied);
    expect(0, &["discard", &closed, "--reason", "x", "--execute"]);

    let shown = expect(0, &[&list[..], &["-o", "ids"]].concat());
    assert_eq!(shown.out, format!("{open}\n"));
    assert!(shown.err.contains("there are 2 others: 1 resolved, 1 discarded; --all"), "{}", shown.err);
    let all = expect(0, &[&list[..], &["--all", "-o", "ids"]].concat());
    assert_eq!((all.out.lines().count(), all.err.as_str()), (3, ""));
    let resolved = expect(0, &[&list[..], &["--state", "resolved", "-o", "ids"]].concat());
    assert_eq!((resolved.out, resolved.err.as_str()), (format!("{done}\n"), ""));
    expect(2, &[&list[..], &["--all", "--state", "open"]].concat());

    let none = expect(3, &["list", "--group", &group.name, "--key", "order-2"]);
    assert!(none.err.contains("no open dead letter matches; there is 1 other: 1 resolved"), "{}", none.err);
    let none = expect(3, &["requeue", "--group", &group.name, "--key", "order-2"]);
    assert!(none.err.contains("others do: 1 resolved"), "{}", none.err);
    let plan = expect(0, &["requeue", "--group", &group.name, "-o", "ids"]).out;
    assert_eq!(plan, format!("{open}\n"));
    expect_with(0, &["requeue", "-", "--execute"], &plan);
    assert_eq!(group.all_returned().len(), 2);
    expect(2, &["topics", "-o", "ids"]);
}

#[test]
fn a_foreign_record_is_shown_and_breaks_nothing() {
    let group = Group::new();
    let value = Some("who am I?");
    let headers = OwnedHeaders::new().insert(Header { key: "correlation-id", value });
    group.produce(&dlq_topic(&group.name), None, Some(b"\xff\x00 bytes"), headers);
    group.produce(&dlq_topic(&group.name), Some(b"k"), None, OwnedHeaders::new());

    let lines = expect(0, &["list", "--group", &group.name, "--class", "foreign", "-o", "json"]).json();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line["state"] == "foreign" && line["group"] == group.name.as_str()));
    let known =
        lines.iter().find(|line| line["correlation_id"] == "who am I?").expect("what is known is shown");
    let shown = expect(0, &["show", known["id"].as_str().expect("id")]).out;
    assert!(shown.contains("header dlq.id is missing") && shown.contains("ff 00 20"), "{shown}");
    for line in &lines {
        let id = line["id"].as_str().expect("id");
        expect(5, &["requeue", id, "--execute"]);
    }
    assert!(group.all_returned().is_empty());
}

#[test]
fn show_tells_everything_and_masks_secrets() {
    let group = Group::new();
    let letter = group.letter(1, 4, 1);
    let body = r#"{"payload":{"payment_token":"tok_secret","amount_cents":12345678901234567890}}"#;
    group.bury(&letter, "order-4", body);
    let id = letter.id.to_string();

    let shown = expect(0, &["show", &id[..13]]).out;
    for word in [
        &id,
        "open",
        "charging the order",
        "200 over the limit of 100",
        "orders/1 offset 4",
        "traceparent",
        "12345678901234567890",
        "nothing was done with it yet",
    ] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
    assert!(!shown.contains("tok_secret"), "{shown}");
    assert!(expect(0, &["show", &id, "--reveal"]).out.contains("tok_secret"));
    expect(5, &["show", &id, "--raw"]);
    assert_eq!(expect(0, &["show", &id, "--raw", "--reveal"]).out, body, "byte for byte");
    assert!(expect(0, &["show", &id, "--hex", "--reveal"]).out.contains("|{\"payload\":{\"pay|"));

    let line = &expect(0, &["show", &id, "-o", "json"]).json()[0];
    assert_eq!(line["id"], id.as_str());
    assert!(!line["body"].as_str().expect("text").contains("tok_secret"));
    assert_eq!(line["headers"][0], serde_json::json!(["traceparent", "00-abc"]));
    expect(3, &["show", "00000000-0000-0000-0000-000000000000"]);
    expect(2, &["show", "not-an-id"]);
}

#[test]
fn an_ambiguous_beginning_lists_what_it_may_mean() {
    let group = Group::new();
    // Of seventeen ids two begin with the same digit.
    let ids: Vec<_> = (0..17).map(|offset| group.bury_one(offset).to_string()).collect();
    let digit = ids.iter().find_map(|id| {
        let alike = ids.iter().filter(|other| other[..1] == id[..1]).count();
        (alike > 1).then(|| &id[..1])
    });
    let digit = digit.expect("seventeen ids, sixteen digits");
    let run = expect(2, &["show", digit, "--dlq", &dlq_topic(&group.name)]);
    let listed = ids.iter().filter(|id| run.err.contains(id.as_str())).count();
    assert!(listed > 1, "{}", run.err);
}

#[test]
fn topics_counts_by_state() {
    let group = Group::new();
    let (open, done) = (group.bury_one(1), group.bury_one(2));
    expect(0, &["requeue", &done.to_string(), "--execute"]);
    let topics = ["topics", "--group", &group.name, "-o", "json"];
    let line = &expect(0, &topics).json()[0];
    assert_eq!((&line["open"], &line["requeued"], &line["resolved"]), (&1.into(), &1.into(), &0.into()));
    group.serve(1, |_| RequeueOutcome::Applied);
    let line = &expect(0, &topics).json()[0];
    assert_eq!((&line["open"], &line["requeued"], &line["resolved"]), (&1.into(), &0.into(), &1.into()));
    assert_eq!(line["topic"], dlq_topic(&group.name));
    assert!(line["retention_ms"].as_i64().is_some_and(|ms| ms > 0), "{line}");
    assert!(time(line, "oldest_open_deleted_at") > time(line, "oldest_open_at"));
    let table = expect(0, &["topics", "--group", &group.name, "-o", "wide"]).out;
    assert!(table.contains(&dlq_topic(&group.name)), "{table}");
    assert_eq!(group.states()[&open.to_string()], "open");
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let group = Group::new();
    for offset in 0..20 {
        group.bury_one(offset);
    }
    let mut child = inspector(&["list", "--group", &group.name, "-o", "json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the inspector runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn an_unreachable_kafka_and_a_wrong_command_line_have_their_exit_codes() {
    let run = run(&["--brokers", "127.0.0.1:1", "--connect-timeout", "1s", "list"]);
    assert_eq!(run.code, Some(6), "{run:?}");
    assert!(run.err.contains("cannot reach Kafka at 127.0.0.1:1"), "{}", run.err);
    expect(2, &["list", "--limit", "0"]);
    expect(2, &["frobnicate"]);
    let none = inspector(&["list"]).env_remove("KAFKA_BROKERS").output().expect("the inspector runs");
    assert_eq!(none.status.code(), Some(2));
}
