//! What an operator can do while the group runs, and what it cannot go on without one.

use std::time::Duration;

use actors::{
    Consent, Group, LaneState, OperateError, PartitionStatus, ResetTo, TopicPartition, WhichParked,
    accounts::PASSED,
    dead_letters::{Class, fingerprint},
};

use crate::{
    delivery::{id, keys},
    support::{
        World,
        member::{Manners, Member},
        until,
    },
};

fn lane(group: &Group, world: &World) -> Option<PartitionStatus> {
    group.partitions().into_iter().find(|lane| lane.topic == world.topic)
}

fn is(group: &Group, world: &World, state: LaneState) -> bool {
    lane(group, world).is_some_and(|lane| lane.state == state)
}

fn reason(group: &Group, world: &World) -> String {
    lane(group, world).and_then(|lane| lane.reason).expect("a reason")
}

fn source(world: &World) -> TopicPartition {
    TopicPartition::new(world.topic.as_str(), 0)
}

fn key(key: &str) -> WhichParked {
    WhichParked::Key(key.to_owned())
}

async fn send(world: &World, key: &str, n: i64, mode: &str) {
    world.send(Some(key), Some(&World::event(id(), key, n, mode))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_partition_waits_wherever_it_goes_until_it_is_resumed() {
    let world = World::new(1).await;
    let group = world.start().await;
    send(&world, "k", 1, "ok").await;
    world.until_counted("applied", 1).await;
    group.pause(source(&world)).await.expect("paused");
    send(&world, "k", 2, "ok").await;
    until("it shows", || async { is(&group, &world, LaneState::Paused) }).await;
    until("the record has come", || async { lane(&group, &world).is_some_and(|lane| lane.window == 1) })
        .await;
    assert!(group.shutdown(Duration::from_secs(10)).await);

    let group = world.start().await;
    until("the next owner pauses too", || async { is(&group, &world, LaneState::Paused) }).await;
    assert_eq!(world.counted("applied").await, 1);
    group.resume(source(&world)).await.expect("resumed");
    world.until_counted("applied", 2).await;
    assert_eq!(world.list("k").await, [1, 2]);
    let nowhere = group.pause(TopicPartition::new("nowhere", 3)).await;
    assert!(matches!(nowhere, Err(OperateError::Unknown { .. })), "{nowhere:?}");
    group.shutdown(Duration::from_secs(10)).await;
}

/// Kafka has more than the lane may hold, for longer than librdkafka is let fetch ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_lane_stays_within_its_bounds_shows_its_lag_and_goes_on_in_order() {
    let mut world = World::new(1).await;
    world.settings.lane_max_records = 10;
    let group = world.start().await;
    send(&world, "k", 0, "ok").await;
    world.until_counted("applied", 1).await;
    group.pause(source(&world)).await.expect("paused");
    let shows =
        |window, lag| lane(&group, &world).is_some_and(|lane| (lane.window, lane.lag) == (window, lag));
    for (sent, upto) in [(1, 31), (31, 41)] {
        for n in sent..upto {
            send(&world, "k", n, "ok").await;
        }
        until("all of it is seen to wait", || async { shows(10, upto - 1) }).await;
        // The second lot comes when nothing is fetched any more: then Kafka is asked where the partition ends.
        until("its partition is paused", || async {
            lane(&group, &world).is_some_and(|lane| lane.backpressured)
        })
        .await;
    }
    group.resume(source(&world)).await.expect("resumed");
    world.until_counted("applied", 41).await;
    assert_eq!(world.list("k").await, (0..41).collect::<Vec<_>>());
    assert_eq!(world.unaccounted().await, 0);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_key_is_retried_or_dead_lettered_now() {
    let mut world = World::new(1).await;
    world.settings.retry.initial = Duration::from_secs(600);
    world.settings.retry.max = Duration::from_secs(600);
    let group = world.start().await;
    send(&world, "hurried", 1, "flaky:1").await;
    send(&world, "hopeless", 2, "down").await;
    send(&world, "hopeless", 3, "ok").await;
    until("three wait", || async { world.counted("parked").await == 3 }).await;
    let waiting = group.parked(10).await.expect("listed");
    assert_eq!(waiting.iter().map(|one| one.attempts).collect::<Vec<_>>(), [1, 1, 0]);
    let follower = group.retry_parked(source(&world), WhichParked::Id(waiting[2].id)).await;
    assert!(matches!(follower, Err(OperateError::Behind { .. })), "{follower:?}");

    group.retry_parked(source(&world), key("hurried")).await.expect("hurried");
    until("it ran", || async { world.list("hurried").await == [1] }).await;
    group
        .dead_letter_parked(source(&world), key("hopeless"), "nobody will ever pay this")
        .await
        .expect("dead-lettered");
    until("its follower ran", || async { world.list("hopeless").await == [3] }).await;
    let letters = world.dead_letters(1).await;
    // What it failed with is why it waited; the operator made no attempt.
    assert_eq!((letters[0].class, letters[0].error_code.as_str()), (Class::Exhausted, "down"));
    let (cause, operator) = letters[0].error.split_once("; ").expect("both are told");
    assert_eq!(format!("{cause} [down]"), waiting[1].error);
    assert_eq!(operator, "an operator ended its retries: nobody will ever pay this");
    // It is found among those that died alike by themselves.
    assert_eq!(letters[0].fingerprint, fingerprint(Class::Exhausted, "down", cause));
    assert_eq!(letters[0].attempts, 1);
    let nothing = group.retry_parked(source(&world), key("hopeless")).await;
    assert!(matches!(nothing, Err(OperateError::NothingWaits(_))), "{nothing:?}");
    let elsewhere = group.retry_parked(TopicPartition::new("elsewhere", 0), key("k")).await;
    assert!(matches!(elsewhere, Err(OperateError::NotHere(_))), "{elsewhere:?}");
    assert_eq!(world.unaccounted().await, 0);
    group.shutdown(Duration::from_secs(10)).await;
}

/// One has no key, the other one that is no text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_record_without_a_readable_key_is_retried_or_dead_lettered_now_by_its_id() {
    let mut world = World::new(1).await;
    world.settings.retry.initial = Duration::from_secs(600);
    world.settings.retry.max = Duration::from_secs(600);
    let group = world.start().await;
    world.send(None, Some(&World::event(id(), "none", 1, "flaky:1"))).await;
    world.send_bytes(b"\xff\x00", &World::event(id(), "binary", 2, "down")).await;
    until("both wait", || async { world.counted("parked").await == 2 }).await;
    let waiting = group.parked(10).await.expect("listed");
    let by = |at: usize| WhichParked::Id(waiting[at].id);
    group.retry_parked(source(&world), by(0)).await.expect("hurried");
    until("it ran", || async { world.list("none").await == [1] }).await;
    group.dead_letter_parked(source(&world), by(1), "by hand").await.expect("dead-lettered");
    assert_eq!(world.dead_letters(1).await[0].error_code, "down");
    let gone = group.retry_parked(source(&world), by(1)).await;
    assert!(matches!(gone, Err(OperateError::NothingWaits(_))), "{gone:?}");
    group.shutdown(Duration::from_secs(10)).await;
}

/// A world whose one member has applied three records and left.
async fn left_after_three() -> World {
    let world = World::new(1).await;
    let group = world.start().await;
    for n in 0..3 {
        send(&world, "k", n, "ok").await;
    }
    world.until_counted("applied", 3).await;
    group.shutdown(Duration::from_secs(10)).await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_past_its_log_end_halts_until_it_is_reset() {
    let world = left_after_three().await;
    // As after a Kafka that was restored from a backup older than PostgreSQL.
    world.execute("UPDATE partition_lease SET next_offset = next_offset + 100, lost = lost + 100 WHERE topic NOT LIKE '%requeue'").await;

    let group = world.start().await;
    until("it halts", || async { is(&group, &world, LaneState::Halted) }).await;
    let reason = reason(&group, &world);
    assert!(reason.contains("past-log-end") && reason.contains("reset"), "{reason}");
    let wrong = group.reset(source(&world), ResetTo::Offset(50), Consent::default()).await;
    assert!(matches!(wrong, Err(OperateError::NoSuchOffset { high: 3, .. })), "{wrong:?}");
    assert_eq!(
        group.reset(source(&world), ResetTo::Start, Consent::default()).await.expect("reset"),
        (103, 0)
    );
    // All three come again, and the inbox knows them; then new ones.
    send(&world, "k", 3, "ok").await;
    until("they came again", || async { world.counted("duplicate").await == 3 }).await;
    until("and the new one", || async { world.list("k").await == [0, 1, 2, 3] }).await;
    let ends = format!("SELECT sum({PASSED} - applied - duplicate)::bigint FROM partition_lease");
    assert_eq!(world.number(&ends).await, 0, "the accounts agree after a reset");
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_that_has_grown_past_the_old_place_halts() {
    let world = left_after_three().await;
    world.make_topic_anew().await;
    for n in 3..10 {
        send(&world, "k", n, "ok").await;
    }
    let group = world.start().await;
    until("it halts", || async { is(&group, &world, LaneState::Halted) }).await;
    let reason = reason(&group, &world);
    assert!(reason.contains("another-log") && reason.contains("reset"), "{reason}");
    assert_eq!(world.list("k").await, [0, 1, 2], "nothing is taken from the middle of it");
    group.resume(source(&world)).await.expect("asked");
    until("it halts again", || async { is(&group, &world, LaneState::Halted) }).await;
    assert_eq!(group.reset(source(&world), ResetTo::Start, Consent::default()).await.expect("reset"), (3, 0));
    world.until_counted("applied", 10).await;
    assert_eq!(world.list("k").await, (0..10).collect::<Vec<_>>());
    group.shutdown(Duration::from_secs(10)).await;
}

/// A partition is paused with more behind it than its lane holds, and its topic is made anew: what it goes on with is not what
/// it was paused at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_behind_a_full_lane_is_noticed_when_it_goes_on() {
    let world = World::new(1).await;
    let keys = keys(50);
    // Where the old log begins says nothing of the new one.
    world.send_lists(&["gone".to_owned()], 10).await;
    world.delete_before(10).await;
    let group = world.start().await;
    send(&world, "k", 0, "ok").await;
    world.until_counted("applied", 1).await;
    group.pause(source(&world)).await.expect("paused");
    world.send_lists(&keys, 30).await;
    until("its partition is paused", || async {
        lane(&group, &world).is_some_and(|lane| lane.backpressured)
    })
    .await;
    world.make_topic_anew().await;
    world.send_lists(&keys, 60).await;
    group.resume(source(&world)).await.expect("resumed");
    until("it halts", || async { is(&group, &world, LaneState::Halted) }).await;
    let reason = reason(&group, &world);
    assert!(reason.contains("another-log") || reason.contains("past-log-end"), "{reason}");
    let before = world.lists().await;
    let sound = |list: &Vec<i64>| list.len() <= 30 && list.iter().copied().eq((0..).take(list.len()));
    assert!(before.values().all(sound), "nothing of the new log took effect: {before:?}");

    // All of the new log, and nothing more of the old one.
    let (_, to) = group.reset(source(&world), ResetTo::Start, Consent::default()).await.expect("reset");
    assert_eq!(to, 0);
    let applied = before.values().map(Vec::len).sum::<usize>() + keys.len() * 60;
    world.until_counted("applied", i64::try_from(applied).expect("few")).await;
    let lists = world.lists().await;
    for key in &keys {
        let old = before.get(key).map_or(0, Vec::len);
        assert!(lists[key][old..].iter().copied().eq(0..60), "{key}: {:?}", lists[key]);
    }
    assert_eq!((world.counted("lost").await, world.unaccounted().await), (0, 0));
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_halts_the_partition() {
    let world = World::new(1).await;
    let group = world.start().await;
    send(&world, "k", 0, "ok").await;
    world.until_counted("applied", 1).await;
    group.shutdown(Duration::from_secs(10)).await;
    world.execute("UPDATE partition_lease SET cluster_id = 'elsewhere'").await;
    let group = world.start().await;
    until("it halts", || async { is(&group, &world, LaneState::Halted) }).await;
    let reason = reason(&group, &world);
    assert!(reason.contains("another-cluster"), "{reason}");
    // Where it was is where it goes on: only the cluster is confirmed.
    group.reset(source(&world), ResetTo::End, Consent::default()).await.expect("reset");
    send(&world, "k", 1, "ok").await;
    world.until_counted("applied", 2).await;
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_lost_to_retention_are_counted() {
    let world = World::new(1).await;
    let group = world.start().await;
    send(&world, "k", 0, "ok").await;
    world.until_counted("applied", 1).await;
    group.shutdown(Duration::from_secs(10)).await;
    for n in 1..5 {
        send(&world, "k", n, "ok").await;
    }
    world.delete_before(3).await;
    let group = world.start().await;
    until("the rest is applied", || async { world.list("k").await == [0, 3, 4] }).await;
    assert_eq!(world.counted("lost").await, 2);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_long_ago_is_forgotten() {
    let mut world = World::new(1).await;
    let group = world.start().await;
    for n in 0..5 {
        send(&world, "k", n, "ok").await;
    }
    send(&world, "k", 5, "permanent").await;
    world.until_counted("dead", 1).await;
    group.shutdown(Duration::from_secs(10)).await;
    world.execute("UPDATE inbox SET processed_at = processed_at - interval '4 days'").await;
    world.execute("UPDATE offset_journal SET at = at - interval '4 days'").await;
    world.settings.retention.every = Duration::from_millis(100);
    world.settings.retention.batch = 2;
    let group = world.start().await;
    until("only the dead are remembered", || async {
        world.number("SELECT count(*) FROM inbox").await == 1
            && world.number("SELECT count(*) FROM inbox WHERE dead").await == 1
            && world.number("SELECT count(*) FROM offset_journal").await == 0
    })
    .await;
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_moves_away_under_a_waiting_partition_is_noticed() {
    let mut world = World::new(1).await;
    // It holds little, so that most of the log is still to be read when it goes.
    world.settings.lane_max_records = 2;
    world.settings.batch_max_records = 1;
    let group = world.start().await;
    group_is_at_work(&world).await;
    group.pause(source(&world)).await.expect("paused");
    until("it shows", || async { is(&group, &world, LaneState::Paused) }).await;
    for n in 1..50 {
        // Large, so that none is fetched far ahead.
        let value = World::large_event(id(), "k", n, 400_000);
        world.send(Some("k"), Some(&value)).await;
    }
    world.delete_before(45).await;
    group.resume(source(&world)).await.expect("resumed");
    until("the last is applied", || async { world.list("k").await.last() == Some(&49) }).await;
    let list = world.list("k").await;
    assert!(list.windows(2).all(|two| two[0] < two[1]), "{list:?}");
    let lost = world.counted("lost").await;
    assert_eq!(usize::try_from(lost).expect("a count") + list.len(), 50, "{list:?}");
    assert_eq!(world.unaccounted().await, 0);
    group.shutdown(Duration::from_secs(10)).await;
}

async fn group_is_at_work(world: &World) {
    send(world, "k", 0, "ok").await;
    world.until_counted("applied", 1).await;
}

/// A pause through one process reaches the one that has the partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_heard_by_the_owner_wherever_it_was_asked_for() {
    let world = World::new(1).await;
    let owner = Member::spawn(&world, &Manners::default());
    owner.until_claimed(&world).await;
    send(&world, "k", 0, "ok").await;
    world.until_counted("applied", 1).await;
    world.execute("UPDATE partition_lease SET paused = true").await;
    owner.until_said("paused by an operator").await;
    send(&world, "k", 1, "ok").await;
    world.execute("UPDATE partition_lease SET paused = false").await;
    world.until_counted("applied", 2).await;
    owner.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_that_loses_records_needs_consent() {
    let world = World::new(1).await;
    let group = world.start().await;
    send(&world, "k", 0, "ok").await;
    world.until_counted("applied", 1).await;
    group.pause(source(&world)).await.expect("paused");
    for n in 1..4 {
        send(&world, "k", n, "ok").await;
    }
    let reset = async |force, from| group.reset(source(&world), ResetTo::End, Consent { force, from }).await;
    for (force, from) in [(false, None), (true, None), (false, Some(1))] {
        let refused = reset(force, from).await;
        assert!(matches!(refused, Err(OperateError::Loses { at: 1, wanted: 4, .. })), "{refused:?}");
    }
    let moved = reset(true, Some(0)).await;
    assert!(matches!(moved, Err(OperateError::Moved { at: 1, expected: 0, .. })), "{moved:?}");
    assert_eq!(reset(true, Some(1)).await.expect("reset"), (1, 4));
    group.resume(source(&world)).await.expect("resumed");
    send(&world, "k", 4, "ok").await;
    until("it goes on behind them", || async { world.list("k").await == [0, 4] }).await;
    assert_eq!((world.counted("lost").await, world.unaccounted().await), (3, 0));
    group.shutdown(Duration::from_secs(10)).await;
}
