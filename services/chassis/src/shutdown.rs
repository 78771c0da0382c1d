//! When to stop.

use std::{future::Future, pin::Pin};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// From the first signal, a process has this long to end.
pub const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// A future that ends when it is time to stop.
pub type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Ends at the first SIGTERM or SIGINT. A second one ends the process at once, with the code of an unfinished drain.
/// Installs its handlers when called, not when first polled.
pub fn on_signal() -> std::io::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(Box::pin(async move {
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "shutting down; a second signal ends the process at once");
        tokio::spawn(async move {
            let name = either(&mut terminate, &mut interrupt).await;
            tracing::warn!(signal = name, "second signal: exiting without finishing the drain");
            crate::telemetry::flush(std::time::Duration::from_millis(100));
            std::process::exit(i32::from(crate::exit::EXIT_DRAIN));
        });
    }))
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Tells any number of listeners to stop. Dropping it tells them too.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// One listener's end of a [`Trigger`].
#[derive(Clone, Debug)]
pub struct Listener(watch::Receiver<bool>);

/// A trigger and a first listener.
pub fn trigger() -> (Trigger, Listener) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Listener(receiver))
}

impl Trigger {
    /// Stop.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl Listener {
    /// Ends when the trigger was fired or dropped.
    pub async fn fired(mut self) {
        // An error means that the trigger is gone, which is as good.
        let _gone = self.0.wait_for(|fired| *fired).await;
    }

    /// Runs `future` unless the trigger fires first.
    pub async fn unless_fired<T>(self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.fired() => None,
            value = future => Some(value),
        }
    }

    /// Whether it was fired already.
    pub fn is_fired(&self) -> bool {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests;
