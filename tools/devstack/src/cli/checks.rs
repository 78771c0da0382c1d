//! `test`: what the CI runs, and what each step took.

use std::{
    io::{self, IsTerminal as _},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use devstack::{
    os::paths,
    stack::{GatewayPort, Stack, Up},
};
use serde::Deserialize;
use tokio::process::Command;

/// Test builds have places where the process can be killed; release builds never do. One set of features for every step, so
/// that nothing is built twice.
const FAILPOINTS: &str = "--features=actors/failpoints";
/// Tells the tests to go through all failpoints rather than those that fit into a CI run.
const ALL_FAILPOINTS: &str = "ALL_FAILPOINTS";
/// Tells the tests that draw a fault or a thread to try each of them.
const ALL_FAULTS: &str = "ALL_FAULTS";
/// Tells the test of Kafka's absence at rest how many rounds it does.
const REST_ROUNDS: &str = "REST_ROUNDS";
/// Tells the test of a lane with many parked rows how many there are.
const PARKED_ROWS: &str = "PARKED_ROWS";

/// What the tests of dashboards and alerts use, where it is there.
const PROMETHEUS: [&str; 2] = ["prometheus", "promtool"];

/// Where cargo does not show how far it is, a line says so this often.
const TICK: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Kill a process at every failpoint, not just at as many as fit into a minute or two; take Kafka away thirty times, not once; run the
    /// lab with twenty seeds, not one
    #[arg(long)]
    all: bool,
    /// Try the containers of docker-compose.yml too; needs Docker with its Compose plugin
    #[arg(long)]
    compose: bool,
    /// For `cargo test`, such as `-p orders` or a test's name; with any, only the tests are run
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The steps of a run with what each took; stops at the first that fails.
struct Steps {
    taken: Vec<(String, Duration)>,
    start: Instant,
}

impl Steps {
    /// Runs a step. True if it succeeded.
    async fn run(
        &mut self,
        name: &str,
        program: &str,
        arguments: &[&str],
        variables: &[(&str, String)],
    ) -> Result<bool> {
        println!("== {name}: {program} {}", arguments.join(" "));
        let start = Instant::now();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(paths::project_root()?).kill_on_drop(true);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        // On a terminal it shows what it builds; elsewhere that would be a line for each crate.
        let silent = program == "cargo" && name != "tests" && !io::stderr().is_terminal();
        if silent {
            command.env("CARGO_TERM_QUIET", "true");
        }
        let mut child = command.spawn().with_context(|| format!("{program} cannot be run"))?;
        let mut tick = tokio::time::interval(TICK);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.with_context(|| format!("{program} cannot be waited for"))?,
                _ = tick.tick() => {
                    if silent && start.elapsed() >= TICK {
                        println!("   {name}: {:.0} s", start.elapsed().as_secs_f64());
                    }
                }
            }
        };
        self.note(name, start);
        Ok(status.success())
    }

    fn note(&mut self, name: &str, start: Instant) {
        self.taken.push((name.to_owned(), start.elapsed()));
    }

    /// Prints the table and turns the result into an exit code.
    fn end(self, failed: Option<&str>) -> ExitCode {
        println!("== what took how long");
        for (name, taken) in &self.taken {
            println!("{name:30} {:7.1} s", taken.as_secs_f64());
        }
        println!("{:30} {:7.1} s", "total", self.start.elapsed().as_secs_f64());
        match failed {
            None => {
                println!("all checks passed");
                ExitCode::SUCCESS
            }
            Some(name) => {
                println!("FAILED: {name}");
                ExitCode::FAILURE
            }
        }
    }
}

async fn has_cargo_deny() -> bool {
    let mut ask = Command::new("cargo");
    ask.args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    ask.status().await.is_ok_and(|status| status.success())
}

/// The packages that arguments for cargo name.
fn packages(arguments: &[String]) -> Vec<&str> {
    let mut packages = Vec::new();
    let mut words = arguments.iter().map(String::as_str).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        match word.strip_prefix("--package").or_else(|| word.strip_prefix("-p")) {
            Some("") => packages.extend(words.next()),
            Some(name) => packages.push(name.trim_start_matches('=')),
            None => {}
        }
    }
    packages
}

/// Whether packages are named, and all are known not to be `actors` and not to name it as a dependency. Of one that is named
/// otherwise than by its name nothing is known: without their feature its tests would be none.
async fn are_without_actors(packages: &[&str]) -> Result<bool> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        #[serde(default)]
        dependencies: Vec<Package>,
    }
    let mut ask = Command::new("cargo");
    ask.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]);
    let output = ask.current_dir(paths::project_root()?).stderr(Stdio::inherit()).output().await?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("what `cargo metadata` says")?;
    let is_actors = |package: &Package| package.name == "actors";
    let is_without = |name: &&str| {
        let package = metadata.packages.iter().find(|package| package.name == **name);
        package.is_some_and(|package| !is_actors(package) && !package.dependencies.iter().any(is_actors))
    };
    Ok(!packages.is_empty() && packages.iter().all(is_without))
}

pub(crate) async fn test(args: TestArgs) -> Result<ExitCode> {
    let mut steps = Steps { taken: Vec::new(), start: Instant::now() };
    if args.arguments.is_empty() {
        let clippy =
            ["clippy", "--locked", "--workspace", "--all-targets", FAILPOINTS, "--", "-D", "warnings"];
        let checks: [(&str, &[&str]); 2] = [("format", &["fmt", "--all", "--check"]), ("lints", &clippy)];
        for (name, arguments) in checks {
            if !steps.run(name, "cargo", arguments, &[]).await? {
                return Ok(steps.end(Some(name)));
            }
        }
        // Advisories have to be fetched: those are for machines that may.
        let deny = ["deny", "check", "bans", "licenses", "sources"];
        if !has_cargo_deny().await {
            println!("== dependencies: skipped, cargo-deny is not installed");
        } else if !steps.run("dependencies", "cargo", &deny, &[]).await? {
            return Ok(steps.end(Some("dependencies")));
        }
    }
    let missing: Vec<_> = PROMETHEUS.into_iter().filter(|name| paths::program(name).is_err()).collect();
    if !missing.is_empty() {
        println!(
            "== dashboards and alerts: skipped, {} is not installed (Debian: prometheus)",
            missing.join(", ")
        );
    }
    // Tests that start the services find their binaries here, and tests of what is not built yet would test old ones.
    let build = ["build", "--locked", "--workspace", "--bins", FAILPOINTS];
    if !steps.run("build binaries", "cargo", &build, &[]).await? {
        return Ok(steps.end(Some("build binaries")));
    }
    let build = ["test", "--locked", "--workspace", "--no-run", FAILPOINTS];
    if !steps.run("build tests", "cargo", &build, &[]).await? {
        return Ok(steps.end(Some("build tests")));
    }

    let start = Instant::now();
    let mut stack = Stack::private(GatewayPort::Any, &[])?;
    stack.up(&Up { servers_only: true, ..Up::default() }).await?;
    steps.note("start servers", start);
    let environment = stack.test_environment()?;
    let mut variables: Vec<(&str, String)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    if args.all {
        variables.push((ALL_FAILPOINTS, "1".to_owned()));
        variables.push((ALL_FAULTS, "1".to_owned()));
        variables.push((PARKED_ROWS, "1000000".to_owned()));
        variables.push((REST_ROUNDS, std::env::var(REST_ROUNDS).unwrap_or_else(|_| "30".to_owned())));
    }
    let packages = packages(&args.arguments);
    let mut words = vec!["test", "--locked"];
    // Cargo would take --workspace for more than the packages that were asked for.
    if packages.is_empty() {
        words.push("--workspace");
    }
    // And it refuses a feature of what none of them depends on.
    if !are_without_actors(&packages).await? {
        words.push(FAILPOINTS);
    }
    words.extend(args.arguments.iter().map(String::as_str));
    let passed = steps.run("tests", "cargo", &words, &variables).await;
    drop(variables);
    stack.discard().await?;
    if !passed? {
        return Ok(steps.end(Some("tests")));
    }
    if args.compose && !steps.run("containers", "deploy/compose-test", &[], &[]).await? {
        return Ok(steps.end(Some("containers")));
    }
    Ok(steps.end(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_known_however_they_are_named() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let line = words("-p a --test t -pb --package c --package=d -- -p none");
        assert_eq!(packages(&line), ["a", "b", "c", "d"]);
        assert!(packages(&words("--test protocol blame")).is_empty());
    }

    #[tokio::test]
    async fn who_has_failpoints_is_known() {
        for (packages, expected) in [
            (&[][..], false),
            (&["actors"], false),
            (&["orders"], false),
            (&["dead-letters"], true),
            (&["dead-letters", "bench"], false),
            (&["actors@0.1.0"], false),
        ] {
            assert_eq!(are_without_actors(packages).await.expect("cargo answers"), expected, "{packages:?}");
        }
    }
}
