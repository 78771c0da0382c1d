//! The house stays in order: no two files of this crate import each other, be it by way of others.

#[path = "../../actors/tests/house/imports.rs"]
mod imports;

use self::imports::{circle, imports};

#[test]
fn no_files_go_round_in_a_circle() {
    let (modules, imports) = imports();
    // Where nothing were read, nothing would be wrong.
    assert!(imports.len() > modules.len(), "the imports are not read: {} were", imports.len());
    let lines = circle(&imports);
    assert!(lines.is_empty(), "in a circle, or above one:\n{}", lines.join("\n"));
}
