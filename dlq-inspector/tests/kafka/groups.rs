//! `groups` against a real Kafka.

use crate::common::{Group, end, expect, spawn, time};
use dead_letters::{Class, DeadLetter, RequeueOutcome, dlq_topic, fingerprint};

#[test]
fn letters_are_counted_by_cause_with_what_was_tried() {
    let group = Group::new();
    let ids: Vec<_> = (1..=3).map(|offset| group.bury_one(offset)).collect();
    let mark = fingerprint(Class::Poison, "not-json", "no json");
    let poison = DeadLetter {
        class: Class::Poison,
        error_code: "not-json".into(),
        error: "no json".into(),
        fingerprint: mark.clone(),
        ..group.letter(1, 9, 1)
    };
    group.bury(&poison, "k", "no json");
    group.bury(&DeadLetter { build: "1.2.4".into(), ..group.letter(2, 500, 1) }, "k", "{}");

    let groups = ["groups", "--group", &group.name, "-o", "json"];
    let lines = expect(0, &groups).json();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let first = &lines[0];
    assert_eq!((&first["letters"], &first["keys"], &first["build"]), (&3.into(), &3.into(), &"1.2.3".into()));
    assert_eq!((&first["class"], &first["error_code"]), (&"permanent".into(), &"amount-over-limit".into()));
    assert_eq!(first["error"], "charging the order: 200 over the limit of 100");
    assert!(first["last_requeued_at"].is_null() && first["note"].is_null());
    assert_eq!(first["sample_id"], ids[2].to_string());
    let newest = expect(0, &[&groups[..], &["--sort", "newest"]].concat()).json();
    assert_eq!(newest[0]["build"], "1.2.4");
    let died = time(first, "first_failed_at");

    // One dies again: it is still of its first death, and what was tried is told.
    let id = ids[0].to_string();
    let child = spawn(&["requeue", &id, "--execute", "--wait"]);
    group.serve(1, |_| RequeueOutcome::DeadAgain);
    assert_eq!(end(child).code, Some(4));
    let first = &expect(0, &groups).json()[0];
    assert_eq!((&first["letters"], &first["last_outcome"]), (&3.into(), &"dead-again".into()));
    assert_eq!(time(first, "first_failed_at"), died, "since when is not lost");
    assert!(time(first, "last_requeued_at") > time(first, "first_failed_at"));
    let table = expect(0, &["groups", "--group", &group.name]).out;
    for word in ["amount-over-limit", &mark, "3 keys", "requeued", "dead again", "build 1.2.4", "no json"] {
        assert!(table.contains(word), "{word} in {table}");
    }

    // What is closed is not counted; what is asked for is.
    expect(0, &["discard", "--group", &group.name, "--fingerprint", &mark, "--reason", "x", "--execute"]);
    assert_eq!(expect(0, &groups).json().len(), 2);
    let none = expect(3, &["groups", "--group", &group.name, "--code", "not-json"]);
    assert!(none.err.contains("1 discarded"), "{}", none.err);
    assert_eq!(expect(0, &[&groups[..], &["--all"]].concat()).json().len(), 3);
    assert_eq!(expect(0, &[&groups[..], &["--state", "discarded"]].concat()).json()[0]["letters"], 1);
    let few = expect(0, &["groups", "--group", &group.name, "--limit", "1"]);
    assert!(few.err.contains("1 of 2 groups shown"), "{}", few.err);
}

#[test]
fn a_list_longer_than_a_screen_says_that_there_are_groups() {
    let group = Group::new();
    for offset in 0..23 {
        group.bury_one(offset);
    }
    let list = ["list", "--group", &group.name];
    assert!(!expect(0, &list).err.contains("groups"));
    group.bury_one(23);
    assert!(expect(0, &list).err.contains("`dlq-inspector groups`"));
    assert!(!expect(0, &["list", "--group", &group.name, "-o", "json"]).err.contains("groups"));
}

#[test]
fn a_note_is_for_the_next_person_until_it_is_taken_away() {
    let group = Group::new();
    // A fingerprint that no other test has.
    let mark = uuid::Uuid::new_v4().simple().to_string()[..16].to_owned();
    let letter = DeadLetter { fingerprint: mark.clone(), ..group.letter(0, 1, 1) };
    group.bury(&letter, "k", "{}");
    let id = letter.id.to_string();
    expect(0, &["note", &mark[..12], "raised on Monday", "--as", "kim@desk"]);
    let line = &expect(0, &["note", &mark, "raised on Tuesday", "--as", "kim@desk", "-o", "json"]).json()[0];
    assert_eq!((&line["fingerprint"], &line["note"]), (&mark.clone().into(), &"raised on Tuesday".into()));

    let groups = ["groups", "--group", &group.name, "-o", "json"];
    let line = &expect(0, &groups).json()[0];
    assert_eq!((&line["note"], &line["note_by"]), (&"raised on Tuesday".into(), &"kim@desk".into()));
    assert!(expect(0, &["groups", "--group", &group.name]).out.contains("raised on Tuesday"));
    assert!(expect(0, &["show", &id]).out.contains("raised on Tuesday (kim@desk"));
    assert_eq!(expect(0, &["show", &id, "-o", "json"]).json()[0]["note"]["by"], "kim@desk");
    assert_eq!(group.states()[&id], "open", "a note is about no letter");

    expect(0, &["note", &mark, ""]);
    assert!(expect(0, &groups).json()[0]["note"].is_null());
    expect(3, &["note", &mark, ""]);
    expect(3, &["note", "no-such-fingerprint", "x"]);
    expect(2, &["note", &mark]);
    expect(2, &["note", &mark, &"x".repeat(1_001)]);
}

#[test]
fn whoever_types_nothing_sees_where_to_begin() {
    let group = Group::new();
    // Many of one cause.
    let mark = uuid::Uuid::new_v4().simple().to_string()[..16].to_owned();
    for offset in 0..2_000 {
        group.bury(&DeadLetter { fingerprint: mark.clone(), ..group.letter(0, offset, 1) }, "k", "{}");
    }
    let shown = expect(0, &[]).out;
    let topic = shown.lines().find(|line| line.starts_with(&dlq_topic(&group.name))).expect("its topic");
    assert!(topic.contains("2000"), "{topic}");
    // Of the cause of which most died; other tests of the run, on the same servers, may have one with more.
    let begins = |what: &str| {
        let line = shown.lines().find(|line| line.contains(&format!("dlq-inspector {what} ")));
        let words = line.unwrap_or_else(|| panic!("no {what} in {shown}")).trim().split(' ').skip(1);
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let of = begins("list").split_off(1);
    assert_eq!((of[0].as_str(), of[2].as_str(), of.len()), ("--group", "--fingerprint", 4), "{of:?}");
    for command in ["requeue", "discard"] {
        assert_eq!(begins(command)[1..5], of, "{command}");
    }
    for command in ["list", "show"] {
        let words = begins(command);
        expect(0, &words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    expect(0, &["requeue", "--group", &group.name, "--fingerprint", &mark]);
    expect(2, &["-o", "json"]);
}
