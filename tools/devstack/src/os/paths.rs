//! Where things are: the project, its binaries, Kafka's jars, the data of a stack.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// The project's root: the directory with `Cargo.lock`, upwards from the working directory.
pub fn project_root() -> Result<PathBuf> {
    let here = env::current_dir().context("the working directory cannot be read")?;
    here.ancestors()
        .find(|dir| dir.join("Cargo.lock").is_file() && dir.join("tools/devstack").is_dir())
        .map(Path::to_owned)
        .with_context(|| {
            format!("{} is not inside the project; go to its root and try again", here.display())
        })
}

/// The directory of the service binaries: where this program is or, in a test, one above.
pub fn binaries() -> Result<PathBuf> {
    let me = env::current_exe().context("the path of this program cannot be read")?;
    let found = me.ancestors().skip(1).take(2).find(|dir| dir.join("gateway").is_file());
    found.map(Path::to_owned).with_context(|| {
        format!("the services are not built beside {}: run `cargo build --workspace --bins`", me.display())
    })
}

/// Kafka's jars.
pub fn kafka_libs(root: &Path) -> Result<PathBuf> {
    let libs = root.join(".devstack/kafka/libs");
    if !libs.join(".complete").is_file() {
        bail!("Kafka's jars are not in {}: run `./dev setup`", libs.display());
    }
    Ok(libs)
}

/// A server's program: from PATH, or where Debian keeps PostgreSQL's.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = env::split_paths(&path).collect();
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    versions.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    places.extend(versions.into_iter().rev().map(|version| version.join("bin")));
    places
        .into_iter()
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not installed: run `./dev setup`"))
}
