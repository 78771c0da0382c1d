//! The example of a whole service does what it says.

use std::future::Future;

use tokio::sync::oneshot;

use crate::support::{World, env, until};

#[path = "../../examples/counter.rs"]
#[allow(dead_code, unreachable_pub, reason = "main is for people, and it is a program of its own")]
mod counter;

const KEYS: usize = 5;
const RECORDS: usize = 100;

fn config(world: &World) -> counter::Config {
    let mut database: tokio_postgres::Config = env("TEST_POSTGRES_URL").parse().expect("TEST_POSTGRES_URL");
    database.dbname(&world.database);
    counter::Config {
        kafka: world.settings.kafka.clone(),
        redis: env("REDIS_URL"),
        database,
        topic: world.topic.clone(),
        group: world.group.clone(),
    }
}

/// Runs the service until `enough`.
async fn serve(world: &World, enough: impl Future<Output = ()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let service = counter::run(config(world), async { stopped.await.unwrap_or_default() });
    let ended = async {
        enough.await;
        drop(stop);
    };
    let (left_in_order, ()) = tokio::join!(service, ended);
    assert!(left_in_order.expect("it runs"), "it did not drain");
}

async fn send(world: &World) {
    for n in 0..RECORDS {
        world.send(Some(&format!("key-{}", n % KEYS)), Some(b"1")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counter_adds_every_number_once_also_over_a_restart() {
    let world = World::new(6).await;
    for round in 1..=2_i64 {
        send(&world).await;
        let counted = i64::try_from(RECORDS).expect("few") * round;
        serve(&world, async {
            until("the table is there", || async {
                world.number("SELECT count(*) FROM pg_class WHERE relname = 'clicks'").await == 1
            })
            .await;
            until("all are counted", || async {
                world.number("SELECT coalesce(sum(count), 0)::bigint FROM clicks").await == counted
            })
            .await;
        })
        .await;
        let of_each = counted / i64::try_from(KEYS).expect("few");
        let sql = "SELECT count(*) FROM clicks WHERE count = (SELECT max(count) FROM clicks)";
        assert_eq!(world.number(sql).await, i64::try_from(KEYS).expect("few"));
        assert_eq!(world.number("SELECT max(count) FROM clicks").await, of_each);
    }
}
