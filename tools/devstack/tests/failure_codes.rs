//! docs/codes.md has each code of a failure once, docs/problems.md each of a problem, and neither one that there is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What a code stands behind in the sources.
const BEFORE: [&str; 9] = [
    "Cause::new(",
    "Cause::from_error(",
    "Failure::permanent(",
    "Failure::transient(",
    "Failure::unreachable(",
    "Failure::not_yet(",
    "Refused::new(",
    "say(",
    ".check(",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The code of all sources below `directory`, without comments and tests.
fn sources(directory: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("tests") {
            sources(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(path).expect("readable");
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            texts.push(lines.join("\n"));
        }
    }
}

/// The text of a literal at the beginning of `text`.
fn literal(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix('"')?.split('"').next()
}

/// What stands behind each `before`.
fn behind<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    text.match_indices(before).map(|(at, _)| &text[at + before.len()..]).collect()
}

/// Constants that hold a word like a code, by name.
fn constants(texts: &[String]) -> BTreeMap<&str, &str> {
    let found = texts.iter().flat_map(|text| behind(text, "const "));
    let named = found.filter_map(|text| {
        let (name, value) = text.split_once(": &str = ")?;
        Some((name, literal(value)?))
    });
    let word = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    named.filter(|(name, value)| !name.contains(' ') && word(value)).collect()
}

/// Every code that the runtime and the services give to a failure.
fn given() -> BTreeSet<String> {
    let mut texts = Vec::new();
    sources(&root().join("actors/src"), &mut texts);
    let runtime = texts.len();
    for service in ["chassis", "contracts", "gateway", "orders", "payments", "delivery"] {
        sources(&root().join("services").join(service).join("src"), &mut texts);
    }
    // In the runtime a constant of more than one word is a code.
    let constants = constants(&texts[..runtime]);
    let mut codes: BTreeSet<&str> = constants.values().copied().filter(|value| value.contains('-')).collect();
    for text in &texts {
        codes.extend(BEFORE.iter().flat_map(|before| behind(text, before)).filter_map(literal));
        codes.extend(behind(text, "code: ").into_iter().filter_map(literal));
        let named = behind(text, "Cause::new(").into_iter();
        let named = named.filter_map(|text| text.trim_start().split([',', ')']).next());
        codes.extend(named.filter_map(|name| constants.get(name.rsplit("::").next()?)).copied());
        for body in behind(text, "fn code(") {
            let body = body.split("\n    }").next().unwrap_or_default();
            codes.extend(behind(body, "=> ").into_iter().filter_map(literal));
        }
    }
    codes.into_iter().filter(|code| !code.is_empty()).map(str::to_owned).collect()
}

/// The codes in the first cells of the table, as often as they are there.
fn documented(document: &str) -> Vec<&str> {
    let section = document.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    // Those of PostgreSQL are a class and its states.
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|code| !code.starts_with("sql-"))
        .collect()
}

#[test]
fn every_code_is_in_the_table_once_and_no_other_is() {
    let document = fs::read_to_string(root().join("docs/codes.md")).expect("readable");
    let (given, documented) = (given(), documented(&document));
    let known: BTreeSet<String> = documented.iter().map(|code| (*code).to_owned()).collect();
    let missing: Vec<_> = given.difference(&known).collect();
    let gone: Vec<_> = known.difference(&given).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not in the table: {missing:?}; in it and nowhere else: {gone:?}"
    );
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = documented.iter().filter(|code| !seen.insert(**code)).collect();
    assert!(twice.is_empty(), "more than once: {twice:?}");
    assert!(given.len() > 80, "the sources are read wrongly: {given:?}");
}

#[test]
fn every_code_of_a_problem_is_in_its_table_once_and_no_other_is() {
    let mut texts = Vec::new();
    for service in ["chassis", "gateway", "orders"] {
        sources(&root().join("services").join(service).join("src"), &mut texts);
    }
    let given = texts.iter().flat_map(|text| behind(text, ".coded("));
    let mut codes: BTreeSet<&str> = given.filter_map(literal).collect();
    assert!(codes.len() > 4, "{codes:?}");
    let problem = fs::read_to_string(root().join("services/chassis/src/problem.rs")).expect("readable");
    let defaults =
        problem.split("fn code_of(").nth(1).and_then(|rest| rest.split("\n}").next()).expect("the defaults");
    codes.extend(behind(defaults, "=> ").into_iter().filter_map(literal));
    let table = fs::read_to_string(root().join("docs/problems.md")).expect("readable");
    let mut documented = BTreeSet::new();
    for code in self::documented(&table) {
        assert!(documented.insert(code), "{code} is there twice");
    }
    assert_eq!(documented, codes);
}
