//! The servers of a private stack: killed at once, they come back where they were, with what they held. A start that fails
//! leaves nothing behind.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use devstack::{
    os::process::ProcessId,
    servers::{kafka, postgres},
    stack::{Changed, GatewayPort, RunState, Stack, Up},
    topology::{KAFKA_BROKERS, REDIS_URL, Role},
};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    producer::{FutureProducer, FutureRecord},
};

const SERVERS: Up = Up { scale: std::collections::BTreeMap::new(), fresh: false, servers_only: true };

fn watermarks(brokers: &str) -> (i64, i64) {
    let consumer: BaseConsumer = kafka::client(brokers).create().expect("a consumer");
    consumer.fetch_watermarks("kept", 0, Duration::from_secs(10)).expect("the topic is there")
}

async fn cluster_id(brokers: &str) -> Option<String> {
    let admin: AdminClient<DefaultClientContext> = kafka::client(brokers).create().expect("an admin client");
    tokio::task::spawn_blocking(move || {
        // The broker's answer to metadata carries it.
        admin.inner().fetch_cluster_id(Duration::from_secs(10))
    })
    .await
    .expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_of_everything_up_starts_it_again_with_all_its_data() {
    let mut stack = Stack::private(GatewayPort::Any, &[]).expect("a stack");
    let up = stack.up(&SERVERS).await.expect("comes up");
    assert_eq!(up.started, ["kafka", "postgres", "redis"]);
    assert_eq!(stack.up(&SERVERS).await.expect("is up"), Changed::default(), "nothing is missing");

    let brokers = stack.url(KAFKA_BROKERS).expect("known").to_owned();
    let admin: AdminClient<DefaultClientContext> = kafka::client(&brokers).create().expect("an admin client");
    let topic = NewTopic::new("kept", 1, TopicReplication::Fixed(1));
    for made in admin.create_topics([&topic], &AdminOptions::new()).await.expect("answers") {
        made.expect("the topic is made");
    }
    let producer: FutureProducer = kafka::client(&brokers).create().expect("a producer");
    for _ in 0..10 {
        let record = FutureRecord::to("kept").key("k").payload("v");
        producer.send(record, Duration::from_secs(10)).await.expect("acknowledged");
    }
    let id = cluster_id(&brokers).await.expect("a cluster id");
    let orders = stack.url("ORDERS_DATABASE_URL").expect("known").to_owned();
    let client = postgres::connect(&orders).await.expect("connects");
    client.batch_execute("create table kept (n int); insert into kept values (7)").await.expect("written");
    let fsync: String = client.query_one("show fsync", &[]).await.expect("answers").get(0);
    assert_eq!(fsync, "on");

    for role in Role::SERVERS {
        stack.kill(role, 1).await.expect("killed");
    }
    let dead = stack.status().into_iter().filter(|process| Role::SERVERS.contains(&process.name));
    assert!(dead.clone().count() == 3 && dead.clone().all(|process| process.state == RunState::Dead));

    let up = stack.up(&SERVERS).await.expect("comes up again");
    assert_eq!(up.started, ["kafka", "postgres", "redis"]);
    assert_eq!(stack.url(KAFKA_BROKERS).expect("known"), brokers, "at the same port");
    assert_eq!(watermarks(&brokers), (0, 10));
    assert_eq!(cluster_id(&brokers).await, Some(id));
    let client = postgres::connect(&orders).await.expect("connects");
    let kept: i32 = client.query_one("select n from kept", &[]).await.expect("the table is there").get(0);
    assert_eq!(kept, 7);
    assert!(stack.url(REDIS_URL).expect("known").starts_with("redis://127.0.0.1:"));

    let dir = stack.dir().to_owned();
    let pids: Vec<u32> = stack.status().iter().filter_map(|process| process.pid).collect();
    assert_eq!(pids.len(), 3);
    stack.discard().await.expect("goes down");
    assert!(!dir.exists(), "its directory is gone");
    for pid in pids {
        assert!(ProcessId::of(pid).is_none(), "process {pid} is left");
    }
}

fn running(stack: &Stack) -> Vec<Role> {
    let running = stack.status().into_iter().filter(|process| process.state == RunState::Running);
    running.map(|process| process.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_nothing_running_and_a_port_that_was_taken_meanwhile_is_replaced() {
    // A service that ends at once: everything else was started before.
    let mut stack =
        Stack::private(GatewayPort::Any, &[(Role::Payments, "TOPIC_PARTITIONS", "none")]).expect("a stack");
    let error = stack.up(&Up::default()).await.expect_err("payments does not start");
    assert!(format!("{error:#}").contains("payments"), "{error:#}");
    assert_eq!(running(&stack), [], "it was started for nothing");

    // The gateway has a port now, and another program takes it.
    let url = stack.gateway_url().expect("known");
    let port: u16 = url.rsplit(':').next().expect("a port").parse().expect("a number");
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("nothing serves there");
    stack.set_gateway_port(GatewayPort::Exactly(port));
    let error = stack.up(&SERVERS).await.err();
    assert!(error.is_none(), "the gateway is not to be started: {error:?}");
    let error = stack.up(&Up::default()).await.expect_err("the port that was named is taken");
    assert!(format!("{error:#}").contains("--port"), "{error:#}");
    assert_eq!(running(&stack), Role::SERVERS, "they ran before");

    stack.set_variable(Role::Payments, "TOPIC_PARTITIONS", "6");
    stack.set_gateway_port(GatewayPort::Usual);
    stack.up(&Up::default()).await.expect("comes up on another port");
    assert_ne!(stack.gateway_url().expect("known"), url);
    assert_eq!(running(&stack), Role::ALL);

    // What was remembered goes with the data.
    let before = stack.state().clone();
    stack.up(&Up { fresh: true, ..SERVERS }).await.expect("comes up anew");
    let ports = |state: &devstack::stack::state::State| -> Vec<u16> {
        state.entries.iter().flat_map(|entry| [entry.port, entry.second_port]).flatten().collect()
    };
    let kept = ports(&before);
    assert!(ports(stack.state()).iter().all(|port| !kept.contains(port)), "nothing is remembered");
    stack.discard().await.expect("goes down");
}
