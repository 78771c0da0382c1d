//! The house stays in order: inside the crate a folder imports only what stands on a lower floor, and no two files import each other,
//! be it by way of others.

mod imports;

use std::collections::BTreeSet;

use self::imports::{Import, Module, assert_no_circle, imports};

/// From the ground up; a module imports its own floor and those below.
const FLOORS: [&[&str]; 8] = [
    // Values, and what everything stands on.
    &[
        "breaker",
        "clock",
        "condition",
        "connection",
        "detach",
        "event",
        "failpoint",
        "failure",
        "handler",
        "kafka",
        "macros",
        "metrics",
        "observed",
        "one_by_one",
        "panics",
        "record",
        "schema",
        "settings",
        "simple",
        "sql",
        "status",
        "trace",
    ],
    // Values and SQL of one idea each.
    &["retry", "lease", "dedupe"],
    // What was emitted, on its way to Kafka.
    &["outbox"],
    // Where poll thread and actor meet.
    &["lane"],
    // The actors and the pipeline.
    &["partition"],
    // The poll threads.
    &["consumer"],
    // What goes on beside the partitions.
    &["housekeeping"],
    // A running member of a consumer group.
    &["group"],
];

fn floor(module: &Module) -> Option<usize> {
    let top = module.first()?;
    FLOORS.iter().position(|floor| floor.contains(&top.as_str()))
}

#[test]
fn every_module_has_its_floor() {
    let (modules, _) = imports();
    let homeless: BTreeSet<&String> =
        modules.iter().filter(|module| floor(module).is_none()).filter_map(|module| module.first()).collect();
    assert!(homeless.is_empty(), "give them a floor in this file: {homeless:?}");
}

#[test]
fn nothing_is_imported_from_a_floor_above() {
    let (_, imports) = imports();
    // Where nothing were read, nothing would be wrong.
    let known = |import: &Import| import.from == ["group"] && import.to == ["consumer", "pair"];
    assert!(imports.iter().any(known), "the imports are not read: {} were", imports.len());
    let up: Vec<String> = imports
        .iter()
        .filter(|import| floor(&import.from) < floor(&import.to) && !import.to.is_empty())
        .map(ToString::to_string)
        .collect();
    assert!(up.is_empty(), "arrows up:\n{}", up.join("\n"));
}

#[test]
fn no_files_go_round_in_a_circle() {
    assert_no_circle();
}
