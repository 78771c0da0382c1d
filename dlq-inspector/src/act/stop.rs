//! Ctrl-C and SIGTERM: the transaction in hand is finished, then the work stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{exit::Exit, output::complain};

/// Whether somebody asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens for signals from now on. The first asks to stop, the second ends the process.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn on_signals() -> anyhow::Result<Self> {
        let stop = Self::default();
        let asked = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                runtime.block_on(async {
                    loop {
                        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                        if asked.0.swap(true, Ordering::Relaxed) {
                            std::process::exit(i32::from(Exit::Interrupted.code()));
                        }
                        complain("stopping after the transaction in hand; once more to stop now");
                    }
                });
            })
            .context("starting the thread that waits for signals")?;
        Ok(stop)
    }

    /// Whether somebody did.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until `at`, or until somebody asks to stop.
    pub fn sleep_until(&self, at: Instant) {
        while !self.asked() {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}
