use std::sync::Arc;

use dead_letters::{Class, Headers};
use proptest::prelude::*;

use super::*;
use crate::{
    LaneState,
    lease::{Intent, RecordAt},
};

fn record(offset: i64) -> Record {
    Record {
        source: TopicPartition::new("t", 0),
        offset: Offset(offset),
        timestamp_ms: 0,
        key: None,
        value: Some(b"v".as_slice().into()),
        headers: Headers::new(),
    }
}

fn unclaimed() -> Lane {
    let limits = CrashLimits { actors: 3, processes: 5 };
    Lane::new(TopicPartition::new("t", 0), LaneKind::Source, limits, Arc::default())
}

fn lane_at(next: i64) -> Lane {
    let lane = unclaimed();
    lane.claimed(1, NextOffset(next), None);
    lane.sought(next);
    lane
}

fn offsets(batch: &[Item]) -> Vec<i64> {
    batch.iter().map(|taken| taken.record.offset.0).collect()
}

#[test]
fn what_was_finished_is_not_taken_again_and_what_was_not_stays() {
    let lane = lane_at(5);
    lane.offer([3, 4, 5, 6, 9].map(record).into_iter());
    assert_eq!(offsets(&lane.take(2, usize::MAX)), [5, 6]);
    assert_eq!(offsets(&lane.take(2, usize::MAX)), [5, 6], "taken is not removed");
    lane.finish(NextOffset(7));
    assert_eq!(offsets(&lane.take(10, usize::MAX)), [9]);
    lane.offer([9, 10].map(record).into_iter());
    assert_eq!(offsets(&lane.take(10, usize::MAX)), [9, 10], "a redelivered record is let go");
}

#[test]
fn a_record_is_as_old_as_it_was_written_whenever_it_was_delivered() {
    let hour = 3_600_000;
    for (written, seconds) in [(-hour, 3_599..=3_700), (hour, 0..=0)] {
        let lane = lane_at(0);
        assert_eq!(lane.oldest(), Duration::ZERO);
        let timestamp_ms = Utc::now().timestamp_millis() + written;
        lane.offer([Record { timestamp_ms, ..record(0) }].into_iter());
        assert!(seconds.contains(&lane.oldest().as_secs()), "{:?}", lane.oldest());
        lane.finish(NextOffset(1));
        assert_eq!(lane.oldest(), Duration::ZERO);
    }
}

#[test]
fn a_batch_is_bounded_by_bytes_but_never_empty() {
    let lane = lane_at(0);
    lane.offer([0, 1].map(record).into_iter());
    assert_eq!(offsets(&lane.take(10, 1)), [0]);
}

#[test]
fn nothing_is_accepted_before_the_claim_and_the_seek() {
    let lane = unclaimed();
    lane.offer([0].map(record).into_iter());
    lane.claimed(1, NextOffset(2), None);
    lane.offer([7].map(record).into_iter());
    assert!(lane.take(10, usize::MAX).is_empty(), "7 would look like a gap from 2");
    assert_eq!(lane.seek_target(), Some(2));
    lane.sought(2);
    lane.offer([2].map(record).into_iter());
    assert_eq!(offsets(&lane.take(10, usize::MAX)), [2]);
}

#[test]
fn reading_begins_with_the_last_record_and_another_in_its_place_is_a_log_mismatch() {
    let at = |timestamp_ms| Some(Landmark { offset: Offset(4), timestamp_ms });
    let lane = unclaimed();
    lane.claimed(1, NextOffset(7), at(0));
    assert_eq!(lane.seek_target(), Some(4));
    lane.sought(4);
    lane.offer([4, 7].map(record).into_iter());
    assert_eq!(offsets(&lane.take(10, usize::MAX)), [7], "5 and 6 hold no record");
    assert!(lane.log_mismatch().is_none());

    let lane = unclaimed();
    lane.claimed(1, NextOffset(7), at(1));
    lane.sought(4);
    lane.offer([4, 7].map(record).into_iter());
    assert!(lane.take(10, usize::MAX).is_empty() && lane.room(10, 10).is_none());
    assert_eq!(lane.log_mismatch().map(|cause| cause.0.code), Some("another-log".into()));
    assert_eq!(lane.seek_target(), None, "nothing more is wanted of it");
    // A reset forgets what was there.
    lane.claimed(2, NextOffset(7), None);
    assert_eq!((lane.log_mismatch(), lane.seek_target()), (None, Some(7)));
}

#[test]
fn what_has_gone_astray_is_read_again_from_the_last_record() {
    let lane = lane_at(5);
    lane.offer([5, 6].map(record).into_iter());
    lane.gone_astray();
    lane.offer([8].map(record).into_iter());
    assert_eq!((lane.room(10, 1_000), lane.seek_target()), (None, Some(6)));
    lane.sought(6);
    lane.offer([6, 7, 8].map(record).into_iter());
    let taken: Vec<_> = lane.take(10, usize::MAX).iter().map(|one| (one.record.offset.0, one.gap)).collect();
    assert_eq!(taken, [(5, 0), (6, 0), (7, 0), (8, 0)]);
    lane.gone_astray();
    lane.sought(8);
    lane.offer([Record { timestamp_ms: 9, ..record(8) }].into_iter());
    assert!(lane.log_mismatch().is_some(), "the log was made anew meanwhile");
}

#[test]
fn what_was_delivered_under_another_claim_does_not_count_after_a_reset() {
    let lane = lane_at(5);
    lane.offer((5..9).map(record));
    // The next claim of its own keeps them, and the crash they are suspected of.
    lane.take(1, usize::MAX);
    lane.actor_died("boom");
    lane.claimed(2, NextOffset(5), None);
    assert_eq!(lane.take(1, usize::MAX)[0].diagnosis.crashes, 1);
    // A reset, to a place in the window: perhaps of a topic that was made anew.
    lane.claimed(4, NextOffset(6), None);
    assert_eq!((lane.take(10, usize::MAX).len(), lane.seek_target()), (0, Some(6)));
}

#[test]
fn a_last_record_that_is_gone_proves_nothing() {
    let lane = unclaimed();
    lane.claimed(1, NextOffset(7), Some(Landmark { offset: Offset(4), timestamp_ms: 1 }));
    lane.sought(4);
    lane.offer([8].map(record).into_iter());
    assert_eq!(offsets(&lane.take(10, usize::MAX)), [8]);
}

#[test]
fn a_partition_that_went_back_is_sought_again() {
    let lane = lane_at(5);
    lane.offer([5, 6].map(record).into_iter());
    lane.claimed(2, NextOffset(3), None);
    assert_eq!(lane.seek_target(), Some(3));
    assert!(lane.take(10, usize::MAX).is_empty());
    lane.claimed(3, NextOffset(4), None);
    assert_eq!(lane.seek_target(), Some(4));
}

#[test]
fn a_crash_counts_against_the_batch_which_is_then_redone_by_halves() {
    let lane = lane_at(0);
    lane.offer((0..4).map(record));
    lane.take(3, usize::MAX);
    assert_eq!(lane.actor_died("boom"), 3);
    assert_eq!(lane.take(1, usize::MAX)[0].diagnosis.crashes, 1);
    for offset in 0..3 {
        assert_eq!(offsets(&lane.take(10, usize::MAX)), [offset]);
        lane.finish(NextOffset(offset + 1));
    }
    assert_eq!(lane.take(1, usize::MAX)[0].diagnosis.crashes, 0, "it was not in flight");
    lane.offer([4].map(record).into_iter());
    assert_eq!(offsets(&lane.take(10, usize::MAX)), [3, 4], "then batches again");
}

#[test]
fn what_is_held_against_a_record_says_why_it_is_dead() {
    let lane = lane_at(0);
    lane.offer((0..2).map(record));
    let dead = |lane: &Lane| lane.take(1, usize::MAX)[0].diagnosis.dead.clone();
    let cause = Cause::new("sql-23514", "no such value");
    assert_eq!(lane.values_refused(&cause), Refusal::OfNone, "no record is in flight");
    assert_eq!(dead(&lane), None);
    assert_eq!(lane.values_refused(&cause), Refusal::OfOne);
    assert_eq!(dead(&lane), Some((Class::Permanent, cause.clone())));
    assert_eq!(lane.values_refused(&cause), Refusal::OfNone, "nothing of it was tried");
    // What the actor knew is gone with it, but for the crash.
    for crashes in 1..=3 {
        lane.actor_died("boom");
        assert_eq!(lane.take(1, usize::MAX)[0].diagnosis.crashes, crashes);
    }
    assert_eq!(dead(&lane), Some((Class::Crash, Cause::new("crash", "boom"))));
    lane.finish(NextOffset(1));
    assert_eq!(dead(&lane), None);
    for (deaths, code) in [(4, None), (5, Some(PROCESS_DEATH))] {
        lane.quarantine.begin(9, 0, Some((Intent::One(RecordAt::Offset(Offset(1))), deaths)));
        assert_eq!(dead(&lane).map(|(_, cause)| cause.code), code.map(Into::into));
    }
}

#[test]
fn a_record_of_another_log_is_not_dead_for_what_one_in_its_place_was() {
    let lane = lane_at(5);
    lane.offer([5].map(record).into_iter());
    lane.take(1, usize::MAX);
    assert_eq!(lane.values_refused(&Cause::new("sql-23514", "no")), Refusal::OfOne);
    // A reset, perhaps of a topic that was made anew.
    lane.claimed(3, NextOffset(5), None);
    lane.sought(5);
    lane.offer([5].map(record).into_iter());
    assert_eq!(lane.take(1, usize::MAX)[0].diagnosis.dead, None);
}

#[test]
fn waiting_records_that_killed_their_actor_are_run_apart() {
    let lane = lane_at(0);
    lane.window.lock().take_parked(vec![7, 8]);
    assert_eq!((lane.actor_died("boom"), lane.window.lock().alone()), (2, None));
    let in_company = [7, 8].map(|id| CrashedRow { id, alone: false });
    assert_eq!(lane.quarantine.crashed_rows(), in_company);
    lane.quarantine.crash_counted(&in_company);
    let apart = lane.quarantine.rows_apart();
    assert_eq!((apart.rows.len(), apart.share(2)), (2, 1));
    lane.window.lock().take_parked(vec![7]);
    assert_eq!(lane.window.lock().alone(), Some(RecordAt::Parked(7)));
    lane.put_back();
    assert!(lane.runs_apart(), "a server that was gone settles nothing");
    lane.window.lock().take_parked(vec![7]);
    lane.finish(NextOffset(0));
    lane.window.lock().take_parked(vec![8]);
    assert_eq!(lane.actor_died("boom"), 1);
    assert_eq!(lane.quarantine.crashed_rows(), [CrashedRow { id: 8, alone: true }]);
    lane.quarantine.keep_rows(|_| false);
    assert!(!lane.runs_apart(), "nothing of it waits any more");
}

#[test]
fn what_was_cut_off_a_batch_is_not_in_flight() {
    let lane = lane_at(0);
    lane.offer((0..4).map(record));
    lane.window.lock().take_parked(vec![7, 8]);
    lane.take(4, usize::MAX);
    lane.keep_in_flight(3);
    assert_eq!((lane.in_flight(), lane.window.lock().alone()), (3, None));
    lane.keep_in_flight(1);
    assert_eq!(lane.window.lock().alone(), Some(RecordAt::Parked(7)));
    lane.put_back();
    lane.take(4, usize::MAX);
    lane.keep_in_flight(1);
    assert_eq!(lane.window.lock().alone(), Some(RecordAt::Offset(Offset(0))));
}

#[test]
fn a_wake_up_is_sent_once_until_the_actor_looks() {
    use std::sync::atomic::AtomicUsize;
    let lane = lane_at(0);
    let wakes = Arc::new(AtomicUsize::new(0));
    let count = wakes.clone();
    lane.set_waker(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    lane.offer([0].map(record).into_iter());
    lane.offer([1].map(record).into_iter());
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    lane.looking();
    lane.offer([2].map(record).into_iter());
    assert_eq!(wakes.load(Ordering::Relaxed), 2);
}

#[test]
fn offsets_without_a_record_are_counted_where_they_were_seen() {
    let lane = lane_at(5);
    lane.offer([7, 8, 12].map(record).into_iter());
    let gaps: Vec<_> = lane.take(10, usize::MAX).iter().map(|taken| taken.gap).collect();
    assert_eq!(gaps, [2, 0, 3]);
    // A commit without an answer had happened up to 10.
    lane.claimed(2, NextOffset(10), None);
    assert_eq!(lane.take(10, usize::MAX).iter().map(|taken| taken.gap).collect::<Vec<_>>(), [2]);
}

#[test]
fn after_an_unclean_end_the_first_records_run_a_few_at_a_time_and_those_last_tried_alone() {
    let lane = lane_at(0);
    lane.offer((0..100).map(record));
    lane.quarantine.begin(60, 0, Some((Intent::Offsets { first: Offset(0), until: 2 }, 1)));
    let mut next = 0;
    for records in [1, 1, 25, 25, 25, 23] {
        assert_eq!(lane.writes_intent(), next < 60);
        let taken = lane.take(100, usize::MAX);
        assert_eq!(taken.len(), records, "from {next}");
        next += i64::try_from(records).expect("few");
        lane.finish(NextOffset(next));
    }
    lane.quarantine.begin(0, 30, None);
    for most in [25, 25, usize::MAX] {
        assert_eq!(lane.quarantine.most_rows(), most);
        lane.window.lock().take_parked((0..25).collect());
        lane.finish(NextOffset(next));
    }
}

/// Runs a lane to its end, where batches with a guilty record are refused, or kill their actor: who was buried, in how many runs.
fn run_to_the_end(records: i64, guilty: &[i64], panics: bool) -> (Vec<i64>, usize) {
    let lane = lane_at(0);
    lane.offer((0..records).map(record));
    let (mut buried, mut runs, mut epoch) = (Vec::new(), 0, 1);
    while lane.front().is_some() {
        runs += 1;
        let taken = lane.take(500, usize::MAX);
        let last = taken.last().expect("one at least").record.offset;
        let (dead, tried): (Vec<_>, Vec<_>) = taken.iter().partition(|one| one.diagnosis.dead.is_some());
        assert!(dead.is_empty() || taken.len() == 1, "nobody is buried in company");
        let sick = tried.iter().any(|one| guilty.contains(&one.record.offset.0));
        if sick && panics {
            lane.actor_died("boom");
            epoch += 1;
            lane.claimed(epoch, lane.position().expect("claimed"), None);
        } else if sick {
            assert_ne!(lane.values_refused(&Cause::new("sql-23514", "no")), Refusal::OfNone);
        } else {
            buried.extend(dead.iter().map(|one| one.record.offset.0));
            lane.finish(last.next());
        }
    }
    (buried, runs)
}

proptest! {
    /// Whoever is guilty is found, nobody else is, and the search is short.
    #[test]
    fn the_guilty_are_found_by_halves(
        records in 1i64..1_200,
        guilty in prop::collection::btree_set(0i64..1_200, 0..4),
        panics in any::<bool>(),
    ) {
        let guilty: Vec<i64> = guilty.into_iter().filter(|offset| *offset < records).collect();
        let (buried, runs) = run_to_the_end(records, &guilty, panics);
        prop_assert_eq!(&buried, &guilty);
        // Nine halvings of 500, twice, and what it takes to bury one; and full batches before, between and after them.
        prop_assert!(runs <= 3 + guilty.len() * 25, "{} runs for {} guilty", runs, guilty.len());
    }

    /// Whatever Kafka delivers, and however it is taken: each offset above the start is finished once, by a record or in
    /// the gap before one, and the watermark never moves backwards.
    #[test]
    fn the_watermark_passes_every_offset_once(
        steps in prop::collection::vec((0i64..4, 1usize..5, any::<bool>()), 1..60),
        start in 0i64..20,
    ) {
        let lane = lane_at(start);
        let (mut next_delivered, mut watermark, mut accounted) = (start, start, 0);
        for (skip, max, again) in steps {
            let offset = next_delivered + skip;
            // A redelivery of what was seen must change nothing.
            let seen = again.then(|| record((offset - 1).max(start)));
            lane.offer(seen.into_iter().filter(|record| record.offset.0 < next_delivered));
            lane.offer([record(offset)].into_iter());
            next_delivered = offset + 1;
            let taken = lane.take(max, usize::MAX);
            if again {
                lane.put_back();
                continue;
            }
            accounted += taken.iter().map(|taken| taken.gap + 1).sum::<i64>();
            let next = taken.last().expect("one was offered").record.offset.next();
            prop_assert!(next.0 > watermark);
            watermark = next.0;
            lane.finish(next);
            prop_assert_eq!(watermark - start, accounted);
        }
    }
}

/// What a consumer says of the end right after a partition came back to it is of its former stint.
#[test]
fn a_lane_that_is_behind_is_not_at_its_end_since_the_consumer_says_an_old_one() {
    let lane = unclaimed();
    lane.set_log_end(1_000_000);
    lane.claimed(7, NextOffset(5_000), None);
    lane.set_state(LaneState::Running, None);
    lane.set_log_end(1_000);
    let progress = lane.progress().expect("it works");
    assert_eq!((progress.position, progress.log_end), (5_000, 1_000_000));
    // It was reset, perhaps since the log is another: nothing is known of its end until somebody says so.
    lane.claimed(9, NextOffset(10), None);
    assert_eq!(lane.progress(), None);
    lane.set_log_end(1_200);
    assert_eq!(lane.progress().map(|progress| progress.log_end), Some(1_200));
}
