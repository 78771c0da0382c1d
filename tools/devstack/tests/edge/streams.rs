//! Orders that are followed, over restarts and in numbers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use devstack::{
    clients::admin,
    testing::{self, SOON, Trial},
    topology::Role,
};
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use reqwest::{Client, Response};
use rustix::process::{Resource, getrlimit};
use uuid::Uuid;

use crate::SETTINGS;

const STREAMS: usize = 1_000;
const ORDERS: usize = 50;
/// Descriptors that a stream takes at the gateway, and those that are for something else.
const DESCRIPTORS: (usize, usize) = (2, 600);

fn client() -> Result<Client> {
    Ok(Client::builder().no_proxy().build()?)
}

async fn follow(trial: &Trial, client: &Client, id: Uuid, last: usize) -> Result<Response> {
    let request = client.get(format!("{}/orders/{id}/events", trial.gateway.url()));
    Ok(request.header("last-event-id", last.to_string()).send().await?)
}

/// A client as browsers are: it connects again, behind what it has seen, until there is nothing more to come. The ids it has seen.
async fn whole(trial: &Trial, id: Uuid) -> Result<Vec<usize>> {
    let (client, started, mut seen) = (client()?, Instant::now(), Vec::new());
    while started.elapsed() < SOON {
        if let Ok(mut stream) = follow(trial, &client, id, seen.last().copied().unwrap_or(0)).await {
            match stream.status().as_u16() {
                204 => return Ok(seen),
                200 => {
                    let mut text = String::new();
                    while let Ok(Some(chunk)) = stream.chunk().await {
                        text.push_str(std::str::from_utf8(&chunk)?);
                        // What was not whole when it broke comes again.
                        while let Some((message, rest)) = text.split_once("\n\n") {
                            let id = message.lines().find_map(|line| line.strip_prefix("id: "));
                            seen.extend(id.map(str::parse::<usize>).transpose()?);
                            text = rest.to_owned();
                        }
                    }
                }
                _ => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("order {id} was followed for {SOON:?} without an end: {seen:?}")
}

#[test]
fn an_order_is_followed_over_restarts_of_orders_and_gateway_each_event_once() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        // Without payments it goes on when it is cancelled, and not before.
        trial.stack.stop(Role::Payments, 1).await?;
        let id = trial.gateway.place_keyed("tok_ok", 500).await?;
        let other = Trial::of(trial.stack.clone())?;
        let following = tokio::spawn(async move { whole(&other, id).await });
        trial.stack.kill(Role::Orders, 1).await?;
        trial.stack.start(Role::Orders, 1).await?;
        ensure!(
            trial.stack.stop(Role::Gateway, 1).await?,
            "the gateway had to be killed: a stream has held it up"
        );
        trial.stack.start(Role::Gateway, 1).await?;
        let (status, answer) = trial.gateway.cancel(id).await?;
        ensure!(status == 200, "{answer}");
        let seen = following.await??;
        trial.stack.start(Role::Payments, 1).await?;
        let order = trial.gateway.order(id).await?;
        let until_its_end =
            order.events().iter().position(|event| *event == "ORDER_CANCELLED").context("its end")? + 1;
        ensure!(seen.len() >= until_its_end, "{seen:?} of {:?}", order.events());
        ensure!(seen.iter().copied().eq(1..=seen.len()), "not each once, in order: {seen:?}");
        Ok(())
    })
}

/// Resident memory of a service, bytes.
async fn memory(trial: &Trial, role: Role) -> Result<f64> {
    let text = admin::metrics(&trial.stack.admin_url(role, 1)?).await?;
    let line = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    Ok(line.context("no process_resident_memory_bytes")?.trim().parse()?)
}

#[test]
fn a_thousand_streams_cost_little_and_all_see_the_end() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let available = getrlimit(Resource::Nofile)
            .current
            .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let streams = STREAMS.min(available.saturating_sub(DESCRIPTORS.1) / DESCRIPTORS.0);
        if streams < STREAMS {
            eprintln!("{streams} streams: there are no more than {available} file descriptors");
        }
        ensure!(streams > 50, "{available} file descriptors are too few for this");
        trial.stack.stop(Role::Payments, 1).await?;
        let ids = try_join_all((0..ORDERS).map(|_| trial.gateway.place_keyed("tok_ok", 500))).await?;
        let before = [memory(trial, Role::Gateway).await?, memory(trial, Role::Orders).await?];
        let client = client()?;
        let started = Instant::now();
        let opening = (0..streams).map(async |n| {
            let mut stream = follow(trial, &client, ids[n % ORDERS], 0).await?;
            ensure!(stream.status().is_success(), "stream {n}: {}", stream.status());
            ensure!(stream.chunk().await?.is_some(), "stream {n} says nothing");
            Ok(stream)
        });
        let open: Vec<Response> = stream::iter(opening).buffer_unordered(8).try_collect().await?;
        let opened = started.elapsed();
        let after = [memory(trial, Role::Gateway).await?, memory(trial, Role::Orders).await?];
        let each = [0, 1].map(|at| (after[at] - before[at]) / streams as f64 / 1024.0);
        println!(
            "{streams} streams opened in {:.1} s; memory of each: gateway {:.0} KiB, orders {:.0} KiB",
            opened.as_secs_f64(),
            each[0],
            each[1]
        );
        ensure!(each.iter().all(|kib| *kib < 200.0), "KiB for each stream: {each:?}");
        // Whoever only asks is answered meanwhile.
        trial.gateway.order(ids[0]).await?;
        let started = Instant::now();
        try_join_all(ids.iter().map(|id| trial.gateway.cancel(*id))).await?;
        let endings = open.into_iter().map(async |mut stream| {
            let mut text = String::new();
            while let Some(chunk) = stream.chunk().await? {
                text.push_str(std::str::from_utf8(&chunk)?);
            }
            ensure!(text.contains("\"status\":\"CANCELLED\""), "{text}");
            Ok(())
        });
        let all = tokio::time::timeout(SOON, try_join_all(endings));
        all.await.context("not all streams have ended")??;
        println!("all ended {:.1} s after the cancels", started.elapsed().as_secs_f64());
        trial.stack.start(Role::Payments, 1).await?;
        Ok(())
    })
}
