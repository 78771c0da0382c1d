//! `bench`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use devstack::bench::{self, Load};

use super::Output;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Orders from POST to their end, on a private stack
    Orders {
        /// How to show it
        #[arg(short, long, default_value = "table")]
        output: Output,
        /// Orders placed
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        orders: u32,
        /// Connections they are placed over
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        connections: u32,
    },
}

pub(crate) async fn bench(args: BenchArgs) -> Result<ExitCode> {
    let What::Orders { output, orders, connections } = args.what;
    let load = Load {
        orders: usize::try_from(orders)?,
        connections: usize::try_from(connections)?,
        ..Load::default()
    };
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
    Ok(ExitCode::SUCCESS)
}
