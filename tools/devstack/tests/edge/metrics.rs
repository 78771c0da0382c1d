//! docs/metrics.md has each metric that a service shows, with its type and its labels, and none besides.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use devstack::{
    clients::admin,
    testing::{self, Documented, SOON, Trial},
    topology::Role,
};
use uuid::Uuid;

use crate::SETTINGS;

const SERVICES: [Role; 4] = [Role::Gateway, Role::Orders, Role::Payments, Role::Delivery];
/// Shown only while something is wrong.
const OF_FAULTS: [&str; 1] = ["backburner_degraded"];

/// A metric's type, and its labels, where it has a series.
type Metrics = BTreeMap<String, (String, Option<BTreeSet<String>>)>;

/// The rows of the document.
fn documented() -> Result<Metrics> {
    let mut metrics = Metrics::new();
    for Documented { name, kind, labels } in testing::documented_metrics()? {
        let known = metrics.insert(name.clone(), (kind, Some(labels.into_iter().collect())));
        ensure!(known.is_none(), "{name} is there twice");
    }
    Ok(metrics)
}

/// What Prometheus would read in a text.
fn shown(text: &str, metrics: &mut Metrics) -> Result<()> {
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').with_context(|| format!("no type: {line}"))?;
            metrics.entry(name.to_owned()).or_default().0 = kind.to_owned();
        }
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let (series, _) = line.rsplit_once(' ').with_context(|| format!("no sample: {line}"))?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
        let base = parts.into_iter().find(|base| metrics.contains_key(*base)).unwrap_or(name);
        let (_, known) = metrics.get_mut(base).with_context(|| format!("{name} has no type"))?;
        // No value of ours holds a quotation mark.
        let labels = labels.split('"').step_by(2).filter_map(|text| text.strip_suffix('='));
        let labels = labels.map(|label| label.trim_start_matches(',').to_owned());
        known.get_or_insert_default().extend(labels.filter(|label| label != "le" && label != "quantile"));
    }
    Ok(())
}

async fn scraped(trial: &Trial) -> Result<Metrics> {
    let mut metrics = Metrics::new();
    for role in SERVICES {
        shown(&admin::metrics(&trial.stack.admin_url(role, 1)?).await?, &mut metrics)?;
    }
    let dead_letters = trial.inspector.metrics(trial.stack.dir()).await?;
    let text = admin::metrics(&dead_letters.url()).await?;
    shown(&text, &mut metrics)?;
    // The dead letter of the test is there, and the inspector counts alike in both.
    let series = r#"backburner_dead_letters{group="payments-service",state="open"} "#;
    let open = text.lines().find_map(|line| line.strip_prefix(series)?.parse::<u64>().ok());
    let topics = trial.inspector.json(&["topics", "--group", "payments-service"]).await?;
    let listed = topics.first().and_then(|topic| topic["open"].as_u64());
    ensure!(open > Some(0) && open == listed, "{open:?} are open, and {listed:?} are listed");
    Ok(metrics)
}

#[test]
fn every_metric_that_is_shown_is_in_the_document_and_no_other() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        // Something of each kind: charged, declined, refunded, tried again, dead.
        for (token, end) in [
            ("tok_ok", "COMPLETED"),
            ("tok_declined", "CANCELLED"),
            ("tok_no_courier", "CANCELLED"),
            ("tok_flaky_1", "COMPLETED"),
        ] {
            let order = trial.gateway.place(token, 1_000).await?;
            trial.gateway.until(order, end, SOON).await?;
        }
        let key = format!("edge-{}", Uuid::new_v4());
        trial.publish("orders", &key, Some(b"no json")).await?;
        trial.dead("payments-service", &key).await?;
        let (documented, shown) = (documented()?, scraped(trial).await?);
        for (name, found) in &shown {
            let expected =
                documented.get(name).with_context(|| format!("{name} is not in docs/metrics.md"))?;
            let alike = expected.0 == found.0 && (found.1.is_none() || expected.1 == found.1);
            ensure!(alike, "{name} is {found:?}, documented as {expected:?}");
        }
        let missing = documented.keys().filter(|name| !shown.contains_key(*name));
        let missing: Vec<_> = missing.filter(|name| !OF_FAULTS.contains(&name.as_str())).collect();
        ensure!(missing.is_empty(), "no service shows {missing:?}");
        Ok(())
    })
}
