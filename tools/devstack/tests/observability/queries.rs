//! Every query of the dashboard and of the alerts finds something on a stack under load with faults.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use devstack::{
    testing,
    topology::{Role, SERVICES},
};

use crate::{
    faults,
    files::{self, Query},
    promql,
    server::Prometheus,
};

/// What Grafana makes of `$__rate_interval` where a scrape is a second apart, and some: faults take a few seconds.
const RATE_INTERVAL: &str = "10s";

/// After the faults every query is given this long to have had a value.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Everything that must have a value: the dashboard's expressions as they are, and of the alerts' conditions what they compare.
fn queries() -> Result<Vec<Query>> {
    let mut queries = files::dashboard_queries(&files::dashboard()?);
    for query in &mut queries {
        query.expression = files::filled_in(&query.expression, RATE_INTERVAL);
    }
    for (alert, condition) in files::alerts(&files::yaml(files::RULES)?) {
        for operand in promql::operands(&condition) {
            queries.push(Query { place: format!("alert {alert}"), expression: operand.to_owned() });
        }
    }
    Ok(queries)
}

#[test]
fn no_query_of_dashboard_and_alerts_is_empty_under_load_with_faults() -> Result<()> {
    testing::run(faults::SETTINGS, async |trial| {
        let dead_letters = trial.inspector.metrics(trial.stack.dir()).await?;
        let place = |target: &str| {
            let (name, _) = target.split_once(':').with_context(|| format!("{target} has no port"))?;
            if name == "dead-letters" {
                return Ok(dead_letters.address.clone());
            }
            let role = Role::parse(name).with_context(|| format!("{target} is no service"))?;
            Ok(trial.stack.admin_url(role, 1)?.trim_start_matches("http://").to_owned())
        };
        let Some(prometheus) = Prometheus::start(place).await? else {
            println!("skipped, there is no prometheus (Debian: apt-get install prometheus)");
            return Ok(());
        };
        faults::under_load(trial, &prometheus).await?;
        prometheus
            .until("all is scraped again", async || {
                let (down, targets) = prometheus.targets().await?;
                Ok(down.is_empty() && targets == SERVICES.len() + 1)
            })
            .await?;

        let conditions = files::alerts(&files::yaml(files::RULES)?);
        prometheus
            .until("all alerts are evaluated", async || {
                Ok(prometheus.alerts().await?.len() == conditions.len())
            })
            .await?;
        ensure!(
            !prometheus.has_had_values("backburner_no_such_metric").await?,
            "what is not there was found"
        );

        // A rate needs two scrapes after what it is to show: what has none yet is asked again.
        let (begun, queries) = (Instant::now(), queries()?);
        let mut empty: Vec<&Query> = queries.iter().collect();
        loop {
            let mut still = Vec::new();
            for query in empty {
                if !prometheus.has_had_values(&query.expression).await.with_context(|| query.place.clone())? {
                    still.push(query);
                }
            }
            empty = still;
            if empty.is_empty() || begun.elapsed() > PATIENCE {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        println!("{} queries asked after {:.1} s", queries.len(), begun.elapsed().as_secs_f64());
        let list: Vec<_> =
            empty.iter().map(|query| format!("{}: {}", query.place, query.expression)).collect();
        ensure!(
            list.is_empty(),
            "{} of {} queries are empty:\n{}",
            list.len(),
            queries.len(),
            list.join("\n")
        );
        Ok(())
    })
}
