//! What the inspector is made of: it needs Kafka alone, and so does whoever builds it.

use std::process::Command;

/// What it must not link.
const FOREIGN: [&str; 6] = ["actors", "tokio-postgres", "deadpool-postgres", "redis", "ractor", "axum"];

#[test]
fn neither_postgres_nor_redis_nor_actors_are_linked() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-p", "dlq-inspector", "-e", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let tree = String::from_utf8(output.stdout).expect("text");
    let linked: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(linked.contains(&"rdkafka"), "this is not the tree of dlq-inspector: {tree}");
    let foreign: Vec<_> = FOREIGN.iter().filter(|name| linked.contains(name)).collect();
    assert!(foreign.is_empty(), "dlq-inspector links {foreign:?}");
}
