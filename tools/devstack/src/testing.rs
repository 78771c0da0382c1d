//! What tests on a whole stack share: one private stack per test binary, used by one test at a time.

use std::{
    fs,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    clients::{
        admin::{Condition, Readiness, readyz},
        gateway::Gateway,
        inspector::{DeadLetter, Inspector},
        topics,
    },
    os::paths,
    reconcile::Totals,
    servers::postgres::connect,
    stack::{GatewayPort, Stack, Up},
    topology::{KAFKA_BROKERS, Role},
};

/// Time anything is given to happen.
pub const SOON: Duration = Duration::from_secs(60);

/// A running stack and what is asked of it.
#[derive(Debug)]
pub struct Trial {
    /// The stack.
    pub stack: Stack,
    /// Its gateway.
    pub gateway: Gateway,
    /// Its inspector.
    pub inspector: Inspector,
}

/// Runs `test` on this process's stack, which the first caller starts with `variables` for its services. Tests take turns:
/// they restart servers and compare totals. The stack dies with the process.
///
/// # Errors
/// When the stack cannot be started, or what `test` says.
pub fn run<T>(
    variables: &[(Role, &str, &str)],
    test: impl AsyncFnOnce(&mut Trial) -> Result<T>,
) -> Result<T> {
    // One runtime for all tests: connections of one that has ended would be of no use to the next test.
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    static TRIAL: Mutex<Option<Trial>> = Mutex::new(None);
    let runtime = match RUNTIME.get() {
        Some(runtime) => runtime,
        None => {
            let made = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            RUNTIME.get_or_init(|| made)
        }
    };
    // A test that failed says so itself; the next one starts what it left dead.
    let mut trial = TRIAL.lock().unwrap_or_else(PoisonError::into_inner);
    runtime.block_on(async {
        let trial = match &mut *trial {
            Some(trial) => {
                trial.stack.up(&Up::default()).await?;
                trial
            }
            empty => empty.insert(Trial::start(variables).await?),
        };
        test(trial).await
    })
}

/// A row of docs/metrics.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documented {
    /// The metric's name.
    pub name: String,
    /// Its type: `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Its labels.
    pub labels: Vec<String>,
}

/// The metrics of docs/metrics.md.
///
/// # Errors
/// When it cannot be read, or a row has too few cells.
pub fn documented_metrics() -> Result<Vec<Documented>> {
    let text = fs::read_to_string(paths::project_root()?.join("docs/metrics.md"))?;
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, name, kind, _, labels, ..] = cells[..] else { bail!("no row of the table: {row}") };
        let labels = labels.split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        Ok(Documented { name: name.trim_matches('`').to_owned(), kind: kind.to_owned(), labels })
    })
    .collect()
}

impl Trial {
    /// What is asked of a stack that serves.
    pub fn of(stack: Stack) -> Result<Self> {
        let gateway = Gateway::new(stack.gateway_url()?, 32)?;
        let inspector = Inspector::new(&stack)?;
        Ok(Self { stack, gateway, inspector })
    }

    async fn start(variables: &[(Role, &str, &str)]) -> Result<Self> {
        let mut stack = Stack::private(GatewayPort::Any, variables)?;
        stack.up(&Up::default()).await?;
        Self::of(stack)
    }

    /// Publishes a record to `topic` as it is; its partition and offset.
    pub async fn publish(&self, topic: &str, key: &str, value: Option<&[u8]>) -> Result<(i32, i64)> {
        topics::publish(self.stack.url(KAFKA_BROKERS)?, topic, key, value).await
    }

    /// Waits until the totals satisfy `enough`.
    pub async fn totals(&self, what: &str, enough: impl Fn(&Totals) -> bool) -> Result<Totals> {
        let start = Instant::now();
        loop {
            // While a server comes back, the totals cannot be read; that is an error only if it stays so.
            let missing = match Totals::read(&self.stack).await {
                Ok(totals) if enough(&totals) => return Ok(totals),
                Ok(totals) => anyhow!("{totals}\n{}", totals.wrong().join("\n")),
                Err(error) => error,
            };
            if start.elapsed() > SOON {
                return Err(missing.context(format!("not {what} after {SOON:?}")));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until `group` has read past an offset; the totals then.
    pub async fn read_past(&self, group: &str, topic: &str, place: (i32, i64)) -> Result<Totals> {
        let (partition, offset) = place;
        let what = format!("read past {topic}/{partition} offset {offset} by {group}");
        self.totals(&what, |totals| {
            totals.lane(group, topic, partition).is_some_and(|lane| lane.next > offset)
        })
        .await
    }

    /// Waits for the dead letter of `group` whose record has `key`.
    pub async fn dead(&self, group: &str, key: &str) -> Result<DeadLetter> {
        let start = Instant::now();
        loop {
            if let Some(letter) = self.inspector.list(&["--group", group, "--key", key]).await?.pop() {
                return Ok(letter);
            }
            if start.elapsed() > SOON {
                bail!("no dead letter of {group} with key {key} after {SOON:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What a service says of itself.
    pub async fn readyz(&self, role: Role) -> Result<Readiness> {
        readyz(&self.stack.admin_url(role, 1)?).await
    }

    /// Waits until what a service says of itself is enough.
    pub async fn until_degraded(
        &self,
        role: Role,
        what: &str,
        limit: Duration,
        enough: impl Fn(&[Condition]) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            // One that is not answered is asked again.
            let said = self.readyz(role).await;
            if said.as_ref().is_ok_and(|said| enough(&said.degraded)) {
                println!("{role}: {what} after {:.1} s", start.elapsed().as_secs_f64());
                return Ok(());
            }
            ensure!(start.elapsed() < limit, "{role}: not {what} after {limit:?}: {said:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Rows of an order in the ledger: (charges, refunds).
    pub async fn ledger(&self, order: Uuid) -> Result<(i64, i64)> {
        let payments = connect(self.stack.url("PAYMENTS_DATABASE_URL")?).await?;
        let sql = "select count(*) filter (where kind = 'charge'), count(*) filter (where kind = 'refund')
                   from charges where order_id = $1";
        let row = payments.query_one(sql, &[&order]).await.context("the ledger cannot be read")?;
        Ok((row.get(0), row.get(1)))
    }
}
