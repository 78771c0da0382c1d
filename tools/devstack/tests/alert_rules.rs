//! deploy/prometheus/rules.yml: its expressions mean what they are to mean, over metrics that there are.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rules() -> PathBuf {
    root().join("deploy/prometheus")
}

#[test]
fn promtool_agrees() {
    for arguments in [["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]] {
        let promtool = Command::new("promtool").args(arguments).current_dir(rules()).output();
        let output = match promtool {
            Ok(output) => output,
            Err(error) => {
                println!("skipped, there is no promtool (Debian: apt-get install prometheus): {error}");
                return;
            }
        };
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }
}

/// Words of a text that name a metric.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("backburner_") || word.starts_with("process_")).collect()
}

fn sources(directory: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(fs::read_to_string(path).expect("readable"));
        }
    }
}

#[test]
fn every_metric_that_is_named_is_one() {
    let mut texts = Vec::new();
    for directory in ["actors/src", "dlq-inspector/src", "services/chassis/src", "services/orders/src"] {
        sources(&root().join(directory), &mut texts);
    }
    for directory in ["services/gateway/src", "services/payments/src", "services/delivery/src"] {
        sources(&root().join(directory), &mut texts);
    }
    let known: BTreeSet<&str> = texts.iter().flat_map(|text| metrics(text)).collect();
    assert!(known.len() > 20, "{known:?}");
    for file in [
        "deploy/prometheus/rules.yml",
        "docs/codes.md",
        "docs/metrics.md",
        "docs/operations.md",
        "docs/protocol.md",
    ] {
        let text = fs::read_to_string(root().join(file)).expect("readable");
        let unknown: Vec<_> = metrics(&text).into_iter().filter(|name| !is_known(name, &known)).collect();
        assert_eq!(unknown, Vec::<&str>::new(), "in {file}");
    }
}

/// A histogram has three names more than it is given.
fn is_known(name: &str, known: &BTreeSet<&str>) -> bool {
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    known.contains(name) || base.is_some_and(|base| known.contains(base))
}
