//! Reads the `use` lines of this crate's sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

/// A module by its path from the crate's root.
pub(crate) type Module = Vec<String>;

/// A name that a file imports from another of the crate's.
#[derive(Debug)]
pub(crate) struct Import {
    /// The file's module.
    pub(crate) from: Module,
    /// The module that defines it.
    pub(crate) to: Module,
    /// As it is written.
    written: String,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} imports {} (of {})", self.from.join("/"), self.written, self.to.join("/"))
    }
}

/// Every module of the crate but its root, and every import between them. What a module hands on from its own children is no
/// import of its own.
pub(crate) fn imports() -> (BTreeSet<Module>, Vec<Import>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    read(&root, &root, &mut files);
    let modules: BTreeSet<Module> = files.keys().cloned().collect();
    // Who hands on what: a name in a module, and where it is from.
    let mut handed_on = BTreeMap::new();
    let mut uses = Vec::new();
    for (module, text) in &files {
        for (public, path) in statements(text) {
            let Some(full) = absolute(module, &path) else { continue };
            match public && full.starts_with(module) {
                true => drop(handed_on.insert((module.clone(), full[full.len() - 1].clone()), full)),
                false => uses.push((module.clone(), full, path.join("::"))),
            }
        }
    }
    let resolve = |full: &[String]| {
        let mut full = full.to_vec();
        loop {
            let depth = (0..=full.len()).rev().find(|depth| modules.contains(&full[..*depth]));
            let (module, rest) = full.split_at(depth.unwrap_or(0));
            let known = rest.first().and_then(|name| handed_on.get(&(module.to_vec(), name.clone())));
            match known {
                Some(known) if known[..] != full[..known.len().min(full.len())] => {
                    full = known.iter().chain(&rest[1..]).cloned().collect();
                }
                _ => return module.to_vec(),
            }
        }
    };
    let found = uses.into_iter().map(|(from, full, written)| Import { to: resolve(&full), from, written });
    let found = found.filter(|import| !import.from.is_empty()).collect();
    (modules.into_iter().filter(|module| !module.is_empty()).collect(), found)
}

/// No two files of the crate import each other, be it by way of others.
pub(crate) fn assert_no_circle() {
    let (modules, imports) = imports();
    // Where nothing were read, nothing would be wrong.
    assert!(imports.len() > modules.len(), "the imports are not read: {} were", imports.len());
    let lines = circle(&imports);
    assert!(lines.is_empty(), "in a circle, or above one:\n{}", lines.join("\n"));
}

/// The imports between files that go round in a circle, be it by way of others, or stand above one that does.
fn circle(imports: &[Import]) -> Vec<String> {
    let mut below: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for Import { from, to, .. } in imports.iter().filter(|import| import.from != import.to) {
        below.entry(from).or_default().insert(to);
    }
    // Whoever imports nothing that is left is in no circle; what remains in the end is.
    loop {
        let done: BTreeSet<&Module> = below
            .iter()
            .filter(|(_, to)| to.iter().all(|to| !below.contains_key(to)))
            .map(|(from, _)| *from)
            .collect();
        if done.is_empty() {
            break;
        }
        below.retain(|from, _| !done.contains(from));
    }
    let within = |import: &&Import| {
        import.from != import.to && below.contains_key(&import.from) && below.contains_key(&import.to)
    };
    imports.iter().filter(within).map(ToString::to_string).collect()
}

fn read(root: &Path, directory: &Path, files: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(directory).expect("the sources are there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            read(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let below = path.strip_prefix(root).expect("below the root").with_extension("");
            let module: Module = below
                .iter()
                .map(|part| part.to_string_lossy().into_owned())
                .filter(|part| part != "lib")
                .collect();
            files.insert(module, fs::read_to_string(&path).expect("text"));
        }
    }
}

/// The paths of every `use` outside of tests, and whether it hands on what it names.
fn statements(text: &str) -> Vec<(bool, Vec<String>)> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let line = rest[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let before = rest[line..at].trim();
        let end = rest[at..].find(';').map_or(rest.len(), |end| at + end);
        let is_use =
            before.is_empty() || before == "pub" || (before.starts_with("pub(") && before.ends_with(')'));
        if is_use {
            expand(&[], &rest[at + 4..end], &mut |path| paths.push((!before.is_empty(), path)));
            rest = &rest[end..];
        } else {
            rest = &rest[at + 4..];
        }
    }
    paths
}

/// Calls `found` with each path of a tree of them.
fn expand(prefix: &[String], tree: &str, found: &mut impl FnMut(Vec<String>)) {
    let tree = tree.trim();
    let (path, group) = match tree.split_once('{') {
        Some((path, group)) => (path, Some(group.trim_end().strip_suffix('}').unwrap_or(group))),
        None => (tree.split(" as ").next().unwrap_or(tree), None),
    };
    let path = path
        .split("::")
        .map(str::trim)
        .filter(|part| !part.is_empty() && *part != "self" || prefix.is_empty());
    let path: Vec<String> =
        prefix.iter().cloned().chain(path.filter(|part| !part.is_empty()).map(str::to_owned)).collect();
    let Some(group) = group else {
        return found(path);
    };
    let (mut depth, mut start) = (0, 0);
    for (at, byte) in group.bytes().enumerate().chain([(group.len(), b',')]) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    expand(&path, &group[start..at], found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The path from the crate's root; `None` for another crate's.
fn absolute(module: &Module, path: &[String]) -> Option<Vec<String>> {
    let base = match path.first()?.as_str() {
        "crate" => return Some(path[1..].to_vec()),
        "self" => module.clone(),
        "super" => module[..module.len() - path.iter().take_while(|part| *part == "super").count()].to_vec(),
        _ => return None,
    };
    let rest = path.iter().skip_while(|part| *part == "self" || *part == "super");
    Some(base.into_iter().chain(rest.cloned()).collect())
}
