//! `bench`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use devstack::{
    bench::{self, Load},
    os::paths,
    stack::{GatewayPort, Stack, Up},
};
use tokio::process::Command;

use super::output::Output;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Orders from POST to their end, on a private stack, and what they take of the machine
    Orders {
        /// How to show it
        #[arg(short, long, default_value = "table")]
        output: Output,
        /// Orders placed, after a warm-up of at most 2,000
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        orders: u32,
        /// Connections they are placed over
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        connections: u32,
    },
    /// The partition runtime beside hand-written code, on private servers
    Runtime {
        /// How to show it
        #[arg(short, long, default_value = "table")]
        output: Output,
        /// Records of each way
        #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(1_000..=5_000_000))]
        events: u32,
        /// How often each way is measured; the median counts
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
        runs: u32,
    },
    /// What it costs to try a record again: in place, with retry topics, and parked by the runtime, on private servers
    RetryTopics {
        /// How to show it
        #[arg(short, long, default_value = "table")]
        output: Output,
        /// Events of each way
        #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1_000..=5_000_000))]
        events: u32,
        /// Keys they belong to
        #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        keys: u32,
        /// Events a second; 0: as fast as they can be written
        #[arg(long, default_value_t = 2_000)]
        rate: u32,
        /// Events of a thousand that fail at first
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000))]
        failing: u32,
    },
}

pub(crate) async fn bench(args: BenchArgs) -> Result<ExitCode> {
    match args.what {
        What::Orders { output, orders, connections } => self::orders(output, orders, connections).await,
        What::Runtime { output, events, runs } => {
            measure(output, &[], &[("--events", events), ("--runs", runs)]).await
        }
        What::RetryTopics { output, events, keys, rate, failing } => {
            let load = [("--events", events), ("--keys", keys), ("--rate", rate), ("--failing", failing)];
            measure(output, &["retry-topics"], &load).await
        }
    }
}

/// Servers alone, and the program that measures on them.
async fn measure(output: Output, what: &[&str], numbers: &[(&str, u32)]) -> Result<ExitCode> {
    let mut stack = Stack::private(GatewayPort::Any, &[])?;
    eprintln!("starting private servers");
    stack.up(&Up { servers_only: true, ..Up::default() }).await?;
    let measured = async {
        let mut command = Command::new(paths::binaries()?.join("bench"));
        command.args(what).kill_on_drop(true);
        for (name, number) in numbers {
            command.arg(name).arg(number.to_string());
        }
        if output == Output::Json {
            command.arg("--json");
        }
        command.envs(stack.test_environment()?);
        command.status().await.context("the program that measures cannot be run")
    };
    let status = measured.await;
    stack.discard().await?;
    Ok(if status?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn orders(output: Output, orders: u32, connections: u32) -> Result<ExitCode> {
    let load = Load::new(usize::try_from(orders)?, usize::try_from(connections)?);
    let report = bench::orders(load).await?;
    if output == Output::Json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} orders over {} connections, servers and services on this machine",
        report.orders, report.connections
    );
    println!("accepted          {:9.0} orders/s", report.accepted_per_s);
    println!("ended             {:9.0} orders/s", report.terminal_per_s);
    println!("POST to end, p50  {:9.1} ms", report.p50_ms);
    println!("POST to end, p99  {:9.1} ms", report.p99_ms);
    println!("one at a time, p50{:9.1} ms", report.single_p50_ms);
    let cost = &report.cost;
    println!("processor         {:9.3} ms an order, all together", cost.processor_ms());
    for (name, taken) in &cost.processor_ms_per_order {
        println!("  {name:16}{taken:9.3} ms");
    }
    println!("transactions      {:9.2} an order", cost.transactions_per_order);
    println!("write-ahead log   {:9.0} bytes an order", cost.wal_bytes_per_order);
    Ok(ExitCode::SUCCESS)
}
