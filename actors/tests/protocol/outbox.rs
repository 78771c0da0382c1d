//! What is published: once where nobody died, whatever Kafka refuses.

use std::{collections::HashMap, time::Duration};

use actors::Group;
use rdkafka::Message;

use crate::{
    delivery::id,
    support::{World, until},
};

/// How often each number was said of each key.
async fn said(world: &World) -> HashMap<Vec<u8>, usize> {
    let mut said = HashMap::new();
    for record in world.read(&world.out).await {
        *said.entry(record.payload().expect("a body").to_vec()).or_default() += 1;
    }
    said
}

async fn emptied(world: &World) {
    until("the outbox is empty", || async { world.number("SELECT count(*) FROM outbox").await == 0 }).await;
}

async fn stop(group: Group) {
    assert!(group.shutdown(Duration::from_secs(10)).await, "it leaves in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_dies_publishes_nothing_twice() {
    let world = World::new(2).await;
    let group = world.start().await;
    let events: Vec<_> = (0..300)
        .map(|n| {
            let (key, mode) = (format!("key-{n}"), if n % 30 == 7 { "panic-once" } else { "ok" });
            let event = World::event(id(), &key, n, mode);
            (key, event)
        })
        .collect();
    // One death for each of these, with rows of those before it published and not yet deleted.
    for (some, applied) in events.chunks(30).zip((30..).step_by(30)) {
        world.send_all(some.iter().map(|(key, event)| (key.as_str(), event.as_slice()))).await;
        world.until_counted("applied", applied).await;
    }
    emptied(&world).await;
    let said = said(&world).await;
    assert_eq!(said.len(), 300);
    let twice = said.values().filter(|count| **count > 1).count();
    assert_eq!(twice, 0, "published twice");
    let restarts: u32 = group.partitions().iter().map(|lane| lane.restarts).sum();
    assert!(restarts >= 10, "{restarts} actors died");
    stop(group).await;
}
