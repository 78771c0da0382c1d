//! docker-compose.yml calls everything as [`devstack::topology`] does.

use std::collections::BTreeSet;

use devstack::topology::{self, DATABASES, GATEWAY_PORT, Role, SERVICES};
use serde_yaml_ng::Value;

fn compose() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docker-compose.yml");
    let text = std::fs::read_to_string(path).expect("docker-compose.yml is in the project's root");
    let mut value: Value = serde_yaml_ng::from_str(&text).expect("it is YAML");
    value.apply_merge().expect("its merge keys name mappings");
    value
}

fn keys(value: &Value) -> BTreeSet<String> {
    let mapping = value.as_mapping().expect("a mapping");
    mapping.keys().map(|key| key.as_str().expect("a text").to_owned()).collect()
}

#[test]
fn the_containers_are_the_processes_of_the_stack_and_the_tools() {
    let mut expected: BTreeSet<String> = Role::ALL.map(|role| role.name().to_owned()).into();
    expected.extend(["dlq-inspector".into(), "audit".into()]);
    // What watches them, when it is asked for: tests/observability looks at those.
    expected.extend(["prometheus", "grafana", "traces", "dead-letters"].map(str::to_owned));
    assert_eq!(keys(&compose()["services"]), expected);
}

#[test]
fn each_service_is_told_what_devstack_tells_it() {
    let compose = compose();
    for service in SERVICES {
        let container = &compose["services"][service.role.name()];
        let mut expected: BTreeSet<&str> = service.reads.iter().chain(service.settings).copied().collect();
        expected.extend(topology::TRACES);
        expected.extend(service.database.map(|database| database.variable));
        expected.extend(service.http_port.map(|_| topology::HTTP_LISTEN));
        expected.insert(topology::ADMIN_LISTEN);
        let mut told = keys(&container["environment"]);
        for logging in ["LOG_FORMAT", "LOG_FILTER"] {
            assert!(told.remove(logging), "{} has no {logging}", service.role);
        }
        assert_eq!(told.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{}", service.role);

        let variable = |name: &str| container["environment"][name].as_str().unwrap_or_default().to_owned();
        for name in topology::TRACES {
            assert_eq!(
                variable(name),
                format!("${{{name}:-}}"),
                "{}: given from outside, or off",
                service.role
            );
        }
        assert_eq!(variable(topology::ADMIN_LISTEN), format!("0.0.0.0:{}", service.admin_port));
        if let Some(port) = service.http_port {
            assert_eq!(variable(topology::HTTP_LISTEN), format!("0.0.0.0:{port}"));
        }
        if let Some(database) = service.database {
            assert!(variable(database.variable).ends_with(&format!("@postgres:5432/{}", database.name)));
        }
        let probe = serde_yaml_ng::to_string(&container["healthcheck"]["test"]).expect("YAML");
        assert!(
            probe.contains(&service.admin_port.to_string()),
            "{} is probed elsewhere: {probe}",
            service.role
        );
    }
}

#[test]
fn the_gateway_is_published_and_knows_where_orders_is() {
    let compose = compose();
    let gateway = &compose["services"]["gateway"];
    let ports = serde_yaml_ng::to_string(&gateway["ports"]).expect("YAML");
    assert!(ports.contains(&format!("{GATEWAY_PORT}}}:{GATEWAY_PORT}")), "{ports}");
    let orders =
        SERVICES.iter().find(|service| service.role == Role::Orders).and_then(|orders| orders.http_port);
    let url = format!("http://orders:{}", orders.expect("orders answers HTTP"));
    assert_eq!(gateway["environment"][topology::ORDERS_URL].as_str(), Some(url.as_str()));
}

#[test]
fn the_databases_are_made_by_their_names() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/postgres/databases.sql");
    let sql = std::fs::read_to_string(path).expect("the container's databases").to_lowercase();
    for database in DATABASES {
        assert!(sql.contains(&format!("create database {}", database.name)), "{} is not made", database.name);
    }
}
