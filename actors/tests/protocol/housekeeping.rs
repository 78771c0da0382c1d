//! What goes on beside the partitions: gauges, the inbox's sweep, Redis, old snapshots, tasks that end.

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use actors::{
    Deps, Group, Hints, LaneState, Publisher, TopicPartition,
    metrics::{
        CONDITIONS, INBOX_PAST_RETENTION, LAG, OLDEST_SNAPSHOT, OUTBOX_ROWS, PARKED, PARKED_AGE, STATE,
        Sample,
    },
};
use uuid::Uuid;

use crate::support::{
    Toy, World,
    member::{Manners, Member},
    until,
};

fn source(world: &World) -> TopicPartition {
    TopicPartition::new(world.topic.as_str(), 0)
}

fn label<'a>(sample: &'a Sample, name: &str) -> &'a str {
    sample.labels.iter().find(|(label, _)| *label == name).map_or("", |(_, value)| value)
}

/// The toy's partitions of which `group` has a gauge of this name.
fn shown(group: &Group, world: &World, name: &str) -> BTreeSet<String> {
    let samples = group.samples();
    let of_toy = samples.iter().filter(|sample| sample.name == name && label(sample, "topic") == world.topic);
    of_toy.map(|sample| label(sample, "partition").to_owned()).collect()
}

fn value(group: &Group, name: &str) -> f64 {
    group.samples().iter().find(|sample| sample.name == name).expect("a sample").value
}

/// The gauge of this name of the toy's first partition.
fn of_source(group: &Group, world: &World, name: &str) -> Option<f64> {
    let of_it = |sample: &Sample| label(sample, "topic") == world.topic && label(sample, "partition") == "0";
    group.samples().iter().find(|sample| sample.name == name && of_it(sample)).map(|sample| sample.value)
}

fn degraded(group: &Group, code: &str) -> bool {
    group.degraded().iter().any(|condition| condition.code == code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_left_has_no_gauges() {
    let world = World::new(2).await;
    let one = world.start().await;
    until("both partitions show", || async { shown(&one, &world, LAG).len() == 2 }).await;
    for sample in one.samples() {
        assert_eq!(label(&sample, "group"), world.group, "{sample:?}");
    }
    let other = world.start().await;
    until("each shows its own", || async {
        shown(&one, &world, LAG).len() == 1 && shown(&other, &world, LAG).len() == 1
    })
    .await;
    for name in [LAG, PARKED, OUTBOX_ROWS] {
        let (one, other) = (shown(&one, &world, name), shown(&other, &world, name));
        assert!(one.is_disjoint(&other), "{name}: {one:?} {other:?}");
    }
    assert!(other.shutdown(Duration::from_secs(10)).await);
    assert_eq!(shown(&other, &world, LAG).len(), 0, "nothing is left of one that has gone");
    until("the first has both again", || async { shown(&one, &world, LAG).len() == 2 }).await;
    one.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_partition_does_and_since_when_a_record_waits_are_gauges() {
    let mut world = World::new(1).await;
    world.settings.retry.initial = Duration::from_secs(600);
    world.settings.retry.max = Duration::from_secs(600);
    let group = world.start().await;
    let gauge = |name| of_source(&group, &world, name);
    until("it works", || async { gauge(STATE) == Some(0.0) }).await;
    assert_eq!(gauge(PARKED_AGE), Some(0.0), "nothing waits");
    let event = World::event(Uuid::now_v7(), "k", 1, "down");
    world.send(Some("k"), Some(&event)).await;
    let begun = Instant::now();
    until("the record waits", || async { gauge(PARKED_AGE) > Some(0.0) }).await;
    let first = gauge(PARKED_AGE);
    until("and then for longer", || async { gauge(PARKED_AGE) > first }).await;
    assert!(gauge(PARKED_AGE) < Some(begun.elapsed().as_secs_f64()));
    group.pause(source(&world)).await.expect("paused");
    until("the pause shows", || async { gauge(STATE) == Some(2.0) }).await;
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_paused_partition_may_bring_once_more_is_not_forgotten() {
    let mut world = World::new(1).await;
    world.settings.retention.inbox = Duration::from_secs(2);
    world.settings.retention.every = Duration::from_millis(100);
    let group = world.start().await;
    let event = World::event(Uuid::now_v7(), "k", 1, "ok");
    world.send(Some("k"), Some(&event)).await;
    until("it is applied", || async { world.counted("applied").await == 1 }).await;
    group.pause(source(&world)).await.expect("paused");
    let paused = || async { group.partitions().iter().any(|lane| lane.state == LaneState::Paused) };
    until("the pause shows", paused).await;
    world.send(Some("k"), Some(&event)).await;

    let forgotten = "SELECT count(*) FROM offset_journal";
    until("what holds nobody up is swept", || async { world.number(forgotten).await == 0 }).await;
    let old = "SELECT count(*) FROM inbox WHERE processed_at < now() - interval '8 seconds'";
    until("the event is remembered beyond its time", || async { world.number(old).await == 1 }).await;
    until("and it is said why", || async { degraded(&group, "sweep-held-back") }).await;
    let named = group.samples().into_iter().any(|sample| {
        sample.name == CONDITIONS
            && label(&sample, "code") == "sweep-held-back"
            && label(&sample, "partition") == "0"
    });
    assert!(named && value(&group, INBOX_PAST_RETENTION) > 1.0, "{:?}", group.samples());

    group.resume(source(&world)).await.expect("resumed");
    until("it came twice", || async { world.counted("duplicate").await == 1 }).await;
    assert_eq!((world.counted("applied").await, world.list("k").await), (1, vec![1]));
    until("then it is forgotten", || async { world.number("SELECT count(*) FROM inbox").await == 0 }).await;
    until("and nothing is said any more", || async { !degraded(&group, "sweep-held-back") }).await;
    assert!(value(&group, INBOX_PAST_RETENTION) < 1.0);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_keeps_up_and_two_share_it() {
    const ROWS: i64 = 100_000;
    let mut world = World::new(1).await;
    world.settings.retention.every = Duration::from_millis(100);
    let fill = format!(
        "INSERT INTO inbox SELECT '{}', gen_random_uuid(), false, 1, n, now() - interval '4 days' + n / 500 * interval '1 ms'
         FROM generate_series(1, {ROWS}) AS n",
        world.group
    );
    world.execute(&fill).await;
    let started = Instant::now();
    let members = [world.start().await, world.start().await];
    until("all is swept", || async { world.number("SELECT count(*) FROM inbox").await == 0 }).await;
    let rate = 1e5 / started.elapsed().as_secs_f64();
    println!("swept {rate:.0} rows/s, the start of the group included");
    assert!(rate > 5_000.0, "{rate}");
    for member in members {
        member.shutdown(Duration::from_secs(10)).await;
    }
}

/// A Redis of its own, which a test may spoil.
struct OwnRedis {
    child: Child,
    url: String,
}

impl OwnRedis {
    async fn start() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server");
        let redis = Self { child, url: format!("redis://127.0.0.1:{port}") };
        until("Redis answers", || async { redis.set("maxmemory-policy", "noeviction").await }).await;
        redis
    }

    async fn set(&self, name: &str, value: &str) -> bool {
        let client = redis::Client::open(self.url.as_str()).expect("a sound URL");
        let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return false };
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(name).arg(value).exec_async(&mut connection).await.is_ok()
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }
}

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn with(&self, words: &str) -> Vec<String> {
        let bytes = self.0.lock().expect("not poisoned");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

// On one thread: what the group's tasks log is heard by this test alone.
#[tokio::test]
async fn a_redis_that_is_full_is_said_once_and_once_when_it_is_back() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _heard = tracing::subscriber::set_default(subscriber);
    let (world, own) = (World::new(1).await, OwnRedis::start().await);
    let hints = Hints::connect(&own.url).expect("a sound URL");
    let deps = Deps {
        pool: world.pool.clone(),
        housekeeping: world.pool.clone(),
        hints: hints.clone(),
        publisher: Publisher::start(&world.settings.kafka).expect("publisher"),
    };
    let toy = Toy::new(world.switches.clone(), &world.out);
    let group = Group::start(world.settings.clone(), toy, deps).await.expect("group starts");
    let event = |n| World::event(Uuid::now_v7(), "k", n, "call");
    world.send(Some("k"), Some(&event(0))).await;
    world.until_counted("applied", 1).await;
    assert_eq!(hints.check().await, Ok(()));

    assert!(own.set("maxmemory", "1").await);
    let (mut n, started) = (1, Instant::now());
    let mut said = None;
    // Until it shows, and then for as long as it takes to try again a few times.
    while said.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(4)) {
        assert!(started.elapsed() < Duration::from_secs(30), "it does not show");
        world.send(Some("k"), Some(&event(n))).await;
        n += 1;
        match hints.check().await {
            Ok(()) => assert!(said.is_none(), "it was full a moment ago"),
            Err(problem) => {
                assert!(problem.starts_with("OOM"), "{problem}");
                said.get_or_insert_with(Instant::now);
            }
        }
    }
    world.until_counted("applied", n).await;
    let warnings = lines.with("Redis is left alone");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(lines.with("").iter().all(|line| line.len() < 1_024));
    assert_eq!(lines.with("Redis answers again").len(), 0);

    assert!(own.set("maxmemory", "0").await);
    until("it is well again", || async { hints.check().await.is_ok() }).await;
    assert_eq!(lines.with("Redis answers again").len(), 1);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_not_asked_for_what_needs_no_external_call() {
    let (world, client) = (World::new(1).await, redis::Client::open(crate::support::env("REDIS_URL")));
    let mut redis = client.expect("a URL").get_multiplexed_async_connection().await.expect("Redis");
    let group = world.start().await;
    let (plain, calling) = (Uuid::now_v7(), Uuid::now_v7());
    world.send(Some("k"), Some(&World::event(plain, "k", 0, "ok"))).await;
    world.send(Some("k"), Some(&World::event(calling, "k", 1, "call"))).await;
    world.until_counted("applied", 2).await;
    let mut ttl = async |event: Uuid| -> i64 {
        let mut ask = redis::cmd("TTL");
        ask.arg(format!("done:{}:{event}", world.group)).query_async(&mut redis).await.expect("an answer")
    };
    let started = Instant::now();
    let life = loop {
        match ttl(calling).await {
            // It is told some time after the commit.
            -2 => assert!(started.elapsed() < Duration::from_secs(10), "not told"),
            life => break life,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!((1..=600).contains(&life), "{life}");
    assert_eq!(ttl(plain).await, -2, "nobody would ever ask");
    assert_eq!(world.switches.calls.load(Ordering::Relaxed), 1);
    group.shutdown(Duration::from_secs(10)).await;
}

/// Somebody at the world's database who is in no hurry.
async fn analyst(world: &World) -> tokio_postgres::Client {
    let mut config: tokio_postgres::Config =
        crate::support::env("TEST_POSTGRES_URL").parse().expect("TEST_POSTGRES_URL");
    config.dbname(&world.database).application_name("analyst");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("PostgreSQL");
    tokio::spawn(connection);
    client
}

const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM partition_lease";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_looks_at_no_dead_version_of_its_lease() {
    const BATCHES: i64 = 300;
    let mut world = World::new(1).await;
    world.settings.batch_max_records = 1;
    let group = world.start().await;
    world.send(Some("k"), Some(&World::event(Uuid::now_v7(), "k", 0, "ok"))).await;
    world.until_counted("applied", 1).await;
    let (holder, writer) = (analyst(&world).await, analyst(&world).await);
    holder.batch_execute(SNAPSHOT).await.expect("a snapshot");
    writer.batch_execute("SET synchronous_commit = off").await.expect("set");
    let versions = format!(
        "DO $$ BEGIN FOR n IN 1..5000 LOOP
             UPDATE partition_lease SET owner = owner WHERE topic = '{}'; COMMIT;
         END LOOP; END $$",
        world.topic
    );
    writer.batch_execute(&versions).await.expect("as many dead versions");
    writer.batch_execute("SELECT pg_stat_force_next_flush()").await.expect("counted");
    let updates = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'partition_lease'";
    let blocks =
        "SELECT heap_blks_hit + heap_blks_read FROM pg_statio_user_tables WHERE relname = 'partition_lease'";
    until("the versions are counted", || async { world.number(updates).await >= 5_000 }).await;
    let (updates_before, blocks_before) = (world.number(updates).await, world.number(blocks).await);
    let events: Vec<_> = (1..=BATCHES).map(|n| World::event(Uuid::now_v7(), "k", n, "ok")).collect();
    world.send_all(events.iter().map(|event| ("k", event.as_slice()))).await;
    // Without a look at the leases themselves.
    until("all are applied", || async { world.list("k").await.last() == Some(&BATCHES) }).await;
    // Each connection says what it did some time after it did it.
    until("the batches are counted", || async { world.number(updates).await >= updates_before + BATCHES })
        .await;
    let each = (world.number(blocks).await - blocks_before) / BATCHES;
    println!("{each} blocks of the lease's table a batch, those of the watch included");
    assert!(each < 60, "{each}");
    holder.batch_execute("COMMIT").await.expect("ended");
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_keeps_dead_rows_is_named() {
    let mut world = World::new(1).await;
    world.settings.snapshot_max = Duration::from_secs(1);
    let group = world.start().await;
    let client = analyst(&world).await;
    client.batch_execute(SNAPSHOT).await.expect("a snapshot");
    until("it is said", || async { degraded(&group, "old-snapshot") }).await;
    let condition = group.degraded().into_iter().find(|one| one.code == "old-snapshot").expect("said");
    assert!(condition.message.contains("(analyst)"), "{condition:?}");
    assert!(value(&group, OLDEST_SNAPSHOT) >= 1.0);
    client.batch_execute("COMMIT").await.expect("ended");
    until("it is over", || async { !degraded(&group, "old-snapshot") }).await;
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_ends_beside_the_partitions_ends_the_member() {
    let world = World::new(1).await;
    let mut member = Member::spawn(&world, &Manners::failing("watch-round:2:panic"));
    let status = member.ended().await;
    assert_eq!(status.code(), Some(1), "{}", member.last_words());
    assert!(
        member.has_said(&format!("the watch of group {} has ended", world.group)),
        "{}",
        member.last_words()
    );
}
