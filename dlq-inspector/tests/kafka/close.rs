//! `discard` and `restore` against a real Kafka.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use crate::common::{Group, LIMIT, end, expect, expect_with, run, spawn, wait_for};
use dead_letters::{Action, RequeueOutcome, dlq_topic};
use rdkafka::message::OwnedHeaders;

fn command(plan: &str) -> Vec<String> {
    let line = plan.lines().find(|line| line.contains("--execute")).expect("the command");
    line.trim().split(' ').skip(1).map(str::to_owned).collect()
}

#[test]
fn a_plan_writes_nothing_and_its_command_closes_just_that() {
    let group = Group::new();
    let ids: Vec<_> = (1..=25).map(|offset| group.bury_one(offset)).collect();
    let plan = expect(0, &["discard", "--group", &group.name, "--reason", "tests", "--as", "kim@desk"]).out;
    for word in ["25 dead letters to discard", "amount-over-limit", "reason: tests", "Nothing was written"] {
        assert!(plan.contains(word), "{word} in {plan}");
    }
    assert!(group.ledger().is_empty(), "a plan writes nothing");
    let late = group.letter(0, 99, 1);
    group.bury(&dead_letters::DeadLetter { failed_at: chrono::Utc::now(), ..late.clone() }, "k", "{}");

    let command = command(&plan);
    expect(0, &command.iter().map(String::as_str).collect::<Vec<_>>());
    let ledger = group.ledger();
    assert_eq!(ledger.keys().collect::<BTreeSet<_>>(), ids.iter().collect(), "what died later is not meant");
    let lines: Vec<_> = ledger.values().flatten().collect();
    assert_eq!(lines.len(), 25);
    for line in lines {
        assert_eq!((&line.action, line.by.as_str()), (&Action::Discard, "kim@desk"));
        assert!(line.reason.as_deref() == Some("tests") && line.job.is_some(), "{line:?}");
    }
    assert!(group.all_returned().is_empty(), "nothing is put back");
    assert_eq!(group.states()[&late.id.to_string()], "open");
    expect(3, &["discard", "--group", &group.name, "--code", "other", "--reason", "x"]);
}

#[test]
fn what_is_discarded_is_not_open_says_why_and_comes_back_as_it_was() {
    let group = Group::new();
    let (open, gone) = (group.bury_one(1).to_string(), group.bury_one(2).to_string());
    let done = expect(0, &["discard", &gone, "--reason", "a test order", "--execute", "-o", "json"]);
    assert_eq!(done.ids("discarded"), [gone.as_str()]);
    assert_eq!(done.json().last().expect("a summary")["done"], 1);

    let topics = ["topics", "--group", &group.name, "-o", "json"];
    let line = &expect(0, &topics).json()[0];
    assert_eq!((&line["open"], &line["discarded"]), (&1.into(), &1.into()));
    let listed = expect(0, &["list", "--group", &group.name, "--state", "open", "-o", "json"]).json();
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &open.clone().into()));
    let shown = expect(0, &["show", &gone]).out;
    for word in ["discarded: a test order", "@"] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
    let history = &expect(0, &["show", &gone, "-o", "json"]).json()[0];
    assert_eq!(history["state"], "discarded");
    assert_eq!(
        (&history["history"][0]["action"], &history["history"][0]["reason"]),
        (&"discard".into(), &"a test order".into())
    );

    let refused = expect(5, &["requeue", &gone, "--execute"]);
    assert!(refused.out.contains("`restore` it first"), "{}", refused.out);
    expect(5, &["requeue", &gone, "--execute", "--force"]);
    let twice = expect(5, &["discard", &gone, "--reason", "again", "--execute"]);
    assert!(twice.out.contains("discarded already"), "{}", twice.out);
    assert!(group.all_returned().is_empty() && group.ledger()[&gone.parse().expect("id")].len() == 1);

    let other = expect(5, &["restore", &open, "--reason", "x"]);
    assert!(other.out.contains("it is open"), "{}", other.out);
    expect(0, &["restore", "--group", &group.name, "--reason", "it was real", "--execute"]);
    assert_eq!(group.states()[&gone], "open");
    expect(0, &["requeue", &gone, "--execute"]);
    assert_eq!(group.all_returned().len(), 1);
}

#[test]
fn what_has_another_state_is_left_with_its_reason_and_restored_to_it() {
    let group = Group::new();
    let [requeued, resolved, again] = [1, 2, 3].map(|offset| group.bury_one(offset));
    let all = [requeued, resolved, again].map(|id| id.to_string());
    expect(0, &["requeue", &all[0], &all[1], &all[2], "--execute"]);
    group.answer(resolved, 2, RequeueOutcome::Applied);
    let next = group.letter(0, 3, 2);
    group.bury(&next, "order-3", "{}");
    group.answer(again, 2, RequeueOutcome::DeadAgain);

    let discard = ["discard", &all[0], &all[1], &all[2], "--reason", "x", "--execute", "-o", "json"];
    let refused = expect(5, &discard);
    assert_eq!(refused.ids("left-out").into_iter().collect::<BTreeSet<_>>(), all.clone().into());
    assert!(refused.out.contains("--force") && refused.out.contains(&next.id.to_string()), "{}", refused.out);
    expect(0, &["discard", &all[0], "--reason", "its group is gone", "--execute", "--force"]);
    assert_eq!(group.states()[&all[0]], "discarded");
    expect(0, &["restore", &all[0], "--reason", "x", "--execute"]);
    assert_eq!(group.states()[&all[0]], "requeued");
    expect(0, &["discard", &all[0], "--reason", "its group is gone", "--execute", "--force"]);
    group.answer(requeued, 2, RequeueOutcome::Applied);
    assert_eq!(group.states()[&all[0]], "resolved", "its group was there after all");

    group.produce(&dlq_topic(&group.name), Some(b"k"), Some(b"who am I?"), OwnedHeaders::new());
    expect(0, &["discard", "--group", &group.name, "--class", "foreign", "--reason", "x", "--execute"]);
    let states = group.states();
    assert_eq!(states.values().filter(|state| *state == "discarded").count(), 1, "{states:?}");
    expect(0, &["restore", "--group", &group.name, "--reason", "x", "--execute"]);
    assert_eq!(group.states().values().filter(|state| *state == "foreign").count(), 1);
}

#[test]
fn mistakes_are_refused_before_anything_is_written() {
    let group = Group::new();
    let id = group.bury_one(1).to_string();
    expect(2, &["discard", &id, "--execute"]);
    expect(2, &["discard", &id, "--execute", "--reason", " "]);
    expect(2, &["discard", "--reason", "x", "--execute"]);
    expect(3, &["discard", &id, "00000000-0000-0000-0000-000000000000", "--reason", "x", "--execute"]);
    expect_with(3, &["discard", "-", "--reason", "x", "--execute"], "");
    expect_with(2, &["discard", "-", "--reason", "x", "--execute"], "{}");
    assert!(group.ledger().is_empty());
    let ids = format!("{id}\n");
    expect_with(0, &["discard", "-", "--reason", "x", "--execute"], &ids);
    assert_eq!(group.ledger().len(), 1);
    expect_with(0, &["restore", "-", "--reason", "x", "--execute"], &ids);
    expect_with(0, &["requeue", "-", "--execute"], &ids);
    assert_eq!(group.all_returned().len(), 1);
}

#[test]
fn one_that_is_killed_and_run_again_closes_each_once() {
    let group = Group::new();
    let ids: BTreeSet<_> = (0..900).map(|offset| group.bury_one(offset)).collect();
    let args = ["discard", "--group", &group.name, "--reason", "x", "--execute"];
    let mut child = spawn(&args);
    wait_for(&mut child, "discarded 200 of 900");
    child.kill().expect("killed");
    child.wait().expect("it ended");
    // A transaction that it had open is the brokers' until the next run takes the group over.
    let rest = run(&[&args[..], &["-o", "json"]].concat());
    assert!(matches!(rest.code, Some(0 | 4)), "one whose commit was decided only now is said: {rest:?}");
    let ledger = group.ledger();
    assert_eq!(ledger.keys().copied().collect::<BTreeSet<_>>(), ids);
    assert!(ledger.values().all(|lines| lines.len() == 1), "each once");
}

#[test]
fn a_second_operator_fences_the_first_whatever_either_does() {
    let group = Group::new();
    let ids: Vec<_> = (0..15).map(|offset| group.bury_one(offset)).collect();
    let mut first = spawn(&["requeue", "--group", &group.name, "--execute", "--rate", "1/s"]);
    wait_for(&mut first, "requeued to");
    let last = ids.last().expect("fifteen").to_string();
    expect(0, &["discard", &last, "--reason", "x", "--execute"]);
    let first = end(first);
    assert_eq!(first.code, Some(7), "{first:?}");
    assert!(group.ledger().values().all(|lines| lines.len() == 1), "no letter is in two hands");
    assert_eq!(group.states()[&last], "discarded");
}

#[test]
fn two_who_discard_at_once_close_each_letter_once() {
    let group = Group::new();
    let ids: BTreeSet<_> = (0..600).map(|offset| group.bury_one(offset)).collect();
    let args = ["discard", "--group", &group.name, "--reason", "x", "--execute", "-o", "json"];
    let both: Vec<_> = (0..2).map(|_| spawn(&args)).collect();
    let codes: Vec<_> = both.into_iter().map(|child| end(child).code).collect();
    let begun = Instant::now();
    // Whoever was fenced, or found letters changed since its plan, looks again.
    while group.ledger().len() < ids.len() {
        assert!(begun.elapsed() < LIMIT, "{codes:?}");
        run(&args);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 3 | 4 | 7))), "{codes:?}");
    let ledger = group.ledger();
    assert_eq!(ledger.keys().copied().collect::<BTreeSet<_>>(), ids);
    assert!(ledger.values().all(|lines| lines.len() == 1), "each once");
}
