//! One round: Kafka goes away from a system at rest, comes back, and one order on each partition has to end soon.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use contracts::topics::PARTITIONS;
use dead_letters::one_line;
use devstack::{
    clients::{gateway::Gateway, topics::partition_of},
    os::proxy::{Mode, Proxy},
    stack::Stack,
    testing::Trial,
    topology::Role,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use uuid::Uuid;

/// What has to be seen, or to be over, is so after this time.
const SOON: Duration = Duration::from_secs(15);
/// Those that use Kafka.
const SERVICES: [Role; 3] = [Role::Orders, Role::Payments, Role::Delivery];

/// How Kafka goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// It stands still.
    Frozen,
    /// It is killed, and started after the time.
    Killed,
    /// It is asked to end, and started after the time.
    Stopped,
    /// Connections to it are closed and refused.
    Refused,
    /// Connections to it are open, and nothing comes through.
    Swallowed,
}

impl Absence {
    const ALL: [Self; 5] = [Self::Frozen, Self::Killed, Self::Stopped, Self::Refused, Self::Swallowed];

    /// The one called `name`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| format!("{one:?}").eq_ignore_ascii_case(name))
    }
}

/// What is done in a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    absence: Absence,
    time: Duration,
    /// Threads that take the processor from everything else.
    busy: usize,
}

impl Round {
    /// Rounds by seed, all of them of one kind if one is asked for. The first is always the one that is known to be hard: what a quiet
    /// machine forgives is not forgiven by a busy one.
    pub(crate) fn by_seed(seed: u64, only: Option<Absence>) -> impl Iterator<Item = Self> {
        let mut random = StdRng::seed_from_u64(seed);
        let absence = only.unwrap_or(Absence::Frozen);
        let first = Self { absence, time: Duration::from_secs(20), busy: 3 };
        std::iter::once(first).chain(std::iter::repeat_with(move || {
            let absence = Absence::ALL[random.random_range(0..Absence::ALL.len())];
            Self {
                absence: only.unwrap_or(absence),
                time: Duration::from_millis(random.random_range(2_000..=60_000)),
                busy: [0, 3][random.random_range(0..2)],
            }
        }))
    }

    /// Does it.
    pub(crate) async fn run(self, trial: &mut Trial, proxy: &Proxy) -> Result<()> {
        let busy = Busy::start(self.busy);
        let result = async {
            self.leave(&mut trial.stack, proxy).await?;
            let away = pass(trial, self.time).await;
            // Whatever was seen, Kafka comes back, and what follows is looked at too.
            self.come_back(&mut trial.stack, proxy).await?;
            let back = Instant::now();
            let orders = async {
                let left = SOON.saturating_sub(back.elapsed());
                let placed = trial.gateway.place_on_each(PARTITIONS, left).await;
                all_end(&trial.gateway, &placed.context("no order can be placed")?, back).await
            };
            let (orders, calm) = tokio::join!(orders, all_calm(trial, back));
            let wrong: Vec<String> = [away, orders, calm]
                .into_iter()
                .filter_map(|part| Some(one_line(part.err()?.as_ref())))
                .collect();
            ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
            Ok(())
        };
        let result = result.await;
        drop(busy);
        result
    }

    async fn leave(self, stack: &mut Stack, proxy: &Proxy) -> Result<()> {
        match self.absence {
            Absence::Frozen => stack.process(Role::Kafka, 1)?.signal(Signal::STOP),
            Absence::Killed => stack.kill(Role::Kafka, 1).await,
            Absence::Stopped => stack.stop(Role::Kafka, 1).await.map(drop),
            Absence::Refused => {
                proxy.set(Mode::Refuse);
                Ok(())
            }
            Absence::Swallowed => {
                proxy.set(Mode::Swallow);
                Ok(())
            }
        }
    }

    async fn come_back(self, stack: &mut Stack, proxy: &Proxy) -> Result<()> {
        match self.absence {
            Absence::Frozen => stack.process(Role::Kafka, 1)?.signal(Signal::CONT),
            Absence::Killed | Absence::Stopped => stack.start(Role::Kafka, 1).await,
            Absence::Refused | Absence::Swallowed => {
                proxy.set(Mode::Pass);
                Ok(())
            }
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs_f64();
        write!(f, "Kafka is {:?} for {seconds:.1} s, {} busy threads beside it", self.absence, self.busy)
    }
}

/// Every order is COMPLETED soon after Kafka was back; those that are not are named with their partitions.
async fn all_end(gateway: &Gateway, placed: &[Uuid], back: Instant) -> Result<()> {
    let mut open = placed.to_vec();
    loop {
        let mut states = BTreeMap::new();
        for order in &open {
            states.insert(*order, gateway.order(*order).await?.status);
        }
        open.retain(|order| states[order] != "COMPLETED");
        if open.is_empty() {
            return Ok(());
        }
        if back.elapsed() > SOON {
            let said = open.iter().map(|order| {
                let partition = partition_of(order.to_string().as_bytes(), PARTITIONS);
                format!("{order} of partition {partition} is {}", states[order])
            });
            let said: Vec<String> = said.collect();
            bail!(
                "{} of {} orders are not COMPLETED {SOON:?} after Kafka was back:\n  {}",
                open.len(),
                placed.len(),
                said.join("\n  ")
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Lets `time` pass. From the moment on at which it has to be seen, every service says that it is degraded.
async fn pass(trial: &Trial, time: Duration) -> Result<()> {
    let start = Instant::now();
    tokio::time::sleep(time.min(SOON)).await;
    let mut silent = BTreeMap::new();
    while start.elapsed() < time {
        for role in SERVICES {
            let asked = start.elapsed();
            if trial.readyz(role).await?.degraded.is_empty() {
                silent.entry(role).or_insert(asked);
            }
        }
        tokio::time::sleep(Duration::from_millis(500).min(time.saturating_sub(start.elapsed()))).await;
    }
    ensure!(silent.is_empty(), "while Kafka is away, /readyz is not degraded (first after): {silent:?}");
    Ok(())
}

/// Soon after Kafka was back, every service is ready, and nothing is degraded.
async fn all_calm(trial: &Trial, back: Instant) -> Result<()> {
    for role in SERVICES {
        loop {
            let said = trial.readyz(role).await?;
            if said.status == "ready" && said.degraded.is_empty() {
                break;
            }
            ensure!(back.elapsed() < SOON, "{SOON:?} after Kafka was back, {role} says {said:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

/// Threads that keep the processor busy until this is dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn start(threads: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let over = over.clone();
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(over)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
