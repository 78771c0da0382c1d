//! The operator's command line over dead-letter topics. See the library's documentation.

use std::process::ExitCode;

use clap::Parser;
use dlq_inspector::{args::Args, run};

fn main() -> ExitCode {
    ExitCode::from(run(Args::parse()).code())
}
