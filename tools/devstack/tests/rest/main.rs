//! Kafka goes away from a system at rest and comes back: every consumer comes back too, and says meanwhile that it is away.
//!
//! A plain run does one round. `REST_ROUNDS` asks for more, `REST_SEED` for others, `REST_ABSENCE` for those of one kind (frozen, killed,
//! stopped, refused, swallowed); what fails names seed and round.

mod round;

use std::{env, time::Instant};

use anyhow::{Context, Result, ensure};
use dead_letters::one_line;
use devstack::{
    audit,
    os::proxy::Proxy,
    stack::{GatewayPort, Stack, Up},
    testing::Trial,
    topology::Role,
};

use self::round::{Absence, Round};

fn number(name: &str, otherwise: u64) -> Result<u64> {
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text} is not a number")),
        Err(_) => Ok(otherwise),
    }
}

/// A stack with somebody in front of its Kafka.
async fn start() -> Result<(Trial, Proxy)> {
    let proxy = Proxy::start().await?;
    let mut stack = Stack::private(GatewayPort::Any, &[])?;
    stack.set_kafka_front(proxy.port());
    stack.up(&Up { servers_only: true, ..Up::default() }).await?;
    let kafka = stack.state().entry(Role::Kafka, 1).and_then(|entry| entry.port);
    proxy.hand_on_to(kafka.context("Kafka has no port")?);
    stack.up(&Up::default()).await?;
    Ok((Trial::of(stack)?, proxy))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_consumer_comes_back_when_kafka_does() -> Result<()> {
    let (seed, rounds) = (number("REST_SEED", 1)?, number("REST_ROUNDS", 1)?);
    let only = env::var("REST_ABSENCE").ok();
    let only = only.map(|name| Absence::parse(&name).with_context(|| format!("Kafka is never {name}")));
    let only = only.transpose()?;
    let (mut trial, proxy) = start().await?;
    let mut failed = Vec::new();
    for (number, round) in (1..=rounds).zip(Round::by_seed(seed, only)) {
        let start = Instant::now();
        println!("REST_SEED={seed}, round {number} of {rounds}: {round}");
        match round.run(&mut trial, &proxy).await {
            Ok(()) => println!("  as it should be, after {:.1} s", start.elapsed().as_secs_f64()),
            Err(error) => {
                let error = one_line(error.as_ref());
                println!("  FAILED after {:.1} s: {error}", start.elapsed().as_secs_f64());
                failed.push(format!("REST_SEED={seed} REST_ROUNDS={number}: {round}: {error}"));
            }
        }
        // So many say enough.
        if failed.len() == 10 {
            break;
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    let audit = audit::run(&trial.stack, audit::retention()).await?;
    ensure!(audit.is_clean(), "offsets have no outcome:\n{audit}");
    trial.stack.discard().await
}
