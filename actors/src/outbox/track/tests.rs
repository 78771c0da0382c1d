use std::time::Duration;

use super::*;

fn track(rows: std::ops::RangeInclusive<i64>) -> Track {
    let track = Track::new(true);
    track.written(rows.map(|seq| (seq, "out")));
    track
}

fn send(track: &Track, seq: i64) -> Sending {
    track.sending(seq).expect("it waits")
}

fn refused(fault: Fault) -> Refused {
    Refused { fault, cause: Cause::new("a", "no") }
}

fn listed(seqs: &[i64]) -> Vec<Listed> {
    let one = |seq: &i64| Listed { seq: *seq, topic: "out".into(), age: Duration::from_secs(60) };
    seqs.iter().map(one).collect()
}

#[test]
fn only_an_unbroken_run_that_kafka_has_may_be_deleted() {
    let track = track(5..=8);
    let sent: Vec<_> = (5..=8).map(|seq| send(&track, seq)).collect();
    track.acknowledged(sent[1]);
    track.acknowledged(sent[3]);
    assert_eq!((track.deletable(), track.backlog().rows), (None, 2), "5 is on its way");
    track.acknowledged(sent[0]);
    let run = Span { first: 5, last: 6 };
    assert_eq!(track.deletable(), Some(run));
    track.deleted(run);
    assert_eq!((track.deletable(), track.backlog().rows), (None, 1));
    track.acknowledged(sent[0]);
    track.acknowledged(sent[2]);
    assert_eq!((track.deletable(), track.backlog().rows), (Some(Span { first: 7, last: 8 }), 0));
    assert_eq!(track.highest(), 8);
}

#[test]
fn what_kafka_has_is_never_sent_again_and_the_rest_is_sent_in_order() {
    let track = track(1..=4);
    let sent: Vec<_> = (1..=4).map(|seq| send(&track, seq)).collect();
    track.acknowledged(sent[1]);
    assert_eq!(track.due(9), [0i64; 0]);
    // Another producer.
    track.uses(1);
    assert_eq!(track.due(9), [1, 3, 4]);
    assert_eq!(track.due(2), [1, 3]);
    let again = send(&track, 1);
    // The former one's reports come late: a failure says nothing any more, an acknowledgement does.
    track.unsent(sent[0]);
    assert_eq!(track.due(9), [3, 4]);
    track.acknowledged(sent[0]);
    track.unsent(again);
    assert_eq!((track.due(9), track.deletable()), (vec![3, 4], Some(Span { first: 1, last: 2 })));
}

#[test]
fn a_refused_row_waits_and_those_of_its_topic_behind_it() {
    let track = Track::new(true);
    track.written([(1, "out"), (2, "out"), (3, "other"), (4, "out")].into_iter());
    let (one, two) = (send(&track, 1), send(&track, 2));
    track.refused(two, refused(Fault::Size));
    track.refused(one, refused(Fault::Size));
    assert_eq!(track.due(9), [3], "another topic goes on");
    assert!(track.sending(4).is_none());
    track.acknowledged(send(&track, 3));
    let run = track.deletable().expect("behind those that wait");
    assert_eq!(run, Span { first: 3, last: 3 });
    track.deleted(run);
    let (refusal, waiting) = track.refusal().expect("refused");
    assert_eq!((refusal.seq, waiting, track.backlog().rows), (1, 3, 3));
    // Its time has come: it is tried alone, and what waits for it goes once Kafka has it.
    track.rewritten(1);
    assert_eq!(track.due(9), [1, 2, 4]);
    let one = send(&track, 1);
    track.refused(one, refused(Fault::Topic));
    assert_eq!(track.due(9), [0i64; 0]);
    track.acknowledged(one);
    assert_eq!((track.due(9), track.refusal().is_none()), (vec![2, 4], true));
}

#[test]
fn where_no_order_is_promised_a_refused_record_holds_nobody_and_a_refused_topic_its_own() {
    let track = Track::new(false);
    track.written([(1, "dlq"), (2, "dlq"), (3, "ledger"), (4, "ledger")].into_iter());
    track.refused(send(&track, 1), refused(Fault::Size));
    track.refused(send(&track, 3), refused(Fault::Topic));
    assert_eq!((track.due(9), track.oversized()), (vec![2], vec![]), "not before its time");
}

#[test]
fn a_claim_keeps_what_is_known_unless_somebody_else_may_have_written() {
    for (epoch, highest, kept) in [(2, 3, true), (2, 9, true), (7, 3, true), (7, 4, false), (2, 2, false)] {
        let track = Track::new(true);
        track.claimed(1, 0);
        track.written((1..=3).map(|seq| (seq, "out")));
        let sent: Vec<_> = (1..=3).map(|seq| send(&track, seq)).collect();
        track.acknowledged(sent[0]);
        track.claimed(epoch, highest);
        track.listed(listed(&[1, 2, 3, 4]));
        let due = if kept { vec![4] } else { vec![1, 2, 3, 4] };
        assert_eq!(track.due(9), due, "epoch {epoch}, highest {highest}");
        // What was sent before says nothing of other rows with its number.
        track.acknowledged(sent[1]);
        assert_eq!(track.backlog().rows, if kept { 2 } else { 4 });
    }
}

#[test]
fn what_the_table_has_not_is_forgotten_and_ages_do_not_renew_themselves() {
    let track = Track::new(true);
    track.listed(listed(&[1, 2, 3]));
    let one = send(&track, 1);
    track.unsent(one);
    assert!(track.backlog().oldest >= Duration::from_secs(60));
    track.refused(send(&track, 1), refused(Fault::Topic));
    assert!(track.backlog().oldest >= Duration::from_secs(60));
    track.listed(listed(&[2, 3]));
    assert_eq!((track.due(9), track.refusal().is_none()), (vec![2, 3], true));
    track.gone(&[2]);
    assert_eq!((track.due(9), track.backlog().rows), (vec![3], 1));
}

#[tokio::test]
async fn what_is_refused_is_not_waited_for() {
    let track = track(1..=2);
    let (one, two) = (send(&track, 1), send(&track, 2));
    assert!(!track.settled(Duration::from_millis(1)).await);
    track.acknowledged(one);
    track.refused(two, refused(Fault::Topic));
    assert!(track.settled(Duration::from_millis(1)).await);
}
