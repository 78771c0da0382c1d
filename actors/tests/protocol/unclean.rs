//! A process that ends without a word, and a record that ends every process.

use actors::dead_letter::Class;

use crate::{
    delivery::id,
    support::{
        World,
        member::{Manners, Member},
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_ends_every_process_is_buried_and_its_neighbours_are_not() {
    let world = World::new(1).await;
    for n in 0..8 {
        let (key, mode) = (format!("key-{n}"), if n == 3 { "deadly" } else { "ok" });
        world.send(Some(&key), Some(&World::event(id(), &key, n, mode))).await;
    }
    let manners = Manners { deadly: true, ..Manners::default() };
    // The first dies with a batch in hand; from then on the record is tried alone, with its intent written: five deaths.
    for death in 0..6 {
        let mut member = Member::spawn(&world, &manners);
        member.aborted().await;
        if death > 0 {
            assert!(member.has_said("ended without a word"), "{}", member.last_words());
        }
    }
    let last = Member::spawn(&world, &manners);
    world.until_counted("applied", 7).await;
    let letters = world.dead_letters(1).await;
    assert_eq!(
        (letters[0].class, letters[0].error_code.as_str(), letters[0].offset.0),
        (Class::Crash, "process-death", 3)
    );
    last.stop().await;
}
