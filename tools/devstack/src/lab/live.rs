//! What is going on, a line each second; and who has ended by itself, who is started again as an orchestrator does.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use tokio::time::MissedTickBehavior;

use super::{
    inject::{Scene, locked},
    stage::{Stage, bring_back},
};
use crate::{
    clients::admin::metrics,
    servers::postgres::connect,
    topology::{DATABASES, Role},
};

/// Who does not answer within this is not waited for: a line says what could be learnt.
const ANSWER: Duration = Duration::from_millis(800);

/// What could be learnt of a moment.
#[derive(Debug, Default)]
struct Sample {
    /// Orders that have ended, and that have not.
    orders: Option<(i64, i64)>,
    /// Records that wait for another attempt, and dead letters, of all databases.
    parked: Option<(i64, i64)>,
    /// Offsets between the lanes and the ends of their partitions.
    lag: Option<f64>,
}

/// Says a line a second until this is dropped. `since` is when the lab's first order was placed, by PostgreSQL's clock.
pub(super) async fn live(
    scene: &Scene<'_>,
    since: SystemTime,
    died: &mut Vec<String>,
    say: &(dyn Fn(&str) + Sync),
) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut restarts = Restarts::default();
    // What was dead before the lab is not of the lab.
    let dead_before = soon(parked(scene.stage)).await.map_or(0, |(_, dead)| dead);
    loop {
        ticks.tick().await;
        let stage = scene.stage;
        let (orders, parked, lag) =
            tokio::join!(soon(orders(stage, since)), soon(parked(stage)), soon(lanes(stage, &mut restarts)));
        let parked = parked.map(|(parked, dead)| (parked, dead - dead_before));
        say(&line(scene, &Sample { orders, parked, lag }, restarts.total));
        revive(scene, died).await;
    }
}

async fn soon<T>(asking: impl Future<Output = Result<T>>) -> Option<T> {
    tokio::time::timeout(ANSWER, asking).await.ok()?.ok()
}

fn line(scene: &Scene<'_>, sample: &Sample, restarts: u64) -> String {
    let shown = |number: Option<i64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let ended = sample.orders.map(|(ended, _)| ended);
    let open = sample.orders.map(|(_, open)| open);
    #[expect(clippy::cast_possible_truncation, reason = "a number of offsets")]
    let lag = sample.lag.map(|lag| lag as i64);
    let mut line = format!(
        "{:>4} s  placed {:<5} accepted {:<5} ended {:<5} open {:<4} retrying {:<4} dead {:<3} restarts {:<3} lag {:<4}",
        scene.start.elapsed().as_secs(),
        scene.orders.placed.load(Ordering::Relaxed),
        scene.orders.accepted().len(),
        shown(ended),
        shown(open),
        shown(sample.parked.map(|(parked, _)| parked)),
        shown(sample.parked.map(|(_, dead)| dead)),
        restarts,
        shown(lag),
    );
    for fault in locked(&scene.active).iter() {
        // Writing to a text cannot fail.
        let _infallible = write!(line, " ! {fault}");
    }
    line.trim_end().to_owned()
}

async fn orders(stage: &Stage, since: SystemTime) -> Result<(i64, i64)> {
    let client = connect(stage.url(DATABASES[0].variable)?).await?;
    let sql = "select count(*) filter (where state in ('COMPLETED', 'CANCELLED')),
                      count(*) filter (where state not in ('COMPLETED', 'CANCELLED'))
               from orders where created_at >= $1";
    let row = client.query_one(sql, &[&since]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

async fn parked(stage: &Stage) -> Result<(i64, i64)> {
    let mut sums = (0, 0);
    for database in DATABASES {
        let client = connect(stage.url(database.variable)?).await?;
        let sql = "select (select count(*) from parked), (select coalesce(sum(dead), 0)::bigint from partition_lease)";
        let row = client.query_one(sql, &[]).await?;
        sums = (sums.0 + row.try_get::<_, i64>(0)?, sums.1 + row.try_get::<_, i64>(1)?);
    }
    Ok(sums)
}

/// Actors that were started again, over the lives of their processes.
#[derive(Debug, Default)]
struct Restarts {
    total: u64,
    last: BTreeMap<Role, u64>,
}

impl Restarts {
    /// A process that has begun anew counts from nothing.
    fn note(&mut self, role: Role, count: u64) {
        let last = self.last.insert(role, count);
        self.total += match last {
            // What was there before the lab is not of the lab.
            None => 0,
            Some(last) if count >= last => count - last,
            Some(_) => count,
        };
    }
}

/// The lag of all lanes; the actors' restarts are noted.
async fn lanes(stage: &Stage, restarts: &mut Restarts) -> Result<f64> {
    let mut lag = 0.0;
    for (role, url) in stage.admin.iter().filter(|(role, _)| *role != Role::Gateway) {
        let text = metrics(url).await?;
        lag += sum(&text, "backburner_lane_lag_records");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        restarts.note(*role, sum(&text, "backburner_actor_restarts_total") as u64);
    }
    Ok(lag)
}

/// The sum of a metric over all its labels, in Prometheus' text format.
fn sum(text: &str, metric: &str) -> f64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(metric)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    });
    values.sum()
}

/// Starts what has ended and was not ended by a fault, and notes it.
async fn revive(scene: &Scene<'_>, died: &mut Vec<String>) {
    let Some(mut stack) = scene.stage.idle_stack() else { return };
    for role in Role::ALL {
        let in_hand = locked(&scene.in_hand).contains(&role);
        if in_hand || stack.process(role, 1).is_ok_and(|process| process.is_alive()) {
            continue;
        }
        let at = scene.start.elapsed().as_secs_f64();
        let back = bring_back(&mut stack, role).await;
        let back =
            back.map_or_else(|error| format!(", and cannot be started: {error:#}"), |()| String::new());
        died.push(format!("{role} after {at:.1} s{back}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_no_other_that_begins_so() {
        let text = "# HELP a_total x\na_total{t=\"1 2\"} 3\na_total{t=\"b\"} 4\na_total_more{t=\"b\"} 9\na_total 1\n";
        assert!((sum(text, "a_total") - 8.0).abs() < f64::EPSILON);
    }

    #[test]
    fn restarts_are_counted_over_the_lives_of_a_process() {
        let mut restarts = Restarts::default();
        for count in [2, 3, 3, 1, 2] {
            restarts.note(Role::Payments, count);
        }
        restarts.note(Role::Orders, 7);
        assert_eq!(restarts.total, 3);
    }
}
