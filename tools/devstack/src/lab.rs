//! `lab`: orders at a rate, faults that are named or drawn from a seed, a line a second, and a verdict.
//!
//! Whatever happens to Kafka, PostgreSQL, Redis, the provider and the services: no accepted order is lost, every order ends, nobody is
//! charged twice or unasked, every offset has an outcome, and order per key is kept. What is asked for that stands in [`verdict`].

mod disk;
mod facts;
pub mod fault;
mod garbage;
mod inject;
mod live;
mod load;
pub mod plan;
mod provider;
mod sequence;
pub mod stage;
pub mod verdict;

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tokio::sync::watch;

use self::{
    facts::Before,
    fault::{Fault, Kind, short},
    inject::Scene,
    load::Orders,
    stage::Stage,
    verdict::{Report, failed},
};
pub use self::{
    facts::{Facts, Letters},
    inject::{DISK_DELAY, Done, PROVIDER_DELAY},
};

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Orders a second.
    pub rate: f64,
    /// How long they come in.
    pub duration: Duration,
    /// Draws orders and, unless they are named, faults.
    pub seed: u64,
    /// The faults, if they are named.
    pub faults: Option<Vec<Fault>>,
    /// How long the platform may take after the load until every order has ended, and after each fault until it has recovered.
    pub settle: Duration,
}

impl Settings {
    /// The faults, as named or as drawn.
    pub fn plan(&self) -> Vec<Fault> {
        self.faults.clone().unwrap_or_else(|| plan::draw(self.seed, self.duration))
    }

    /// The command that does the same again.
    pub fn command(&self) -> String {
        let faults = self.faults.as_ref().map(|faults| match faults.as_slice() {
            [] => " --faults none".to_owned(),
            faults => {
                let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
                format!(" --faults {}", faults.join(","))
            }
        });
        format!(
            "./dev lab --seed {} --rate {} --for {} --settle {}{}",
            self.seed,
            self.rate,
            short(self.duration),
            short(self.settle),
            faults.unwrap_or_default()
        )
    }
}

/// Does it on `stage`, and says what is going on. When `stop` becomes true the load ends, and what was done so far is judged.
///
/// # Errors
/// When the lab itself cannot go on. What does not hold is no error.
pub async fn run(
    stage: &Stage,
    settings: &Settings,
    stop: watch::Receiver<bool>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Report> {
    let before = Before::read(&stage.snapshot().await).await?;
    let orders = Orders::default();
    let scene = Scene {
        stage,
        orders: &orders,
        start: Instant::now(),
        patience: settings.settle,
        stop: stop.clone(),
        active: Mutex::default(),
        in_hand: Mutex::default(),
        garbage: Mutex::default(),
    };
    let mut died = Vec::new();
    let work = async {
        let faults = settings.plan().into_iter().zip(0..);
        let faults = faults.map(|(fault, number)| scene.carry_out(settings.seed.wrapping_add(number), fault));
        let pace = (settings.rate, settings.duration, settings.settle);
        let load = load::run(&stage.gateway, &orders, settings.seed, pace, stop.clone());
        let ((), done) = tokio::try_join!(load, try_join_all(faults))?;
        let over = Instant::now();
        say("the load is over: waiting until every order has ended and nothing moves");
        let settled = facts::settled(&scene, &before, settings.settle).await;
        anyhow::Ok((done, settled.then(|| over.elapsed())))
    };
    let (done, settled) = tokio::select! {
        worked = work => worked?,
        () = live::live(&scene, before.since, &mut died, say) => anyhow::bail!("nobody says what is going on"),
    };
    let not_here = done.iter().find(|done| !done.happened() && done.fault.kind == Kind::SlowDisk);
    if let Some((fault, why)) = not_here.and_then(|done| Some((done.fault, done.note.as_ref()?))) {
        // One that was drawn may be left out, and the card says so.
        ensure!(settings.faults.is_none() || *stop.borrow(), "{fault} cannot be done here: {why}");
    }
    let facts = facts::collect(&scene, &before, done, died).await.context("no verdict is possible")?;
    let failed = failed(&facts, settled.is_some());
    Ok(Report {
        verdict: if failed.is_empty() { "PASS" } else { "FAIL" },
        failed,
        repeat: settings.command(),
        seed: settings.seed,
        rate: settings.rate,
        for_s: settings.duration.as_secs_f64(),
        settled_s: settled.map(|taken| taken.as_secs_f64()),
        interrupted: *stop.borrow(),
        facts,
    })
}
