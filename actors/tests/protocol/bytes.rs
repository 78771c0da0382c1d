//! No bytes of a record break a statement of the runtime's own.

use std::time::Duration;

use actors::{
    Headers,
    dead_letters::{Class, DeadLetter},
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use crate::{
    delivery::{id, requeue},
    support::{World, until},
};

const MIB: usize = 1 << 20;

/// Keys as producers may write them: none, empty, and up to a mebibyte that no compression makes smaller.
fn key() -> impl Strategy<Value = Option<Vec<u8>>> {
    let random = |len: usize| prop::collection::vec(any::<u8>(), len);
    prop_oneof![
        Just(None),
        Just(Some(Vec::new())),
        (1usize..64).prop_flat_map(random).prop_map(Some),
        // Around what an entry of a B-tree holds.
        (2_600usize..2_800).prop_flat_map(random).prop_map(Some),
        (200_000usize..=MIB).prop_flat_map(random).prop_map(Some),
    ]
}

fn header() -> impl Strategy<Value = (String, Option<Vec<u8>>)> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    ("[a-z.]{1,20}", value)
}

/// Each is parked and retried, with a follower behind it; another of the same key is refused, put back and passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_key_and_any_headers_are_parked_retried_buried_and_put_back() {
    let world = World::new(1).await;
    world.configure(&world.topic, &[("max.message.bytes", "4000000")]).await;
    let group = world.start().await;
    let mut runner = TestRunner::default();
    let strategy = (key(), prop::collection::vec(header(), 0..5));
    let drawn = (0..24).map(|_| strategy.new_tree(&mut runner).expect("a value").current());
    // The largest is always among them.
    let noise = |n: usize| (n.wrapping_mul(2_654_435_761) >> 13) as u8;
    let huge = (Some((0..MIB).map(noise).collect()), vec![]);
    let cases: Vec<(Option<Vec<u8>>, Vec<_>)> = drawn.chain([huge]).collect();
    for (at, (key, headers)) in cases.iter().enumerate() {
        let mut sent = Headers::new();
        sent.push("nul", Some(b"a\0b"));
        sent.push("no-text", Some(&[0xff, 0xfe, 0]));
        headers.iter().for_each(|(name, value)| sent.push(name, value.as_deref()));
        for (n, mode) in [(0, "flaky:2"), (1, "ok"), (2, "permanent")] {
            let value = World::event(id(), &format!("list-{at}"), n, mode);
            world.send_bytes_to(&world.topic, key.as_deref(), Some(&value), &sent).await;
        }
    }
    let count = i64::try_from(cases.len()).expect("few");
    let sizes = || cases.iter().map(|(key, _)| key.as_ref().map(Vec::len)).collect::<Vec<_>>();
    until("all retried and buried", || async { world.counted("applied").await == 2 * count }).await;
    let letters = world.dead_letters(cases.len()).await;
    assert!(letters.iter().all(|letter| letter.error_code == "refused"), "{letters:?} of keys {:?}", sizes());
    world.switches.forgiving.store(true, std::sync::atomic::Ordering::Relaxed);
    for letter in &letters {
        requeue(&world, letter).await;
    }
    until("all of them passed in the end", || async {
        let lists = world.lists().await;
        let sorted = |list: &Vec<i64>| {
            let mut list = list.clone();
            list.sort_unstable();
            list
        };
        lists.len() == cases.len() && lists.values().all(|list| sorted(list) == [0, 1, 2])
    })
    .await;
    for (at, (key, _)) in cases.iter().enumerate().filter(|(_, (key, _))| key.is_some()) {
        let list = world.list(&format!("list-{at}")).await;
        assert_eq!(list, [0, 1, 2], "in order, with a key of {:?} bytes", key.as_ref().map(Vec::len));
    }
    assert_eq!((world.counted("parked").await, world.unaccounted().await), (0, 0));
    group.shutdown(Duration::from_secs(10)).await;
}

/// Whatever PostgreSQL may have against a record of which we know nothing: here a constraint on our own table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_stored_is_buried_and_its_neighbours_are_not() {
    const FORBIDDEN: i64 = 424_242;
    let world = World::new(1).await;
    let check = format!("CHECK (position(convert_to('{FORBIDDEN}', 'UTF8') in value) = 0)");
    world.execute(&format!("ALTER TABLE parked ADD CONSTRAINT storable {check}")).await;
    for at in 0..15 {
        let (key, n) = (format!("key-{at}"), if at == 13 { FORBIDDEN } else { 1 });
        world.send(Some(&key), Some(&World::event(id(), &key, n, "flaky:1"))).await;
    }
    let group = world.start().await;
    world.until_counted("applied", 14).await;
    let letter = world.dead_letters(1).await.remove(0);
    assert_eq!(
        (letter.class, letter.error_code.as_str(), letter.offset.0),
        (Class::Permanent, "unstorable", 13)
    );

    // Put back, with others: the requeue lane goes on as well.
    world.execute("ALTER TABLE parked DROP CONSTRAINT storable").await;
    for n in [2, FORBIDDEN, 3] {
        world.send(Some("k"), Some(&World::event(id(), "k", n, "permanent"))).await;
    }
    let letters = world.dead_letters(4).await;
    world.execute(&format!("ALTER TABLE parked ADD CONSTRAINT storable {check} NOT VALID")).await;
    world.switches.forgiving.store(true, std::sync::atomic::Ordering::Relaxed);
    for letter in letters.iter().filter(|letter| letter.error_code == "refused") {
        requeue(&world, letter).await;
    }
    until("the others are applied", || async { world.list("k").await == [2, 3] }).await;
    let unstorable = |letter: &DeadLetter| letter.error_code == "unstorable";
    assert_eq!(world.dead_letters(5).await.iter().filter(|letter| unstorable(letter)).count(), 2);
    assert_eq!(world.unaccounted().await, 0);
    group.shutdown(Duration::from_secs(10)).await;
}
