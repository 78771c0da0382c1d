//! Two processes that both believe they own a partition, and many that come and go.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    delivery::keys,
    support::{
        World,
        member::{Manners, Member},
        model::Load,
        until,
    },
};

/// The owner freezes at `failpoint`, another takes over and works, the owner thaws.
async fn thaws(failpoint: &str) {
    let world = World::new(1).await;
    let load = Load::of_everything(24);
    load.send(&world, 0..load.len()).await;
    let frozen = Member::spawn(&world, &Manners::failing(format!("{failpoint}:3:freeze")));
    frozen.until_said("freezing").await;
    let other = Member::spawn(&world, &Manners::default());
    load.check(&world, false).await;
    let epoch = "SELECT max(epoch) FROM partition_lease WHERE topic NOT LIKE '%requeue'";
    let before = world.number(epoch).await;
    assert!(before > 1, "another has claimed it");

    frozen.signal(Signal::CONT);
    // Whichever comes first: Kafka says that the partition was lost, or PostgreSQL refuses the batch.
    frozen.until_said_one_of(&["partitions lost", "the batch's outcome is not known"]).await;
    // It rejoins, and works as any other: now it is alone.
    other.stop().await;
    until("the thawed one owns the partition again", || async { world.number(epoch).await > before }).await;
    load.check(&world, false).await;
    frozen.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_frozen_before_its_transaction_is_refused_when_it_thaws() {
    thaws("batch-decoded").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_frozen_before_its_commit_is_refused_when_it_thaws() {
    thaws("batch-advanced").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_under_an_old_epoch_is_refused() {
    let world = World::new(1).await;
    let owner = Member::spawn(&world, &Manners::default());
    world.send_lists(&keys(3), 5).await;
    world.until_counted("applied", 15).await;
    // As another owner's claim does.
    world.execute("UPDATE partition_lease SET epoch = epoch + 1, owner = 'another'").await;
    world.send_lists(&keys(3), 5).await;
    owner.until_said("fenced").await;
    world.until_counted("applied", 30).await;
    owner.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_comes_late_leaves_the_rightful_owner_at_work() {
    let world = World::new(1).await;
    let load = Load::of_everything(24);
    load.send(&world, 0..load.len() / 2).await;
    // Its claim is under way when it freezes; by the time it is made, the partition is another's.
    let late = Member::spawn(&world, &Manners::failing("claim-begun:1:freeze"));
    late.until_said("freezing").await;
    let owner = Member::spawn(&world, &Manners::default());
    owner.until_claimed(&world).await;
    late.signal(Signal::CONT);
    load.send(&world, load.len() / 2..load.len()).await;
    load.check(&world, false).await;
    late.stop().await;
    owner.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_the_busy_topic_and_the_quiet_one_each_evenly() {
    const SHARES: &str =
        "SELECT count(*) FROM (SELECT 1 FROM partition_lease GROUP BY owner, topic HAVING count(*) = 3) s";
    let world = World::new(6).await;
    let first = Member::spawn(&world, &Manners::default());
    until("one has everything", || async {
        world.number("SELECT count(*) FROM partition_lease WHERE NOT clean").await == 12
    })
    .await;
    let second = Member::spawn(&world, &Manners::default());
    until("each has three of either topic", || async { world.number(SHARES).await == 4 }).await;
    first.stop().await;
    second.stop().await;
}

/// Whichever of the member's two consumers it is: the other one goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_thread_that_panics_leaves_its_partitions_to_others() {
    let world = World::new(2).await;
    let broken = Member::spawn(&world, &Manners::failing("rebalance-revoked:1:panic"));
    let claimed = "SELECT count(*) FROM partition_lease";
    until("it has everything", || async { world.number(claimed).await == 4 }).await;
    let other = Member::spawn(&world, &Manners::default());
    broken.until_said("panicked at").await;
    let left = "SELECT count(*) FROM (SELECT 1 FROM partition_lease GROUP BY topic HAVING min(epoch) > 1) AS left_behind";
    until("another has all of a topic", || async { world.number(left).await > 0 }).await;
    other.stop().await;
    broken.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_members_come_and_go_and_nothing_is_lost_or_done_twice() {
    const EACH: i64 = 500;
    let world = World::new(6).await;
    let first = world.start().await;
    let keys = keys(40);
    let sending = world.send_lists(&keys, EACH);
    let churning = async {
        for round in 0..20 {
            let other = Member::spawn(&world, &Manners::default());
            other.until_claimed(&world).await;
            // One in four goes without a word.
            if round % 4 == 3 { other.kill().await } else { other.stop().await }
        }
    };
    tokio::join!(sending, churning);
    world.until_counted("applied", 40 * EACH).await;
    let lists = world.lists().await;
    for key in &keys {
        assert_eq!(lists[key], (0..EACH).collect::<Vec<_>>(), "{key}");
    }
    assert!(first.shutdown(Duration::from_secs(10)).await, "a quiet group leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_leave_in_order_as_soon_as_they_have_come() {
    let world = World::new(6).await;
    let first = world.start().await;
    let keys = keys(30);
    let sending = world.send_lists(&keys, 40);
    let churning = async {
        for _ in 0..3 {
            let other = world.start().await;
            until("the other owns something", || async { !other.partitions().is_empty() }).await;
            assert!(other.shutdown(Duration::from_secs(10)).await);
        }
    };
    tokio::join!(sending, churning);
    world.until_counted("applied", 1_200).await;
    let lists = world.lists().await;
    for key in &keys {
        assert_eq!(lists[key], (0..40).collect::<Vec<_>>(), "{key}");
    }
    assert!(first.shutdown(Duration::from_secs(10)).await);
}
