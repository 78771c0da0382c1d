//! What a process knows of its own health.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::Arc,
    time::Duration,
};

use actors::{Condition, metrics::Sample};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use parking_lot::RwLock;
use serde::Serialize;
use tokio::{sync::Mutex, task::AbortHandle};

use super::{lanes::Lanes, scrape};
use crate::http::Doors;

/// A check that takes longer has failed.
const CHECK_LIMIT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 2_000 });
/// How often it is looked whether something has ended that never should.
const LOOK: Duration = Duration::from_millis(500);

/// What a failed check means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it the process cannot serve: `/readyz` answers 503.
    Required,
    /// Without it the process serves worse: `/readyz` lists it as degraded.
    Optional,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Draining,
}

type CheckFn = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What a process knows of its own health. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<RwLock<Inner>>);

struct Inner {
    service: &'static str,
    phase: Phase,
    checks: Vec<(&'static str, Need, CheckFn)>,
    /// Checks that failed when they were last made, and since when.
    failing: HashMap<&'static str, DateTime<Utc>>,
    lanes: Option<Arc<dyn Lanes>>,
    /// Held while a partition is being reset: one at a time.
    resetting: Arc<Mutex<()>>,
    /// What else runs for as long as the process serves.
    tasks: Vec<(&'static str, AbortHandle)>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.0.read();
        f.debug_struct("Health").field("service", &inner.service).field("phase", &inner.phase).finish()
    }
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    service: &'static str,
    status: &'static str,
    checks: BTreeMap<&'static str, String>,
    degraded: Vec<Condition>,
}

impl Health {
    /// Of a process that is starting.
    pub fn new(service: &'static str) -> Self {
        let inner = Inner {
            service,
            phase: Phase::Starting,
            checks: Vec::new(),
            failing: HashMap::new(),
            lanes: None,
            resetting: Arc::default(),
            tasks: Vec::new(),
        };
        Self(Arc::new(RwLock::new(inner)))
    }

    /// Adds a check, made on each `/readyz`, within 2 s.
    pub fn check<F, Fut>(&self, name: &'static str, need: Need, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.0.write().checks.push((name, need, Arc::new(move || check().boxed())));
    }

    /// Shows it when no more connections are accepted at `doors`.
    pub fn watch_doors(&self, doors: Doors) {
        self.check("connections", Need::Optional, move || std::future::ready(doors.are_open()));
    }

    /// Shows a consumer group.
    pub fn show(&self, lanes: impl Lanes) {
        self.0.write().lanes = Some(Arc::new(lanes));
    }

    /// Watches a task that is not to end while the process serves.
    pub fn task(&self, name: &'static str, task: AbortHandle) {
        self.0.write().tasks.push((name, task));
    }

    /// What has ended, or panicked, that should run while the process serves.
    pub fn dead(&self) -> Option<String> {
        let inner = self.0.read();
        if inner.phase == Phase::Draining {
            return None;
        }
        let task = inner.tasks.iter().find(|(_, task)| task.is_finished());
        let task = task.map(|(name, _)| format!("{name} has ended"));
        task.or_else(|| inner.lanes.as_ref()?.dead())
    }

    /// Ends when something of that has, with its name.
    pub async fn ended(&self) -> String {
        loop {
            if let Some(what) = self.dead() {
                return what;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The start is over.
    pub fn serving(&self) {
        self.0.write().phase = Phase::Serving;
    }

    /// From now on no new work should come here.
    pub fn draining(&self) {
        self.0.write().phase = Phase::Draining;
    }

    /// Since when the check called `name` has failed; now, if it has not.
    fn failing_since(&self, name: &'static str, failing: bool) -> DateTime<Utc> {
        let now = Utc::now();
        let since = &mut self.0.write().failing;
        if failing {
            return *since.entry(name).or_insert(now);
        }
        since.remove(name);
        now
    }

    pub(super) fn resetting(&self) -> Arc<Mutex<()>> {
        self.0.read().resetting.clone()
    }

    pub(super) fn lanes(&self) -> Option<Arc<dyn Lanes>> {
        self.0.read().lanes.clone()
    }

    /// What there is to be measured now.
    pub(super) async fn samples(&self) -> Vec<Sample> {
        let (service, checks, lanes) = {
            let inner = self.0.read();
            (inner.service, inner.checks.clone(), inner.lanes.clone())
        };
        let mut samples = scrape::process(service);
        for (check, _, result) in check_all(checks).await {
            samples.push(scrape::checked(service, check, result.is_err()));
        }
        samples.extend(lanes.map(|lanes| lanes.samples()).unwrap_or_default());
        samples
    }

    /// Whether it can serve, for `/readyz`.
    pub(super) async fn report(&self) -> (StatusCode, Report) {
        let (service, phase, checks) = {
            let inner = self.0.read();
            (inner.service, inner.phase, inner.checks.clone())
        };
        let mut report = Report { service, status: "ready", checks: BTreeMap::new(), degraded: Vec::new() };
        let mut ready = phase == Phase::Serving;
        for (name, need, result) in check_all(checks).await {
            let since = self.failing_since(name, result.is_err());
            if let Err(error) = &result {
                match need {
                    Need::Required => ready = false,
                    Need::Optional => report.degraded.push(Condition {
                        topic: None,
                        partition: None,
                        state: "degraded",
                        code: name.into(),
                        message: format!("{name}: {error}"),
                        since,
                    }),
                }
            }
            report.checks.insert(name, result.err().unwrap_or_else(|| "ok".to_owned()));
        }
        if let Some(lanes) = self.lanes() {
            let reason = lanes.not_ready();
            ready &= reason.is_none();
            report.checks.insert("group", reason.unwrap_or_else(|| "ok".to_owned()));
            report.degraded.extend(lanes.degraded());
        }
        report.status = match (phase, ready) {
            (Phase::Starting, _) => "starting",
            (Phase::Draining, _) => "draining",
            (Phase::Serving, false) => "unready",
            (Phase::Serving, true) => "ready",
        };
        (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report)
    }
}

/// Makes all checks, side by side.
async fn check_all(
    checks: Vec<(&'static str, Need, CheckFn)>,
) -> Vec<(&'static str, Need, Result<(), String>)> {
    let check = |(name, need, check): (_, _, CheckFn)| async move {
        let result = tokio::time::timeout(CHECK_LIMIT, check()).await;
        let late = || Err(format!("no answer within {} ms", CHECK_LIMIT.as_millis()));
        (name, need, result.unwrap_or_else(|_| late()))
    };
    join_all(checks.into_iter().map(check)).await
}
