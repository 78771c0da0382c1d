//! Doing what a plan says, and how long the platform takes to recover from it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use contracts::topics::PARTITIONS;
use serde::Serialize;
use tokio::sync::watch;

use super::{
    disk::SlowDisk,
    fault::{Fault, Kind},
    garbage::{self, Place},
    load::Orders,
    provider::{self, Behaviour},
    stage::{Stage, bring_back},
};
use crate::{
    clients::{admin::readyz, gateway::TERMINAL},
    os::{process::Frozen, proxy::Mode},
    topology::{KAFKA_BROKERS, REDIS_URL, Role},
};

/// What each fsync of a slow disk takes longer.
pub const DISK_DELAY: Duration = Duration::from_millis(100);
/// What each change takes longer that is asked of a slow provider.
pub const PROVIDER_DELAY: Duration = Duration::from_millis(800);
/// What ends a fault is tried for so long, whatever else is gone.
const UNDONE: Duration = Duration::from_secs(60);

/// What became of a fault.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// As it was planned.
    pub fault: Fault,
    /// When it began, in seconds from the beginning of the load; none where it was not done.
    pub began_s: Option<f64>,
    /// Seconds from its beginning to its end.
    pub lasted_s: f64,
    /// Seconds from its end until every service was ready and an order placed after its end on each partition was COMPLETED; none
    /// where that did not happen in the time there is.
    pub recovered_s: Option<f64>,
    /// Why it was not done, or what there is to say of it.
    pub note: Option<String>,
}

impl Done {
    /// Whether it was done.
    pub fn happened(&self) -> bool {
        self.began_s.is_some()
    }
}

/// What everybody who does something in a lab knows.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) stage: &'a Stage,
    pub(super) orders: &'a Orders,
    /// When the load began.
    pub(super) start: Instant,
    /// How long a recovery is waited for.
    pub(super) patience: Duration,
    /// Whether the load is to end now.
    pub(super) stop: watch::Receiver<bool>,
    /// The faults that last now.
    pub(super) active: Mutex<Vec<String>>,
    /// Processes that are ended and started by a fault.
    pub(super) in_hand: Mutex<Vec<Role>>,
    /// The garbage that was published.
    pub(super) garbage: Mutex<Vec<Place>>,
}

/// What is behind a lock, also where somebody who had it has panicked.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits so long, or until the load is to end.
pub(super) async fn pause(stop: &watch::Receiver<bool>, time: Duration) {
    let mut stop = stop.clone();
    let stopped = async {
        // Where nobody is left who could end it, it goes on to its own end.
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! { () = tokio::time::sleep(time) => {}, () = stopped => {} }
}

/// What doing a fault came to.
enum Happened {
    /// It was done; with what there is to say of it.
    Done(Option<String>),
    /// It cannot be done on this machine, and why.
    NotHere(String),
}

impl Scene<'_> {
    /// Does a fault when it is due, ends it, and waits until the platform has recovered.
    ///
    /// # Errors
    /// When it cannot be done, or not be undone.
    pub(super) async fn carry_out(&self, number: u64, fault: Fault) -> Result<Done> {
        let mut done = Done { fault, began_s: None, lasted_s: 0.0, recovered_s: None, note: None };
        pause(&self.stop, fault.at.saturating_sub(self.start.elapsed())).await;
        if *self.stop.borrow() {
            done.note = Some("the load was ended before".to_owned());
            return Ok(done);
        }
        let what = fault.what();
        let restarted = fault.target.filter(|_| matches!(fault.kind, Kind::Kill | Kind::Restart));
        let began = Instant::now();
        locked(&self.active).push(what.clone());
        locked(&self.in_hand).extend(restarted);
        let happened = self.happen(number, fault).await;
        let ended = Instant::now();
        locked(&self.active).retain(|other| *other != what);
        match happened.with_context(|| format!("{fault} cannot be done"))? {
            Happened::NotHere(why) => {
                done.note = Some(why);
                return Ok(done);
            }
            Happened::Done(note) => done.note = note,
        }
        (done.began_s, done.lasted_s) =
            (Some((began - self.start).as_secs_f64()), (ended - began).as_secs_f64());
        if let Some(role) = restarted {
            // Until it serves is part of the recovery.
            bring_back(&mut *self.stage.stack().await, role).await?;
            locked(&self.in_hand).retain(|other| *other != role);
        }
        done.recovered_s = self.recovered(ended).await.map(|taken| taken.as_secs_f64());
        Ok(done)
    }

    async fn happen(&self, number: u64, fault: Fault) -> Result<Happened> {
        let stage = self.stage;
        let target = || fault.target.context("it has no target");
        match fault.kind {
            Kind::Kill => {
                stage.stack().await.kill(target()?, 1).await?;
                pause(&self.stop, fault.lasts).await;
            }
            Kind::Restart => {
                let in_time = stage.stack().await.stop(target()?, 1).await?;
                pause(&self.stop, fault.lasts).await;
                if !in_time {
                    return Ok(Happened::Done(Some(
                        "it did not end in time when asked, and was killed".to_owned(),
                    )));
                }
            }
            Kind::Freeze => {
                let frozen = Frozen::new(stage.processes(target()?).await?)?;
                pause(&self.stop, fault.lasts).await;
                drop(frozen);
            }
            Kind::NetworkCut | Kind::NetworkRefuse => {
                let proxy = stage.proxy(target()?)?;
                proxy.set(if fault.kind == Kind::NetworkCut { Mode::Swallow } else { Mode::Refuse });
                pause(&self.stop, fault.lasts).await;
                proxy.set(Mode::Pass);
            }
            Kind::ProviderDown | Kind::ProviderSlow => {
                let down = fault.kind == Kind::ProviderDown;
                let behaviour = if down { Behaviour::Down } else { Behaviour::Slow(PROVIDER_DELAY) };
                eventually(|| provider::behave(stage, behaviour)).await?;
                pause(&self.stop, fault.lasts).await;
                eventually(|| provider::behave(stage, Behaviour::Usual)).await?;
            }
            Kind::SlowDisk => {
                match SlowDisk::new(stage.postgres_data.clone(), DISK_DELAY) {
                    Ok(disk) => {
                        pause(&self.stop, fault.lasts).await;
                        let held = disk.held();
                        // It waits for threads.
                        tokio::task::spawn_blocking(move || drop(disk)).await?;
                        let note = format!("{held} calls took {} ms longer", DISK_DELAY.as_millis());
                        return Ok(Happened::Done(Some(note)));
                    }
                    Err(error) => return Ok(Happened::NotHere(format!("{error:#}"))),
                }
            }
            Kind::RedisWipe => eventually(|| wipe(stage)).await?,
            Kind::Garbage => {
                let brokers = stage.url(KAFKA_BROKERS)?;
                let order = self.orders.latest();
                let places = eventually(|| garbage::publish(brokers, number, order)).await?;
                locked(&self.garbage).extend(places);
            }
        }
        Ok(Happened::Done(None))
    }

    /// How long after `ended` every service was ready and an order placed after it on each partition was COMPLETED.
    async fn recovered(&self, ended: Instant) -> Option<Duration> {
        let left = || self.patience.saturating_sub(ended.elapsed());
        let placed = tokio::time::timeout(left(), self.stage.gateway.place_on_each(PARTITIONS, left())).await;
        let Ok(Ok(placed)) = placed else { return None };
        for order in &placed {
            self.orders.probe(*order);
        }
        let mut open = placed;
        while let Some(order) = open.last() {
            // One that is not answered is asked again.
            let shown = tokio::time::timeout(Duration::from_secs(2), self.stage.gateway.order(*order)).await;
            match shown {
                Ok(Ok(shown)) if TERMINAL.contains(&shown.status.as_str()) => drop(open.pop()),
                _ => tokio::time::sleep(Duration::from_millis(25)).await,
            }
            if left().is_zero() {
                return None;
            }
        }
        for (_, url) in &self.stage.admin {
            while readyz(url).await.is_err() {
                if left().is_zero() {
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
        Some(ended.elapsed())
    }
}

async fn wipe(stage: &Stage) -> Result<()> {
    let client = redis::Client::open(stage.url(REDIS_URL)?)?;
    let wiped = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await
    };
    Ok(tokio::time::timeout(Duration::from_secs(5), wiped).await.context("Redis does not answer")??)
}

/// Tries what has to be done, also while a server is away.
async fn eventually<T>(mut work: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match work().await {
            Ok(done) => return Ok(done),
            Err(error) => {
                ensure!(start.elapsed() < UNDONE, "not after {UNDONE:?}: {error:#}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
