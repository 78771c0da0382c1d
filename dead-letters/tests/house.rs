//! The house stays in order: no two files of this crate import each other, be it by way of others.

#[path = "../../actors/tests/house/imports.rs"]
mod imports;

use self::imports::assert_no_circle;

#[test]
fn no_files_go_round_in_a_circle() {
    assert_no_circle();
}
