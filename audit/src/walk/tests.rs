use super::*;
use crate::journal::Row;

const DAY: i64 = 24 * 60 * 60 * 1_000;
/// Everything before is old.
const CUTOFF: i64 = 10 * DAY;

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).expect("in range")
}

fn row(from: i64, next: i64, outcomes: &str, epoch: i64, at_ms: i64) -> Row {
    Row::new(from, next, outcomes, Written { epoch, at: at(at_ms) }).expect("a sound row")
}

fn lane(next: i64, journaled: i64) -> Lane {
    Lane {
        source: TopicPartition::new("t", 0),
        requeue: false,
        epoch: 1,
        first: 0,
        next,
        replayed: 0,
        lost: 0,
        passed: next,
        journaled,
        journaled_from: Some(0),
        low: 0,
    }
}

/// Walks records at these offsets with these timestamps.
fn walk(lane: &Lane, rows: Vec<Row>, records: impl IntoIterator<Item = (i64, i64)>) -> Found {
    let mut cover = Cover::new(lane.begin());
    cover.extend(rows, i64::MAX);
    let mut walk = Walk::new(lane, at(CUTOFF));
    walk.skip(&mut cover, lane.start());
    for (offset, timestamp_ms) in records {
        let event = Some((Uuid::from_u128(offset.unsigned_abs().into()), timestamp_ms));
        walk.record(&mut cover, &Seen { offset, timestamp_ms, event, put_back: None, foreign: None });
    }
    walk.finish(&mut cover)
}

fn young(offsets: impl IntoIterator<Item = i64>) -> impl Iterator<Item = (i64, i64)> {
    offsets.into_iter().map(|offset| (offset, CUTOFF + DAY))
}

fn findings(found: &Found) -> Vec<(Kind, i64, i64)> {
    found.findings.iter().map(|one| (one.kind, one.from, one.upto)).collect()
}

#[test]
fn each_offset_is_counted_once_and_what_has_to_be_confirmed_comes_out() {
    let found = walk(&lane(8, 8), vec![row(0, 8, "a2u1g1p1d1i1m1", 1, CUTOFF)], young([0, 1, 2, 4, 5, 6, 7]));
    assert_eq!(findings(&found), []);
    assert_eq!(found.outcomes.values().sum::<i64>(), 8);
    let pending: Vec<(i64, Mark)> = found.pending.iter().map(|one| (one.offset, one.mark)).collect();
    use Mark::{Applied, Dead, Duplicate, Moved, Parked};
    assert_eq!(
        pending,
        [(0, Applied), (1, Applied), (2, Duplicate), (4, Parked), (5, Dead), (7, Moved)],
        "an ignored record and a gap need no witness"
    );
    assert!(found.pending.iter().all(|one| !one.aged));
}

#[test]
fn a_missing_row_is_a_hole_from_its_first_offset_on() {
    let rows = vec![row(0, 3, "a3", 1, CUTOFF), row(6, 8, "a2", 1, CUTOFF)];
    let found = walk(&lane(8, 5), rows, young([0, 1, 2, 4, 5, 6, 7]));
    assert_eq!(findings(&found), [(Kind::NoOutcome, 3, 6)]);
    // At the end and at the beginning too.
    let found = walk(&lane(5, 3), vec![row(0, 3, "a3", 1, CUTOFF)], young(0..5));
    assert_eq!(findings(&found), [(Kind::NoOutcome, 3, 5)]);
    let found = walk(&lane(5, 3), vec![row(2, 5, "a3", 1, CUTOFF)], young(0..5));
    assert_eq!(findings(&found), [(Kind::NoOutcome, 0, 2)]);
}

#[test]
fn a_record_in_a_gap_and_an_outcome_without_a_record_are_named() {
    let found = walk(&lane(6, 6), vec![row(0, 6, "a1g2a3", 1, CUTOFF)], young([0, 2, 5]));
    assert_eq!(findings(&found), [(Kind::GapWithRecord, 2, 3), (Kind::OutcomeWithoutRecord, 3, 5)]);
    assert_eq!(found.outcomes[&Mark::Gap], 1);
}

#[test]
fn rows_deleted_by_age_are_no_holes_and_younger_ones_beside_them_are() {
    let old = [(0, DAY), (1, 2 * DAY), (2, CUTOFF - 1)];
    let rows = || vec![row(4, 6, "a2", 1, CUTOFF + DAY)];
    let found = walk(&lane(6, 3), rows(), old.into_iter().chain([(3, CUTOFF)]).chain(young([4, 5])));
    assert_eq!(findings(&found), [(Kind::NoOutcome, 3, 4)]);
    assert_eq!(found.unprovable, 3);
    // The row before is younger than what is deleted, so the missing one was too, whatever its records say.
    let rows = vec![row(0, 2, "a2", 1, CUTOFF), row(4, 6, "a2", 1, CUTOFF)];
    let found = walk(&lane(6, 4), rows, (0..6).map(|offset| (offset, DAY)));
    assert_eq!(findings(&found), [(Kind::NoOutcome, 2, 4)]);
}

#[test]
fn a_reset_forward_is_excused_by_as_many_as_the_lease_has_lost() {
    let rows = || vec![row(0, 2, "a2", 1, CUTOFF), row(7, 9, "a2", 3, CUTOFF)];
    let skipped = Lane { epoch: 3, lost: 5, passed: 4, ..lane(9, 4) };
    let found = walk(&skipped, rows(), young(0..9));
    assert_eq!((findings(&found), found.unprovable), (vec![], 5));
    let found = walk(&Lane { lost: 4, passed: 5, ..skipped.clone() }, rows(), young(0..9));
    assert_eq!(findings(&found), [(Kind::NoOutcome, 2, 7)]);
    let rows = vec![row(0, 2, "a2", 3, CUTOFF), row(7, 9, "a2", 3, CUTOFF)];
    let found = walk(&skipped, rows, young(0..9));
    assert_eq!(findings(&found), [(Kind::NoOutcome, 2, 7)], "within one claim nothing is skipped");
}

#[test]
fn a_reset_back_counts_again_and_its_last_word_counts() {
    let replayed = Lane { epoch: 3, replayed: 3, passed: 8, ..lane(5, 8) };
    let rows = vec![row(0, 5, "a5", 1, CUTOFF), row(2, 5, "u3", 3, CUTOFF)];
    let found = walk(&replayed, rows, young(0..5));
    assert_eq!(findings(&found), []);
    assert_eq!((found.outcomes[&Mark::Applied], found.outcomes[&Mark::Duplicate]), (2, 3));
}

#[test]
fn what_retention_deleted_from_the_topic_is_not_proved_and_not_wrong() {
    let deleted = Lane { low: 4, ..lane(6, 6) };
    let found = walk(&deleted, vec![row(0, 6, "a6", 1, CUTOFF)], young([4, 5]));
    assert_eq!((findings(&found), found.unprovable, found.outcomes[&Mark::Applied]), (vec![], 4, 2));
    // The same when it happens while the topic is read.
    let mut found = walk(&lane(6, 6), vec![row(0, 6, "a6", 1, CUTOFF)], young([5]));
    found.forget_below(3);
    assert_eq!((findings(&found), found.unprovable), (vec![(Kind::OutcomeWithoutRecord, 3, 5)], 3));
    found.forget_below(5);
    assert_eq!((findings(&found), found.unprovable), (vec![], 5));
}

#[test]
fn rows_and_lease_must_stand_for_as_many_offsets() {
    let rows = || vec![row(0, 3, "a3", 1, CUTOFF)];
    assert_eq!(findings(&walk(&lane(3, 4), rows(), young(0..3))), [(Kind::Totals, 3, 2)]);
    assert_eq!(findings(&walk(&lane(3, 1), rows(), young(0..3))), [(Kind::Totals, 3, 5)]);
}

#[test]
fn old_witnesses_are_not_demanded() {
    let rows = vec![row(0, 1, "a1", 1, CUTOFF - 1), row(1, 3, "u2", 1, CUTOFF)];
    let found = walk(&lane(3, 3), rows, [(0, DAY), (1, DAY), (2, CUTOFF)]);
    let aged: Vec<bool> = found.pending.iter().map(|one| one.aged).collect();
    assert_eq!(aged, [true, true, false]);
}

#[test]
fn what_cannot_be_read_is_neither_proved_nor_taken_for_an_outcome_without_a_record() {
    let lane = lane(8, 6);
    let mut cover = Cover::new(lane.begin());
    // Offsets 5 and 6 have no row.
    cover.extend([row(0, 5, "a3g1a1", 1, CUTOFF), row(7, 8, "a1", 1, CUTOFF)], i64::MAX);
    let mut walk = Walk::new(&lane, at(CUTOFF));
    walk.skip(&mut cover, lane.start());
    let record =
        |offset| Seen { offset, timestamp_ms: CUTOFF + DAY, event: None, put_back: None, foreign: None };
    walk.record(&mut cover, &record(0));
    walk.unread(&mut cover, 1, 7);
    walk.record(&mut cover, &record(7));
    let found = walk.finish(&mut cover);
    assert_eq!(found.outcomes, BTreeMap::from([(Mark::Applied, 2)]));
    assert_eq!(found.pending.len(), 2, "the two that were read have to be confirmed");
    assert_eq!(findings(&found), [(Kind::NoOutcome, 5, 7)], "a row that is missing is missing all the same");
}
