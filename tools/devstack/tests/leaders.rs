//! A broker goes away and takes the leaders of some partitions with it: those are named and wait, all others go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use contracts::topics::{ORDERS, PARTITIONS};
use devstack::{
    audit,
    clients::{admin::Condition, topics::partition_of},
    servers::kafka::{SECOND, Second, client},
    stack::{GatewayPort, Stack, Up},
    testing::{SOON, Trial},
    topology::{KAFKA_BROKERS, Role},
};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    types::RDKafkaErrorCode,
};
use uuid::Uuid;

/// What has to be seen, or to be over, is so after this time.
const SHOWN: Duration = Duration::from_secs(15);
const FIRST: i32 = 1;
/// The partitions whose leader goes: several, so that asking one in vain must not keep the others from being named.
const LOST: [i32; 3] = [PARTITIONS - 3, PARTITIONS - 2, PARTITIONS - 1];
const SERVICES: [Role; 3] = [Role::Orders, Role::Payments, Role::Delivery];

/// Makes the topic of the orders anew, with some partitions on the second broker.
async fn spread_orders(brokers: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create()?;
    let options = AdminOptions::new().operation_timeout(Some(SOON));
    for answer in admin.delete_topics(&[ORDERS], &options).await? {
        answer.map_err(|(topic, code)| anyhow::anyhow!("{topic} cannot be deleted: {code}"))?;
    }
    let replicas: Vec<&[i32]> =
        (0..PARTITIONS).map(|at| if LOST.contains(&at) { &[SECOND][..] } else { &[FIRST] }).collect();
    let topic = NewTopic::new(ORDERS, PARTITIONS, TopicReplication::Variable(&replicas));
    let start = Instant::now();
    loop {
        match admin.create_topics([&topic], &options).await?.pop().context("no answer")? {
            Ok(_) => return Ok(()),
            // Deleting takes its time.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) if start.elapsed() < SOON => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err((topic, code)) => bail!("{topic} cannot be made: {code}"),
        }
    }
}

async fn start() -> Result<(Trial, Second)> {
    let mut stack = Stack::private(GatewayPort::Any, &[])?;
    // While there is one broker, everything is there, the groups' and transactions' own topics too.
    stack.up(&Up::default()).await?;
    for role in SERVICES {
        ensure!(stack.stop(role, 1).await?, "{role} did not end when asked");
    }
    let brokers = stack.url(KAFKA_BROKERS)?.to_owned();
    let second = Second::join(&stack.home(Role::Kafka), &brokers).await?;
    spread_orders(&brokers).await?;
    stack.up(&Up::default()).await?;
    Ok((Trial::of(stack)?, second))
}

/// Places orders until there are some of those partitions and some of others: those, and these.
async fn place(trial: &Trial) -> Result<(Vec<Uuid>, Vec<Uuid>)> {
    let (mut waiting, mut others) = (Vec::new(), Vec::new());
    while waiting.is_empty() || others.len() < 10 {
        let order = trial.gateway.place("tok_ok", 1_000).await?;
        let partition = partition_of(order.to_string().as_bytes(), PARTITIONS);
        if LOST.contains(&partition) { &mut waiting } else { &mut others }.push(order);
    }
    Ok((waiting, others))
}

async fn all_complete(trial: &Trial, orders: &[Uuid], limit: Duration) -> Result<()> {
    for order in orders {
        trial.gateway.until(*order, "COMPLETED", limit).await?;
    }
    Ok(())
}

/// Nothing is wrong but that topics have one replica where there are two brokers, which is so.
fn calm(said: &[Condition]) -> bool {
    said.iter().all(|one| one.code == "topic-replication")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_without_a_leader_are_named_and_the_others_go_on() -> Result<()> {
    let (trial, mut second) = start().await?;
    for role in SERVICES {
        trial.until_degraded(role, "at rest", SOON, calm).await?;
    }
    let (waiting, others) = place(&trial).await?;
    all_complete(&trial, &[waiting, others].concat(), SOON).await?;

    second.kill().await?;
    let away = Instant::now();
    let named = |said: &[Condition]| {
        let of = |partition: &i32| {
            said.iter().any(|one| one.topic.as_deref() == Some(ORDERS) && one.partition == Some(*partition))
        };
        LOST.iter().all(of)
    };
    for reader in [Role::Payments, Role::Delivery] {
        trial.until_degraded(reader, "named", SHOWN.saturating_sub(away.elapsed()), named).await?;
    }
    let (waiting, others) = place(&trial).await?;
    all_complete(&trial, &others, SHOWN).await?;
    let one = |said: &[Condition]| {
        said.iter().any(|one| one.topic.as_deref() == Some(ORDERS) && one.partition.is_some())
    };
    trial.until_degraded(Role::Orders, "named by who writes to it", SHOWN, one).await?;
    for order in &waiting {
        let order = trial.gateway.order(*order).await?;
        ensure!(order.status == "PENDING", "{order:?}");
    }

    second.start().await?;
    let back = Instant::now();
    all_complete(&trial, &waiting, SHOWN).await?;
    for role in SERVICES {
        let rest = SHOWN.saturating_sub(back.elapsed());
        trial.until_degraded(role, "over", rest, calm).await?;
    }
    trial.totals("at rest", |totals| totals.unfinished() == 0 && totals.wrong().is_empty()).await?;
    let audit = audit::run(&trial.stack, audit::retention()).await?;
    ensure!(audit.is_clean(), "offsets have no outcome:\n{audit}");
    // It writes into the directory that is removed.
    second.kill().await?;
    trial.stack.discard().await
}
