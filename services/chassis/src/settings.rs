//! Settings that services have in common, to be flattened into their own.

mod database;
mod http;
mod kafka;
mod runtime;
mod telemetry;
mod traces;
mod values;

use std::ffi::OsStr;

use clap::{Args, Command, Parser, builder::Resettable};

pub use self::{
    database::DatabaseArgs,
    http::{AdminArgs, GatewayTokenArgs, HttpArgs, TokenError},
    kafka::{KafkaArgs, KafkaArgsError},
    runtime::RuntimeArgs,
    telemetry::TelemetryArgs,
    traces::TracesArgs,
};

/// Reads the command line and the environment, in which an empty variable is one that is not set: what a compose file makes of
/// `${NAME:-}`. Ends the process with a message where they say what cannot be.
pub fn parse<S: Parser>() -> S {
    let command =
        without_empty(S::command(), |name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
    S::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.format(&mut S::command()).exit())
}

fn without_empty(command: Command, is_empty: impl Fn(&OsStr) -> bool) -> Command {
    command.mut_args(|arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    })
}

/// The settings of every consumer service.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// How to log.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// How to reach Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// How the consumer group works.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// What callers may take.
    #[command(flatten)]
    pub http: HttpArgs,
    /// Who may use the admin port.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Redis for dedupe hints, such as redis://localhost:6379; empty or unset works without.
    #[arg(long, env, hide_env_values = true, default_value = "", help_heading = "Redis")]
    pub redis_url: String,
    /// How to reach the database, beside its URL.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// The largest amount of one order that the payment provider takes, cents. Orders of more are refused where they are placed.
    #[arg(long, env, default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(1..), help_heading = "Payment")]
    pub provider_max_amount_cents: i64,
    /// Accept payment tokens that force a path through the simulation (`tok_…`): for tests and demonstrations only.
    #[arg(long, env, default_value_t = false, action = clap::ArgAction::Set, help_heading = "Simulation")]
    pub test_tokens: bool,
}

#[cfg(test)]
mod tests;
