//! Embedded migrations are read by a macro, which does not notice a file that was added.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
