//! The files that dashboards and alerts are made of, read.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use devstack::{os::paths, testing};
use serde_json::Value;
use serde_yaml_ng::Value as Yaml;

pub(crate) const DASHBOARD: &str = "deploy/grafana/dashboards/backburner.json";
pub(crate) const PROMETHEUS: &str = "deploy/prometheus/prometheus.yml";
pub(crate) const RULES: &str = "deploy/prometheus/rules.yml";

/// What stands in a file of the project.
pub(crate) fn text(path: &str) -> Result<String> {
    fs::read_to_string(paths::project_root()?.join(path)).with_context(|| format!("{path} cannot be read"))
}

/// A file of the project as YAML, its merge keys applied.
pub(crate) fn yaml(path: &str) -> Result<Yaml> {
    let mut value: Yaml =
        serde_yaml_ng::from_str(&text(path)?).with_context(|| format!("{path} is no YAML"))?;
    // What is merged may have merged something itself.
    for _ in 0..2 {
        value.apply_merge().with_context(|| format!("the merge keys of {path}"))?;
    }
    Ok(value)
}

/// The dashboard.
pub(crate) fn dashboard() -> Result<Value> {
    serde_json::from_str(&text(DASHBOARD)?).with_context(|| format!("{DASHBOARD} is no JSON"))
}

/// An expression, and where it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// The panel or the alert.
    pub(crate) place: String,
    /// The expression.
    pub(crate) expression: String,
}

/// The dashboard's panels, those in rows that are closed too.
pub(crate) fn panels(dashboard: &Value) -> Vec<&Value> {
    fn within(value: &Value) -> impl Iterator<Item = &Value> {
        value["panels"].as_array().into_iter().flatten()
    }
    within(dashboard).flat_map(|panel| [panel].into_iter().chain(within(panel))).collect()
}

/// Every expression of the dashboard: of its panels, its annotations, and what its variables are made of. As it is written.
pub(crate) fn dashboard_queries(dashboard: &Value) -> Vec<Query> {
    let mut queries = Vec::new();
    for panel in panels(dashboard) {
        let title = panel["title"].as_str().unwrap_or_default();
        let targets = panel["targets"].as_array().into_iter().flatten();
        for expression in targets.filter_map(|target| target["expr"].as_str()) {
            queries.push(Query { place: format!("panel {title:?}"), expression: expression.to_owned() });
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().into_iter().flatten() {
        if let Some(expression) = annotation["expr"].as_str() {
            let place = format!("annotation {}", annotation["name"]);
            queries.push(Query { place, expression: expression.to_owned() });
        }
    }
    for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
        // label_values(SELECTOR, LABEL): the values are there where the selector has series.
        let query = variable["definition"].as_str().unwrap_or_default();
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        if let Some((selector, label)) = inner.and_then(|inner| inner.rsplit_once(',')) {
            let place = format!("variable {}", variable["name"]);
            queries.push(Query { place, expression: format!("count by ({}) ({selector})", label.trim()) });
        }
    }
    queries
}

/// An expression of the dashboard as Grafana sends it, where all is chosen and a rate is taken over `rate_interval`.
pub(crate) fn filled_in(expression: &str, rate_interval: &str) -> String {
    ["$group", "$topic"]
        .iter()
        .fold(expression.replace("$__rate_interval", rate_interval), |text, name| text.replace(name, ".*"))
}

/// The alerts' conditions, by the alerts' names.
pub(crate) fn alerts(rules: &Yaml) -> BTreeMap<String, String> {
    let groups = rules["groups"].as_sequence().into_iter().flatten();
    let rules = groups.flat_map(|group| group["rules"].as_sequence().into_iter().flatten());
    let alert = |rule: &Yaml| Some((rule["alert"].as_str()?.to_owned(), rule["expr"].as_str()?.to_owned()));
    rules.filter_map(alert).collect()
}

/// The metrics of docs/metrics.md with their labels, and whether each is a histogram.
pub(crate) fn documented() -> Result<BTreeMap<String, (bool, Vec<String>)>> {
    let metrics = testing::documented_metrics()?.into_iter();
    Ok(metrics.map(|metric| (metric.name, (metric.kind == "histogram", metric.labels))).collect())
}
