//! `requeue` against a real Kafka; the test plays the consumer.

use std::{
    collections::BTreeSet,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::common::{Group, LIMIT, client, end, expect, run, spawn, wait_for};
use chrono::Utc;
use dead_letters::{ACTIONS_TOPIC, Action, Entry, RequeueOutcome};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use uuid::Uuid;

#[test]
fn a_plan_writes_nothing_and_names_the_command() {
    let group = Group::new();
    let id = group.bury_one(1).to_string();
    let plan = expect(0, &["requeue", &id]).out;
    assert!(plan.contains("1 dead letter to requeue") && plan.contains("permanent"), "{plan}");
    let command =
        plan.lines().find(|line| line.contains("--execute")).expect("the command").trim().to_owned();

    let line = &expect(0, &["requeue", "--group", &group.name, "-o", "json"]).json();
    assert_eq!((&line[0]["event"], &line[0]["id"]), (&"planned".into(), &id.clone().into()));
    assert_eq!((&line[1]["event"], &line[1]["letters"]), (&"plan".into(), &1.into()));
    assert!(group.all_returned().is_empty() && group.ledger().is_empty(), "a plan writes nothing");

    let args: Vec<_> = command.split(' ').skip(1).collect();
    expect(0, &args);
    assert_eq!(group.all_returned().len(), 1, "the command does what was shown");
}

#[test]
fn execute_writes_the_record_and_its_line_together() {
    let group = Group::new();
    let letter = group.letter(5, 3, 1);
    group.bury(&letter, "order-3", r#"{"a":1}"#);
    let id = letter.id.to_string();
    let args = ["requeue", &id, "--execute", "--as", "kim@desk", "--reason", "limit raised", "-o", "json"];
    assert_eq!(expect(0, &args).ids("requeued"), [id.as_str()]);

    let [record] = &group.all_returned()[..] else { panic!("one record") };
    assert_eq!(record.key.as_deref(), Some(&b"order-3"[..]));
    assert_eq!(record.value.as_deref(), Some(&br#"{"a":1}"#[..]));
    assert_eq!(record.partition, 5 % 3, "the origin's partition, as far as there are so many");
    assert_eq!(record.headers.text("traceparent"), Some("00-abc"));
    assert_eq!((record.letter.id, record.letter.generation), (letter.id, 2));
    assert_eq!((&record.letter.origin, record.letter.offset), (&letter.origin, letter.offset));

    let ledger = group.ledger();
    let [line] = &ledger[&letter.id][..] else { panic!("one line") };
    assert_eq!(line.action, Action::Requeue { generation: 2 });
    assert_eq!((line.by.as_str(), line.reason.as_deref()), ("kim@desk", Some("limit raised")));
    assert_eq!(group.states()[&id], "requeued", "not resolved before its outcome");
    let shown = expect(0, &["show", &id]).out;
    for word in ["kim@desk", "requeued as generation 2: limit raised", "no outcome yet"] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
}

#[test]
fn wait_tells_applied_and_then_already_applied() {
    let group = Group::new();
    let id = group.bury_one(1).to_string();
    let wait = ["requeue", &id, "--execute", "--wait", "-o", "json"];

    let child = spawn(&wait);
    group.serve(1, |_| RequeueOutcome::Applied);
    let first = end(child);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(first.json().last().expect("a summary")["resolved"], 1);
    assert_eq!(group.states()[&id], "resolved");
    expect(3, &["requeue", "--group", &group.name, "--execute"]);

    let plan = expect(0, &["requeue", &id]).out;
    assert!(plan.contains("already resolved"), "{plan}");
    let plan = expect(0, &["requeue", &id, "-o", "json"]).json();
    assert_eq!((&plan[0]["state"], &plan[1]["already_resolved"]), (&"resolved".into(), &1.into()));
    // By its id it may be put back again; the consumer has the last word.
    let child = spawn(&["requeue", &id, "--execute", "--wait"]);
    assert_eq!(group.returned(2).len(), 2);
    group.answer(id.parse().expect("an id"), 2, RequeueOutcome::AlreadyApplied);
    let second = end(child);
    assert_eq!(second.code, Some(0), "{second:?}");
    assert!(second.out.contains("already applied"), "{}", second.out);
    assert_eq!(group.states()[&id], "resolved");
}

#[test]
fn a_letter_that_dies_again_is_replaced_by_the_new_one() {
    let group = Group::new();
    let id = group.bury_one(1).to_string();
    let child = spawn(&["requeue", &id, "--execute", "--wait", "-o", "json"]);
    group.serve(1, |_| RequeueOutcome::DeadAgain);
    let run = end(child);
    assert_eq!(run.code, Some(4), "{run:?}");
    let lines = run.json();
    let outcome = lines.iter().find(|line| line["event"] == "outcome").expect("an outcome");
    let new = outcome["dead_again_as"].as_str().expect("the new letter's id");
    assert_eq!(outcome["outcome"], "dead-again");

    let states = group.states();
    assert_eq!((states[&id].as_str(), states[new].as_str()), ("dead-again", "open"));
    let shown = expect(0, &["show", new]).out;
    assert!(shown.contains("generation 2: dead again"), "the history of the first try: {shown}");
    for args in [&["requeue", &id, "--execute"][..], &["requeue", &id]] {
        let refused = expect(5, args);
        assert!(refused.out.contains(new), "says which one to requeue instead: {}", refused.out);
    }
}

#[test]
fn waiting_ends_with_what_is_outstanding() {
    let group = Group::new();
    let ids = [group.bury_one(1), group.bury_one(2)].map(|id| id.to_string());
    let args = ["requeue", "--group", &group.name, "--execute", "--wait", "--timeout", "500ms", "-o", "json"];
    let run = expect(4, &args);
    assert_eq!(run.ids("outstanding").into_iter().collect::<BTreeSet<_>>(), ids.clone().into());
    assert_eq!(group.all_returned().len(), 2, "the requeue itself stands");
    assert!(group.states().values().all(|state| state == "requeued"));
    let plan = expect(0, &["requeue", &ids[0]]).out;
    assert!(plan.contains("no outcome yet"), "it may still be on its way: {plan}");
}

#[test]
fn a_fourth_generation_needs_force_and_the_order_of_a_key_is_kept() {
    let group = Group::new();
    let third = group.letter(0, 1, 3);
    group.bury(&third, "k", "{}");
    for offset in [9, 5, 7] {
        group.bury(&group.letter(0, offset, 1), "k", "{}");
    }
    let seventh = group.letter(0, 7, 1).id.to_string();
    let plan = expect(0, &["requeue", &seventh]).out;
    assert!(plan.contains("would be overtaken"), "{plan}");

    expect(5, &["requeue", "--group", &group.name]);
    let refused = expect(5, &["requeue", "--group", &group.name, "--execute", "-o", "json"]);
    assert_eq!(refused.ids("left-out"), [third.id.to_string()]);
    let offsets: Vec<_> = group.all_returned().iter().map(|record| record.letter.offset.0).collect();
    assert_eq!(offsets, [5, 7, 9], "the rest, in the order of the source");

    expect(5, &["requeue", &third.id.to_string(), "--execute"]);
    expect(0, &["requeue", &third.id.to_string(), "--execute", "--force"]);
    assert_eq!(group.all_returned().len(), 4);
}

#[test]
fn mistakes_are_refused_before_anything_is_written() {
    let group = Group::new();
    let id = group.bury_one(1).to_string();
    expect(2, &["requeue", "--execute"]);
    expect(2, &["requeue", &id, "--wait"]);
    let unknown = Uuid::new_v4().to_string();
    expect(3, &["requeue", &id, &unknown, "--execute"]);
    assert!(group.all_returned().is_empty());
}

#[test]
fn many_letters_go_in_several_transactions_and_each_once() {
    let group = Group::new();
    let ids: BTreeSet<_> = (0..450).map(|offset| group.bury_one(offset)).collect();
    let run = expect(0, &["requeue", "--group", &group.name, "--execute"]);
    assert!(run.out.contains("requeued 450 of 450 dead letters"), "{}", run.out);
    let returned: Vec<_> = group.all_returned().iter().map(|record| record.letter.id).collect();
    assert_eq!(returned.len(), 450);
    assert_eq!(returned.into_iter().collect::<BTreeSet<_>>(), ids);
    assert!(group.ledger().values().all(|lines| lines.len() == 1));
}

#[test]
fn what_changed_since_the_plan_is_dropped_even_behind_an_open_transaction() {
    let group = Group::new();
    let id = group.bury_one(1);
    let other: ThreadedProducer<rdkafka::producer::DefaultProducerContext> =
        client().set("transactional.id", format!("test-{}", Uuid::new_v4())).create().expect("a producer");
    other.init_transactions(LIMIT).expect("initialised");
    other.begin_transaction().expect("begun");
    let entry = Entry {
        dlq_id: id,
        group: group.name.clone(),
        action: Action::Requeue { generation: 2 },
        at: Utc::now(),
        by: "kim@desk".into(),
        job: None,
        reason: None,
    };
    let (key, line) = (id.to_string(), serde_json::to_vec(&entry).expect("JSON"));
    other.send(BaseRecord::to(ACTIONS_TOPIC).key(&key).payload(&line)).map_err(|(e, _)| e).expect("enqueued");
    other.flush(LIMIT).expect("written, not yet committed");

    let mut child = spawn(&["requeue", &key, "--execute"]);
    wait_for(&mut child, "1 dead letter to requeue");
    // Until the transaction is decided nobody knows whether the letter was put back: it must not go on.
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        assert!(
            child.try_wait().expect("a status").is_none(),
            "it acted on a ledger it had not read to its end"
        );
        thread::sleep(Duration::from_millis(20));
    }
    assert!(group.all_returned().is_empty());
    other.commit_transaction(LIMIT).expect("committed");
    let run = end(child);
    assert_eq!(run.code, Some(4), "{run:?}");
    assert!(group.all_returned().is_empty(), "it was put back by the other operator");
}

#[test]
fn a_second_operator_fences_the_first() {
    let group = Group::new();
    let ids: Vec<_> = (0..15).map(|offset| group.bury_one(offset)).collect();
    let mut first = spawn(&["requeue", "--group", &group.name, "--execute", "--rate", "1/s"]);
    wait_for(&mut first, "requeued to");
    let last = ids.last().expect("fifteen").to_string();
    expect(0, &["requeue", &last, "--execute"]);
    let first = end(first);
    assert_eq!(first.code, Some(7), "{first:?}");
    let returned: Vec<_> = group.all_returned().iter().map(|record| record.letter.id).collect();
    let once: BTreeSet<_> = returned.iter().copied().collect();
    assert_eq!(once.len(), returned.len(), "none was put back twice");
    assert!(returned.len() < ids.len(), "the first stopped");
    assert_eq!(group.ledger().into_keys().collect::<BTreeSet<_>>(), once, "record and line go together");
}

#[test]
fn an_interrupt_finishes_the_transaction_and_a_second_run_goes_on() {
    let group = Group::new();
    let ids: BTreeSet<_> = (0..8).map(|offset| group.bury_one(offset)).collect();
    let args = ["requeue", "--group", &group.name, "--execute", "--rate", "1/s"];
    let mut child = spawn(&args);
    wait_for(&mut child, "requeued to");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    let stopped = end(child);
    assert_eq!(stopped.code, Some(130), "{stopped:?}");
    let before = group.all_returned().len();
    assert!((1..8).contains(&before), "{before} were put back before the stop");
    assert_eq!(group.ledger().len(), before);

    let rest = run(&["requeue", "--group", &group.name, "--execute", "-o", "json"]);
    assert_eq!(rest.ids("requeued").len(), 8 - before, "{rest:?}");
    let returned: Vec<_> = group.all_returned().iter().map(|record| record.letter.id).collect();
    assert_eq!((returned.len(), returned.into_iter().collect::<BTreeSet<_>>()), (8, ids));
}
