//! The settings of a consumer group, each over the runtime's own default.

use std::time::Duration;

use actors::GroupSettings;
use clap::{Args, value_parser};

use super::values::positive;

/// Overrides of the runtime's defaults; what is not given keeps its default.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Runtime")]
pub struct RuntimeArgs {
    /// Delay after the first failed attempt, milliseconds [default: 200].
    #[arg(long, env, help_heading = "Retry")]
    pub retry_initial_ms: Option<u64>,
    /// Longest delay between attempts, milliseconds [default: 60000].
    #[arg(long, env, help_heading = "Retry")]
    pub retry_max_ms: Option<u64>,
    /// Each delay is this many times the one before; at least 1 [default: 2].
    #[arg(long, env, value_parser = multiplier, help_heading = "Retry")]
    pub retry_multiplier: Option<f64>,
    /// Share by which a delay is spread both ways, 0 to 1 [default: 0.2].
    #[arg(long, env, value_parser = share, help_heading = "Retry")]
    pub retry_jitter: Option<f64>,
    /// Attempts in all before a dead letter; with none, as many as the deadline allows [default: none].
    #[arg(long, env, value_parser = attempts, help_heading = "Retry")]
    pub retry_attempts: Option<u32>,
    /// Seconds from the first failure after which no further attempt is made; time in which the partition could not work is
    /// left out [default: 1800].
    #[arg(long, env, help_heading = "Retry")]
    pub retry_deadline_s: Option<u64>,
    /// Longest delay between tries while a server cannot be reached, milliseconds [default: 2000].
    #[arg(long, env, help_heading = "Retry")]
    pub unreachable_max_ms: Option<u64>,
    /// Distinct keys that must have been tried before failures count as systemic [default: 20].
    #[arg(long, env, value_parser = positive, help_heading = "Retry")]
    pub circuit_min_keys: Option<usize>,
    /// Attempts older than this say nothing of that any more, milliseconds [default: 30000].
    #[arg(long, env, help_heading = "Retry")]
    pub circuit_window_ms: Option<u64>,
    /// A member silent for this long loses its partitions, milliseconds [default: 6000].
    #[arg(long, env, value_parser = value_parser!(u64).range(1_000..=300_000))]
    pub session_timeout_ms: Option<u64>,
    /// Time a leaving partition's batch in flight is given, milliseconds; at most 0.6 of the session time-out [default: 3500].
    #[arg(long, env)]
    pub drain_ms: Option<u64>,
    /// Most records in one batch transaction [default: 500].
    #[arg(long, env, value_parser = positive)]
    pub batch_max_records: Option<usize>,
    /// Most bytes in one batch transaction [default: 4194304].
    #[arg(long, env, value_parser = positive)]
    pub batch_max_bytes: Option<usize>,
    /// Records delivered and not finished at which a lane is full: it takes no more until there is room, and when it was full for five
    /// seconds its partition is paused in Kafka (backpressure) [default: 4000].
    #[arg(long, env, value_parser = positive)]
    pub lane_max_records: Option<usize>,
    /// The same in bytes [default: 16777216].
    #[arg(long, env, value_parser = positive)]
    pub lane_max_bytes: Option<usize>,
    /// Largest record, decompressed, in bytes, that is handled; a larger one is a dead letter with the beginning of its value
    /// [default: 16777216].
    #[arg(long, env, value_parser = positive)]
    pub record_max_bytes: Option<usize>,
    /// Batch transactions in flight in this process [default: 4].
    #[arg(long, env, value_parser = positive)]
    pub batch_transactions: Option<usize>,
    /// Keys of one batch whose external calls run at the same time [default: 64].
    #[arg(long, env, value_parser = positive)]
    pub prepare_concurrency: Option<usize>,
    /// How long a batch waits for its external calls before it is committed without those that have not answered, milliseconds
    /// [default: 100].
    #[arg(long, env)]
    pub slow_call_ms: Option<u64>,
    /// Actors one record may kill before it is a dead letter [default: 3].
    #[arg(long, env, value_parser = value_parser!(u32).range(1..))]
    pub crash_limit: Option<u32>,
    /// Processes that may die (unclean shutdown) while they try one record alone before it is a dead letter [default: 5].
    #[arg(long, env, value_parser = value_parser!(u32).range(1..))]
    pub death_limit: Option<u32>,
    /// Restarts of an actor without progress in a period before its partition halts [default: 10].
    #[arg(long, env)]
    pub restart_budget: Option<u32>,
    /// That period, seconds [default: 60].
    #[arg(long, env)]
    pub restart_period_s: Option<u64>,
    /// Records of one partition that may wait for another attempt; at that number it takes nothing new [default: 10000].
    #[arg(long, env, value_parser = positive)]
    pub parked_max: Option<usize>,
    /// Records of one key that may wait; at that number its partition takes nothing new [default: 1000].
    #[arg(long, env, value_parser = positive)]
    pub chain_max: Option<usize>,
    /// Outbox rows of one partition that Kafka has not acknowledged; at that number it takes no batch [default: 10000].
    #[arg(long, env, value_parser = positive)]
    pub outbox_max_rows: Option<usize>,
    /// Seconds for which an event's outcome is remembered: longer than any record may be on its way twice [default: 259200].
    #[arg(long, env, value_parser = value_parser!(u64).range(60..))]
    pub inbox_retention_s: Option<u64>,
    /// The same for events that were ever dead: as long as a dead letter may be put back [default: 2678400].
    #[arg(long, env, value_parser = value_parser!(u64).range(60..))]
    pub dead_retention_s: Option<u64>,
    /// Longest statement, longest wait for a lock and longest pause within a transaction, milliseconds: PostgreSQL ends what
    /// takes longer [default: 5000].
    #[arg(long, env, value_parser = value_parser!(u64).range(100..))]
    pub statement_timeout_ms: Option<u64>,
    /// Longest transaction, milliseconds: one that is not answered by then is given up with its connection [default: 8000].
    #[arg(long, env, value_parser = value_parser!(u64).range(100..))]
    pub transaction_limit_ms: Option<u64>,
    /// Seconds after which a partition that was halted by an error of code or schema tries again [default: 30].
    #[arg(long, env, value_parser = value_parser!(u64).range(1..))]
    pub halt_retry_s: Option<u64>,
}

/// More attempts than any deadline allows.
const UNLIMITED: u32 = u32::MAX;

fn attempts(text: &str) -> Result<u32, String> {
    match text {
        "none" => Ok(UNLIMITED),
        text => match text.parse::<u32>() {
            Ok(attempts) if attempts > 0 => Ok(attempts),
            _ => Err("a number from 1, or none".to_owned()),
        },
    }
}

fn multiplier(text: &str) -> Result<f64, String> {
    between(text, 1.0, 100.0)
}

fn share(text: &str) -> Result<f64, String> {
    between(text, 0.0, 1.0)
}

fn between(text: &str, low: f64, high: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        Ok(_) => Err(format!("must be between {low} and {high}")),
        Err(error) => Err(format!("not a number: {error}")),
    }
}

impl RuntimeArgs {
    /// Lays what was given over `settings`.
    pub fn apply(&self, settings: &mut GroupSettings) {
        let ms = |given: Option<u64>| given.map(Duration::from_millis);
        let seconds = |given: Option<u64>| given.map(Duration::from_secs);
        set(&mut settings.retry.initial, ms(self.retry_initial_ms));
        set(&mut settings.retry.max, ms(self.retry_max_ms));
        set(&mut settings.retry.multiplier, self.retry_multiplier);
        set(&mut settings.retry.jitter, self.retry_jitter);
        set(
            &mut settings.retry.attempts,
            self.retry_attempts.map(|attempts| (attempts != UNLIMITED).then_some(attempts)),
        );
        set(&mut settings.retry.deadline, seconds(self.retry_deadline_s));
        set(&mut settings.unreachable.max, ms(self.unreachable_max_ms));
        set(&mut settings.circuit.min_keys, self.circuit_min_keys);
        set(&mut settings.circuit.window, ms(self.circuit_window_ms));
        set(&mut settings.session_timeout, ms(self.session_timeout_ms));
        set(&mut settings.drain, ms(self.drain_ms));
        // The batch in hand of a leaving partition must end before its next owner may start.
        settings.drain = settings.drain.min(settings.session_timeout.mul_f64(0.6));
        set(&mut settings.batch_max_records, self.batch_max_records);
        set(&mut settings.batch_max_bytes, self.batch_max_bytes);
        set(&mut settings.lane_max_records, self.lane_max_records);
        set(&mut settings.lane_max_bytes, self.lane_max_bytes);
        set(&mut settings.record_max_bytes, self.record_max_bytes);
        set(&mut settings.batch_transactions, self.batch_transactions);
        set(&mut settings.prepare_concurrency, self.prepare_concurrency);
        set(&mut settings.slow_call, ms(self.slow_call_ms));
        set(&mut settings.crash_limit, self.crash_limit);
        set(&mut settings.death_limit, self.death_limit);
        set(&mut settings.restart.budget, self.restart_budget);
        set(&mut settings.restart.period, seconds(self.restart_period_s));
        set(&mut settings.parked_max, self.parked_max);
        set(&mut settings.chain_max, self.chain_max);
        set(&mut settings.outbox_max_rows, self.outbox_max_rows);
        set(&mut settings.retention.inbox, seconds(self.inbox_retention_s));
        set(&mut settings.retention.dead, seconds(self.dead_retention_s));
        let statement = ms(self.statement_timeout_ms);
        set(&mut settings.limits.statement, statement);
        set(&mut settings.limits.lock, statement);
        set(&mut settings.limits.idle, statement);
        set(&mut settings.limits.whole, ms(self.transaction_limit_ms));
        set(&mut settings.halt_retry, seconds(self.halt_retry_s));
    }
}

fn set<T>(target: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *target = value;
    }
}
