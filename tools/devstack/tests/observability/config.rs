//! What is configured fits together: compose, Prometheus, Grafana, the traces, the documents.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use devstack::{os::paths, topology::SERVICES};
use serde_yaml_ng::Value as Yaml;

use crate::{
    files::{
        self, DASHBOARD, PROMETHEUS, RULES, alerts, dashboard, dashboard_queries, filled_in, panels, text,
        yaml,
    },
    promql::named,
};

const COMPOSE: &str = "docker-compose.yml";
const DATASOURCES: &str = "deploy/grafana/provisioning/datasources/datasources.yml";
const PROVIDERS: &str = "deploy/grafana/provisioning/dashboards/dashboards.yml";
const TRACES: &str = "deploy/traces/jaeger.yml";
/// The profile, and what is in it.
const PROFILE: &str = "observability";
const WATCHING: [&str; 4] = ["dead-letters", "grafana", "prometheus", "traces"];
/// Those of them that answer people.
const PORTS: [(&str, u16); 3] = [("prometheus", 9090), ("grafana", 3000), ("traces", 16686)];

fn strings(value: &Yaml) -> Vec<String> {
    value.as_sequence().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// The containers of the profile.
fn watching(compose: &Yaml) -> BTreeMap<String, Yaml> {
    let services = compose["services"].as_mapping().expect("services");
    let services =
        services.iter().filter_map(|(name, service)| Some((name.as_str()?.to_owned(), service.clone())));
    services.filter(|(_, service)| strings(&service["profiles"]) == [PROFILE]).collect()
}

#[test]
fn what_watches_is_in_a_profile_of_its_own_without_rights_and_within_limits() -> Result<()> {
    let compose = yaml(COMPOSE)?;
    let watching = watching(&compose);
    assert_eq!(watching.keys().map(String::as_str).collect::<Vec<_>>(), WATCHING);
    for (name, service) in &watching {
        ensure!(service["read_only"].as_bool() == Some(true), "{name} may write its file system");
        ensure!(strings(&service["cap_drop"]) == ["ALL"], "{name} has capabilities");
        ensure!(
            strings(&service["security_opt"]) == ["no-new-privileges:true"],
            "{name} may gain privileges"
        );
        ensure!(service["mem_limit"].as_str().is_some(), "{name} has no limit of memory");
        ensure!(!service["healthcheck"]["test"].is_null(), "{name} is not probed");
        // An image of ours says itself who it runs as.
        let user = service["user"].as_str();
        ensure!(
            user.is_some_and(|user| !matches!(user, "root" | "0")) || !service["build"].is_null(),
            "{name} runs as root"
        );
        if let Some(image) = service["image"].as_str() {
            let tag = image.rsplit_once(':').map(|(_, tag)| tag.trim_start_matches('v'));
            let numbers = tag.map(|tag| tag.split('.').filter(|part| part.parse::<u32>().is_ok()).count());
            ensure!(numbers == Some(3), "{image} is not one version");
        }
        let expected = PORTS.iter().find(|(named, _)| named == name).map(|(_, port)| port);
        let ports = strings(&service["ports"]);
        ensure!(ports.len() == usize::from(expected.is_some()), "{name} publishes {ports:?}");
        for port in ports {
            let inner = expected.is_some_and(|expected| port.ends_with(&format!(":{expected}")));
            ensure!(port.starts_with("127.0.0.1:") && inner, "{name} publishes {port}");
        }
    }
    Ok(())
}

#[test]
fn what_is_mounted_is_there() -> Result<()> {
    let (compose, root) = (yaml(COMPOSE)?, paths::project_root()?);
    let volumes: BTreeSet<&str> =
        compose["volumes"].as_mapping().into_iter().flatten().filter_map(|(name, _)| name.as_str()).collect();
    let mut mounted = BTreeSet::new();
    for (name, service) in watching(&compose) {
        for volume in strings(&service["volumes"]) {
            let source = volume.split(':').next().unwrap_or_default();
            if source.starts_with('.') {
                ensure!(root.join(source).exists(), "{name} mounts {source}, which is not there");
                ensure!(volume.ends_with(":ro"), "{name} may write {source}");
                mounted.insert(source.trim_start_matches("./").to_owned());
            } else {
                ensure!(volumes.contains(source), "{name} mounts {source}, which is no volume");
            }
        }
    }
    for file in [PROMETHEUS, RULES, DATASOURCES, PROVIDERS, DASHBOARD, TRACES] {
        ensure!(mounted.iter().any(|source| file.starts_with(source)), "{file} is mounted nowhere");
    }
    Ok(())
}

#[test]
fn prometheus_scrapes_each_service_at_its_admin_port() -> Result<()> {
    let (config, compose) = (yaml(PROMETHEUS)?, yaml(COMPOSE)?);
    let jobs = config["scrape_configs"].as_sequence().context("nothing is scraped")?;
    let targets = jobs.iter().flat_map(|job| job["static_configs"].as_sequence().into_iter().flatten());
    let targets: BTreeSet<String> = targets.flat_map(|group| strings(&group["targets"])).collect();
    let mut expected: BTreeSet<String> =
        SERVICES.iter().map(|service| format!("{}:{}", service.role, service.admin_port)).collect();
    let listens = compose["services"]["dead-letters"]["environment"]["METRICS_LISTEN"].as_str();
    let port = listens
        .and_then(|listens| listens.strip_prefix("0.0.0.0:"))
        .context("dead-letters listens nowhere")?;
    expected.insert(format!("dead-letters:{port}"));
    assert_eq!(targets, expected);
    // compose_topology compares those ports with the environment of each container.
    let command = strings(&compose["services"]["prometheus"]["command"]).join(" ");
    ensure!(command.contains("--config.file=/etc/prometheus/prometheus.yml"), "{command}");
    Ok(())
}

#[test]
fn traces_are_taken_by_otlp_and_shown_where_grafana_and_people_look() -> Result<()> {
    let (config, compose) = (yaml(TRACES)?, yaml(COMPOSE)?);
    let at = |value: &Yaml| value["endpoint"].as_str().unwrap_or_default().to_owned();
    let protocols = &config["receivers"]["otlp"]["protocols"];
    assert_eq!(
        (at(&protocols["http"]), at(&protocols["grpc"])),
        ("0.0.0.0:4318".into(), "0.0.0.0:4317".into())
    );
    assert_eq!(at(&config["extensions"]["jaeger_query"]["http"]), "0.0.0.0:16686");
    let probe = strings(&compose["services"]["traces"]["healthcheck"]["test"]).join(" ");
    let health = at(&config["extensions"]["healthcheckv2"]["http"]).replace("0.0.0.0", "127.0.0.1");
    ensure!(probe.contains(&health), "{probe} does not ask {health}");
    // What a pipeline names is defined, and runs.
    let pipeline = &config["service"]["pipelines"]["traces"];
    for (kind, names) in ["receivers", "processors", "exporters"].map(|kind| (kind, strings(&pipeline[kind])))
    {
        let defined = config[kind].as_mapping().context("nothing is defined")?;
        let known: BTreeSet<_> = defined.keys().filter_map(Yaml::as_str).map(str::to_owned).collect();
        assert_eq!(known, names.into_iter().collect(), "{kind}");
    }
    let told = text("docs/operations.md")?;
    ensure!(
        told.contains("OTEL_EXPORTER_OTLP_ENDPOINT=http://traces:4318"),
        "nobody is told where traces go"
    );
    Ok(())
}

#[test]
fn grafana_is_given_what_the_dashboard_names() -> Result<()> {
    let (sources, dashboard, compose) = (yaml(DATASOURCES)?, dashboard()?, yaml(COMPOSE)?);
    let mut known = BTreeMap::new();
    for source in sources["datasources"].as_sequence().context("no datasources")? {
        let field = |name: &str| source[name].as_str().unwrap_or_default().to_owned();
        let (host, port) = field("url")
            .trim_start_matches("http://")
            .split_once(':')
            .map(|(host, port)| (host.to_owned(), port.to_owned()))
            .context("no port")?;
        let published =
            PORTS.iter().find(|(name, _)| *name == host).context("a datasource that is not there")?;
        assert_eq!(published.1.to_string(), port);
        known.insert(field("uid"), field("type"));
    }
    let panels = panels(&dashboard);
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let lists = ["templating", "annotations"];
    let named = lists.iter().flat_map(|list| dashboard[list]["list"].as_array().into_iter().flatten());
    let mut used = BTreeSet::new();
    for asked in panels.iter().copied().filter(|panel| panel["type"] != "row").chain(targets).chain(named) {
        let field = |name: &str| asked["datasource"][name].as_str().unwrap_or_default().to_owned();
        ensure!(
            known.get(&field("uid")) == Some(&field("type")),
            "{asked} asks a datasource that is not there"
        );
        used.insert(field("uid"));
    }
    assert_eq!(used, known.into_keys().collect(), "a datasource that nothing asks");

    let providers = yaml(PROVIDERS)?;
    let path = providers["providers"][0]["options"]["path"].as_str().context("no path")?;
    let grafana = &compose["services"]["grafana"];
    ensure!(
        strings(&grafana["volumes"]).contains(&format!("./deploy/grafana/dashboards:{path}:ro")),
        "{path}"
    );
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str();
    assert_eq!(home, Some(format!("{path}/backburner.json").as_str()));
    let role = grafana["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"].as_str();
    assert_eq!(role, Some("Viewer"), "whoever asks without a name may change things");
    let interval = sources["datasources"][0]["jsonData"]["timeInterval"].as_str();
    assert_eq!(
        interval,
        yaml(PROMETHEUS)?["global"]["scrape_interval"].as_str(),
        "rates are taken over too little"
    );
    Ok(())
}

#[test]
fn every_panel_says_what_to_do_and_where_that_is_written() -> Result<()> {
    let (dashboard, operations) = (dashboard()?, text("docs/operations.md")?);
    let headings: BTreeSet<&str> = operations.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().context("a panel without a title")?;
        ensure!(ids.insert(panel["id"].as_u64()), "two panels have the id of {title:?}");
        if panel["type"] == "row" {
            continue;
        }
        ensure!(titles.insert(format!("{title} {}", panel["gridPos"])), "{title:?} is there twice");
        let says = panel["description"].as_str().unwrap_or_default();
        let heading =
            says.rsplit_once("docs/operations.md, \"").and_then(|(_, rest)| rest.strip_suffix("\"."));
        let heading = heading.with_context(|| format!("{title:?} does not say where to read on: {says}"))?;
        ensure!(
            headings.contains(heading),
            "{title:?} names {heading:?}, which docs/operations.md does not have"
        );
        let has_unit = panel["fieldConfig"]["defaults"]["unit"].is_string() || panel["type"] == "table";
        ensure!(
            has_unit
                || panel["options"]["yAxis"]["unit"].is_string()
                || panel["fieldConfig"]["defaults"]["mappings"].is_array(),
            "{title:?} has no unit"
        );
    }
    Ok(())
}

/// Labels that Prometheus itself gives.
const GIVEN: [&str; 4] = ["instance", "job", "le", "alertstate"];
/// Metrics that Prometheus itself makes.
const MADE: [&str; 2] = ["up", "ALERTS"];

#[test]
fn every_metric_and_label_that_is_asked_for_is_documented() -> Result<()> {
    let documented = files::documented()?;
    let mut queries = dashboard_queries(&dashboard()?);
    for (alert, condition) in alerts(&yaml(RULES)?) {
        queries.push(files::Query { place: format!("alert {alert}"), expression: condition });
    }
    ensure!(queries.len() > 80, "{} queries were found", queries.len());
    let mut asked = BTreeSet::new();
    for query in queries {
        let expression = filled_in(&query.expression, "10s");
        ensure!(!expression.contains('$'), "{}: a variable that nothing fills in: {expression}", query.place);
        let named = named(&expression);
        let mut labels: BTreeSet<&str> = GIVEN.into();
        for metric in named.metrics.into_iter().filter(|metric| !MADE.contains(metric)) {
            let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| metric.strip_suffix(part));
            let histogram =
                parts.into_iter().find(|base| documented.get(*base).is_some_and(|(is_one, _)| *is_one));
            let name = histogram.unwrap_or(metric);
            let (_, of_it) = documented
                .get(name)
                .with_context(|| format!("{}: {name} is not in docs/metrics.md", query.place))?;
            labels.extend(of_it.iter().map(String::as_str));
            asked.insert(name.to_owned());
        }
        for label in named.labels {
            ensure!(
                labels.contains(label),
                "{}: none of its metrics has a label {label}: {expression}",
                query.place
            );
        }
    }
    let unseen: Vec<_> = documented.keys().filter(|name| !asked.contains(*name)).collect();
    assert_eq!(unseen, Vec::<&String>::new(), "metrics that neither a panel nor an alert looks at");
    Ok(())
}
