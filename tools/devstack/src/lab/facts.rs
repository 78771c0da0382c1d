//! What a verdict is made of, asked from outside once all is over.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use serde::Serialize;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    garbage::Place,
    inject::{Done, Scene, locked},
    sequence,
};
use crate::{
    audit,
    clients::{
        gateway::TERMINAL,
        inspector::{DeadLetter, Inspector},
    },
    money,
    reconcile::Totals,
    servers::postgres::connect,
    stack::Stack,
    topology::{DATABASES, KAFKA_BROKERS},
};

/// Dead letters that are there because of garbage, and others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Letters {
    /// Records of garbage that were published.
    pub garbage: usize,
    /// Dead letters of them: one by each group that reads their topic.
    pub of_garbage: usize,
    /// Records of garbage of which nobody has made a dead letter.
    pub missing: Vec<String>,
    /// Dead letters of anything else.
    pub unexpected: Vec<String>,
}

/// What there is to say of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// Orders that customers wanted.
    pub placed: u64,
    /// Those that were accepted.
    pub accepted: usize,
    /// Requests sent again, with the same key.
    pub repeated: u64,
    /// Orders and cancels that were refused or never answered.
    pub refused: Vec<String>,
    /// Accepted orders that have ended.
    pub ended: usize,
    /// Orders that have not ended and have no open dead letter that says why.
    pub stuck: Vec<String>,
    /// Accepted orders that are not there.
    pub lost: Vec<String>,
    /// Orders that are there more than once for one key.
    pub placed_twice: i64,
    /// Orders that ended otherwise than their payment token says.
    pub ended_otherwise: Vec<String>,
    /// Orders charged or given back more than once, in the ledger or at the provider.
    pub charged_twice: i64,
    /// Ledger, the provider's list and orders beside each other.
    pub money: money::Report,
    /// Offsets without an outcome, by the counters or by the audit.
    pub unaccounted: i64,
    /// Offsets proved to have an outcome.
    pub proved: i64,
    /// What the audit says of them, the first of each kind first.
    pub audit: Vec<String>,
    /// Events that stand in another order than their causes.
    pub out_of_order: Vec<String>,
    /// Dead letters.
    pub dead_letters: Letters,
    /// Sums that differ: money, couriers, what is still waiting.
    pub reconciliation: Vec<String>,
    /// Processes that ended and were not ended by a fault.
    pub ended_by_themselves: Vec<String>,
    /// The faults.
    pub faults: Vec<Done>,
}

/// What was there before a lab began.
#[derive(Clone, Debug)]
pub(super) struct Before {
    /// The time by PostgreSQL's clock.
    pub(super) since: SystemTime,
    letters: HashSet<String>,
}

impl Before {
    pub(super) async fn read(stack: &Stack) -> Result<Self> {
        let client = connect(stack.url(DATABASES[0].variable)?).await?;
        let since = client.query_one("select clock_timestamp()", &[]).await?.try_get(0)?;
        let letters = Inspector::new(stack)?.list(&[]).await?;
        Ok(Self { since, letters: letters.into_iter().map(|letter| letter.id).collect() })
    }
}

/// Waits until nothing moves any more and every order has ended or waits for a dead letter, or until `limit` is over.
pub(super) async fn settled(scene: &Scene<'_>, before: &Before, limit: Duration) -> bool {
    let start = Instant::now();
    loop {
        let quiet = async {
            let stack = scene.stage.snapshot().await;
            let open = open(&states(&stack, before).await?, &Totals::read(&stack).await?, &garbage(scene));
            let still = Totals::read(&stack).await?;
            anyhow::Ok(open.is_empty() && still.is_still() && still.courier_load == 0)
        };
        // What cannot be asked now is asked again.
        if let Ok(Ok(true)) = tokio::time::timeout(Duration::from_secs(20), quiet).await {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn garbage(scene: &Scene<'_>) -> HashSet<Place> {
    locked(&scene.garbage).iter().cloned().collect()
}

/// The state of each order that was placed since.
async fn states(stack: &Stack, before: &Before) -> Result<HashMap<Uuid, String>> {
    let client = connect(stack.url(DATABASES[0].variable)?).await?;
    let rows =
        client.query("select order_id, state from orders where created_at >= $1", &[&before.since]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Orders that have not ended, without those that wait for a dead letter that is theirs.
fn open(states: &HashMap<Uuid, String>, totals: &Totals, garbage: &HashSet<Place>) -> Vec<String> {
    let letters = totals.dead_letters.iter().filter(|letter| !is_garbage(letter, garbage));
    let explained: HashSet<&str> = letters.filter_map(|letter| letter.key.as_deref()).collect();
    let open = states.iter().filter(|(order, state)| {
        !TERMINAL.contains(&state.as_str()) && !explained.contains(order.to_string().as_str())
    });
    open.map(|(order, state)| format!("{order} is {state}")).collect()
}

fn is_garbage(letter: &DeadLetter, garbage: &HashSet<Place>) -> bool {
    let place = letter.topic.clone().zip(letter.partition).zip(letter.offset);
    place.is_some_and(|((topic, partition), offset)| garbage.contains(&(topic, partition, offset)))
}

/// Asks everything.
///
/// # Errors
/// When a server, or the inspector, does not answer.
pub(super) async fn collect(
    scene: &Scene<'_>,
    before: &Before,
    faults: Vec<Done>,
    ended_by_themselves: Vec<String>,
) -> Result<Facts> {
    let stack = &scene.stage.snapshot().await;
    let garbage = garbage(scene);
    let (accepted, refused) = (scene.orders.accepted().clone(), scene.orders.refused().clone());
    let states = states(stack, before).await?;
    let totals = Totals::read(stack).await?;
    let audit = audit::run(stack, audit::retention()).await?;
    let money = money::run(stack, Duration::ZERO).await?;
    let out_of_order = tokio::task::spawn_blocking({
        let (brokers, garbage) = (stack.url(KAFKA_BROKERS)?.to_owned(), garbage.clone());
        move || sequence::broken(&brokers, &garbage)
    });
    let terminal = |order: &Uuid| states.get(order).is_some_and(|state| TERMINAL.contains(&state.as_str()));
    let otherwise = accepted.iter().filter(|(order, end)| terminal(order) && !end.is(&states[*order]));
    let by_audit: i64 = audit.groups.iter().flat_map(|group| group.unaccounted.values()).sum();
    let letters = Inspector::new(stack)?.list(&[]).await?;
    Ok(Facts {
        placed: scene.orders.placed.load(Ordering::Relaxed),
        accepted: accepted.len(),
        repeated: scene.orders.repeated.load(Ordering::Relaxed),
        refused,
        ended: accepted.keys().filter(|order| terminal(order)).count(),
        stuck: open(&states, &totals, &garbage),
        lost: accepted.keys().filter(|order| !states.contains_key(order)).map(Uuid::to_string).collect(),
        placed_twice: placed_twice(stack, before).await?,
        ended_otherwise: otherwise
            .map(|(order, end)| format!("{order} is {}, and its token says {end:?}", states[order]))
            .collect(),
        charged_twice: charged_twice(&connect(stack.url(DATABASES[1].variable)?).await?).await?,
        money,
        unaccounted: totals.unaccounted().max(by_audit),
        proved: audit.proved,
        audit: audit.problems.iter().map(ToString::to_string).collect(),
        out_of_order: out_of_order.await??,
        dead_letters: sorted(letters, before, &garbage),
        reconciliation: totals.wrong(),
        ended_by_themselves,
        faults,
    })
}

async fn placed_twice(stack: &Stack, before: &Before) -> Result<i64> {
    let client = connect(stack.url(DATABASES[0].variable)?).await?;
    // Each wish of a customer has a correlation id of its own.
    let sql = "select count(*) - count(distinct correlation_id) from orders where created_at >= $1";
    Ok(client.query_one(sql, &[&before.since]).await?.try_get(0)?)
}

/// Orders of which the ledger has two charges or two refunds, or the provider two charges that it has not given back.
async fn charged_twice(payments: &Client) -> Result<i64> {
    let sql = "select count(distinct order_id) from (
                   select order_id::text from charges group by order_id, kind having count(*) > 1
                   union all
                   select split_part(key, ':', 2) from provider.charges where amount_cents is not null and refunded_at is null
                   group by 1 having count(*) > 1) as twice";
    Ok(payments.query_one(sql, &[]).await?.try_get(0)?)
}

/// Dead letters that a lab has made, by whether they are of garbage.
fn sorted(letters: Vec<DeadLetter>, before: &Before, garbage: &HashSet<Place>) -> Letters {
    let mut found = Letters { garbage: garbage.len(), ..Letters::default() };
    let mut without: BTreeMap<&Place, ()> = garbage.iter().map(|place| (place, ())).collect();
    for letter in letters {
        if before.letters.contains(&letter.id) {
            continue;
        }
        if is_garbage(&letter, garbage) {
            found.of_garbage += 1;
            without.retain(|(topic, partition, offset), ()| {
                (Some(topic), Some(*partition), Some(*offset))
                    != (letter.topic.as_ref(), letter.partition, letter.offset)
            });
        } else {
            let key = letter.key.as_deref().unwrap_or("no key");
            found.unexpected.push(format!("{} of {key} in {}: {}", letter.class, letter.group, letter.error));
        }
    }
    found.missing = without
        .into_keys()
        .map(|(topic, partition, offset)| format!("{topic}/{partition} offset {offset}"))
        .collect();
    found
}
