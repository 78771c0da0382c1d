//! `audit`: proves, on any deployment, that every offset a consumer group is past has an outcome.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use audit::{Audit, Bounds, Pointers, Scope};
use chassis::database::{Database, TlsFiles};
use clap::{Parser, ValueEnum};
use dead_letters::{KafkaSettings, one_line};

/// Three days, as long as services remember outcomes unless they are told otherwise.
const RETENTION_S: u64 = 3 * 24 * 60 * 60;

/// Longer waits are said.
const SILENCE: Duration = Duration::from_secs(3);

/// Reads a consumer group's topics again and proves that every offset it is past has an outcome, without believing a counter.
///
/// Needs to read the topics, the group's dead letters and dlq.actions, and the group's database. It changes nothing, joins no
/// consumer group, and may run while the services do.
#[derive(Debug, Parser)]
#[command(
    name = "audit",
    version,
    after_help = "Exit codes: 0 every offset has an outcome, 1 some have none, 2 wrong usage, 3 it \
could not be found out."
)]
struct Cli {
    /// Brokers, host:port, comma-separated
    #[arg(long, env = "KAFKA_BROKERS")]
    brokers: String,
    /// File of librdkafka properties, name=value a line: security.protocol, sasl.*, ssl.*
    #[arg(long, env = "KAFKA_CONFIG_FILE")]
    config: Option<PathBuf>,
    /// A librdkafka property, laid over those of the file; may be repeated
    #[arg(short = 'X', value_name = "NAME=VALUE")]
    properties: Vec<String>,
    /// The group's database, postgres://user:password@host:port/name; ?sslmode= as in libpq
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// File with the authorities to trust for the database, PEM
    #[arg(long, env)]
    database_tls_root_cert: Option<PathBuf>,
    /// File with the certificate to show to the database, PEM
    #[arg(long, env, requires = "database_tls_client_key")]
    database_tls_client_cert: Option<PathBuf>,
    /// File with the private key of that certificate, PEM
    #[arg(long, env, requires = "database_tls_client_cert")]
    database_tls_client_key: Option<PathBuf>,
    /// The consumer group
    #[arg(long)]
    group: String,
    /// A topic it reads; may be repeated. Its requeue topic needs no mention
    #[arg(long = "topic", required = true)]
    topics: Vec<String>,
    /// Seconds for which the group remembers outcomes: what is older is not demanded
    #[arg(long, env = "INBOX_RETENTION_S", default_value_t = RETENTION_S)]
    retention: u64,
    /// Where a record's JSON has the event's id, a JSON pointer
    #[arg(long, default_value = "/event_id", value_parser = pointer)]
    event_id: String,
    /// Where it says when that happened, RFC 3339
    #[arg(long, default_value = "/occurred_at", value_parser = pointer)]
    occurred_at: String,
    /// Where it has its correlation id
    #[arg(long, default_value = "/correlation_id", value_parser = pointer)]
    correlation_id: String,
    /// How to show it
    #[arg(short, long, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn pointer(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err("a JSON pointer begins with /, such as /event_id or /meta/id".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", one_line(error.as_ref()));
            ExitCode::from(3)
        }
    }
}

/// True if every offset has an outcome.
async fn run(cli: Cli) -> Result<bool> {
    let kafka = kafka(&cli)?;
    let files = TlsFiles {
        root_cert: cli.database_tls_root_cert,
        client_cert: cli.database_tls_client_cert,
        client_key: cli.database_tls_client_key,
    };
    let database = Database::new(&cli.database_url, "audit", &files)?;
    let database = tokio::select! {
        client = database.client() => client?,
        () = tokio::time::sleep(SILENCE) => {
            eprintln!("waiting up to a minute for PostgreSQL to answer");
            database.client().await?
        }
    };
    let Cli { event_id: id, occurred_at, correlation_id, .. } = cli;
    let scope = Scope {
        group: cli.group,
        topics: cli.topics,
        kafka,
        retention: Duration::from_secs(cli.retention),
        event: Pointers { id, occurred_at, correlation_id }.reader(),
        bounds: Bounds::default(),
    };
    let group = audit::audit(&scope, database).await?;
    let seconds = group.seconds;
    let audit = Audit::of(vec![group], seconds);
    match cli.output {
        Output::Table => println!("{audit}"),
        Output::Json => println!("{}", serde_json::to_string(&audit)?),
    }
    Ok(audit.is_clean())
}

fn kafka(cli: &Cli) -> Result<KafkaSettings> {
    let mut properties = match &cli.config {
        Some(path) => {
            let text =
                fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
            KafkaSettings::read_properties(&text).with_context(|| path.display().to_string())?
        }
        None => Vec::new(),
    };
    for property in &cli.properties {
        match KafkaSettings::read_properties(property) {
            Ok(pair) if !pair.is_empty() => properties.extend(pair),
            // What there is may be a password.
            _ => bail!("-X takes NAME=VALUE"),
        }
    }
    let kafka = KafkaSettings { brokers: cli.brokers.clone(), properties };
    kafka.check()?;
    Ok(kafka)
}
