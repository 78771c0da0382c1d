//! docs/problems.md has each code of a problem once, and none that there is not.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(directory: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("tests") {
            sources(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            texts.push(fs::read_to_string(path).expect("readable"));
        }
    }
}

/// The literal at the beginning of a text.
fn literal(text: &str) -> Option<String> {
    Some(text.strip_prefix('"')?.split('"').next()?.to_owned())
}

#[test]
fn every_code_is_in_the_table_once_and_no_other_is() {
    let mut texts = Vec::new();
    for service in ["chassis", "gateway", "orders"] {
        sources(&root().join("services").join(service).join("src"), &mut texts);
    }
    let mut codes: BTreeSet<String> = BTreeSet::new();
    for text in &texts {
        codes.extend(
            text.match_indices(".coded(").filter_map(|(at, before)| literal(&text[at + before.len()..])),
        );
    }
    assert!(codes.len() > 4, "{codes:?}");
    let problem = fs::read_to_string(root().join("services/chassis/src/problem.rs")).expect("readable");
    let defaults =
        problem.split("fn code_of(").nth(1).and_then(|rest| rest.split("\n}").next()).expect("the defaults");
    codes.extend(
        defaults.match_indices("=> ").filter_map(|(at, before)| literal(&defaults[at + before.len()..])),
    );
    let table = fs::read_to_string(root().join("docs/problems.md")).expect("readable");
    let mut documented = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let first = row.split('|').nth(1).expect("a cell");
        for code in first.split('`').skip(1).step_by(2) {
            assert!(documented.insert(code.to_owned()), "{code} is there twice");
        }
    }
    assert_eq!(documented, codes);
}
