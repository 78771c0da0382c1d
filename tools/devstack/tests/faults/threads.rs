//! One thread of a process stands still, and all others go on: the status says so, and nothing is lost by it.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use contracts::topics::PARTITIONS;
use devstack::{
    clients::admin::Condition,
    testing::{self, Trial},
    topology::Role,
};
use nix::{
    errno::Errno,
    sys::{
        ptrace,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use procfs::process::Process;
use rand::seq::SliceRandom;
use uuid::Uuid;

use crate::load;

/// In this time a status shows what is, and shows no more what is over.
const SHOWN: Duration = Duration::from_secs(15);
/// A thread of the Kafka client is stopped for so long before orders come.
const STANDS: Duration = Duration::from_secs(8);
/// Of its two dozen threads a plain run stops so many.
const SAMPLE: usize = 2;
/// A producer that says nothing is replaced after 20 s.
const REPLACED: Duration = Duration::from_secs(30);

/// A thread that stands still for as long as this is there.
struct Stopped {
    release: Option<mpsc::Sender<()>>,
    tracer: Option<thread::JoinHandle<()>>,
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(tracer) = self.tracer.take() {
            // A tracer that panicked has let go as well.
            tracer.join().unwrap_or_default();
        }
    }
}

/// Stops a thread; `None` where the system allows nobody to.
fn stop(thread: Pid) -> Result<Option<Stopped>> {
    let (stopped, has_stopped) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    // Whoever attaches is the one who has to detach.
    let tracer = thread::spawn(move || {
        let attached = ptrace::seize(thread, ptrace::Options::empty())
            .and_then(|()| ptrace::interrupt(thread))
            .and_then(|()| waitpid(thread, Some(WaitPidFlag::__WALL)).map(|_| ()));
        let is_attached = attached.is_ok();
        stopped.send(attached).unwrap_or_default();
        if is_attached {
            // Ends when the sender is dropped.
            released.recv().unwrap_or_default();
            ptrace::detach(thread, None).expect("a thread that was stopped goes on");
        }
    });
    match has_stopped.recv().context("the tracer has ended")? {
        Ok(()) => Ok(Some(Stopped { release: Some(release), tracer: Some(tracer) })),
        Err(Errno::EPERM) => {
            println!("skipped: this system does not allow ptrace");
            Ok(None)
        }
        Err(Errno::ESRCH) => {
            println!("skipped: the thread has ended meanwhile");
            Ok(None)
        }
        Err(error) => Err(anyhow!(error).context("the thread cannot be stopped")),
    }
}

/// The threads of process `pid` whose names begin so, the oldest first.
fn threads(pid: u32, name: &str) -> Result<Vec<Pid>> {
    // One that has just ended is not the one that is looked for.
    let stats = Process::new(i32::try_from(pid)?)?.tasks()?.filter_map(|task| task.ok()?.stat().ok());
    let mut found: Vec<i32> = stats.filter(|stat| stat.comm.starts_with(name)).map(|stat| stat.pid).collect();
    found.sort_unstable();
    ensure!(!found.is_empty(), "process {pid} has no thread {name}");
    Ok(found.into_iter().map(Pid::from_raw).collect())
}

/// How many of them have not ended.
async fn open(trial: &Trial, placed: &[Uuid]) -> Result<usize> {
    let mut open = 0;
    for order in placed {
        open += usize::from(!trial.gateway.order(*order).await?.is_terminal());
    }
    Ok(open)
}

/// Waits until all have ended; false if they have not by then.
async fn all_end(trial: &Trial, placed: &[Uuid], limit: Duration) -> Result<bool> {
    let start = Instant::now();
    while open(trial, placed).await? > 0 {
        if start.elapsed() > limit {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(true)
}

/// A thread of the client stands still: whatever it is for, orders end, or the service says what does not work.
async fn harms_nobody_unseen(trial: &Trial, thread: Pid) -> Result<()> {
    trial.until_degraded(Role::Payments, "at rest", testing::SOON, <[Condition]>::is_empty).await?;
    let stat = Process::new(thread.as_raw()).and_then(|thread| thread.stat());
    let name = stat.map_or_else(|_| "a thread that has ended".to_owned(), |stat| stat.comm);
    let Some(stopped) = stop(thread)? else { return Ok(()) };
    // Long enough for a session to end by it.
    tokio::time::sleep(STANDS).await;
    let start = Instant::now();
    let placed = trial.gateway.place_on_each(PARTITIONS, testing::SOON).await?;
    let ended = all_end(trial, &placed, SHOWN).await?;
    let said = trial.readyz(Role::Payments).await?.degraded;
    println!(
        "{name} ({thread}) stands still: {} of {} orders open, {said:?}, {:.1} s",
        open(trial, &placed).await?,
        placed.len(),
        start.elapsed().as_secs_f64()
    );
    ensure!(ended || !said.is_empty(), "orders do not end, and nobody says why");
    drop(stopped);
    ensure!(all_end(trial, &placed, SHOWN).await?, "orders do not end once the thread goes on");
    trial.until_degraded(Role::Payments, "over", SHOWN, <[Condition]>::is_empty).await
}

async fn an_order_ends(trial: &Trial) -> Result<()> {
    let order = trial.gateway.place_eventually("tok_ok", 500, testing::SOON).await?;
    let start = Instant::now();
    loop {
        let status = trial.gateway.order(order).await?.status;
        if status == "COMPLETED" {
            println!("an order ends after {:.1} s", start.elapsed().as_secs_f64());
            return Ok(());
        }
        ensure!(start.elapsed() < testing::SOON, "the order is {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Stops a thread of payments, once nothing of it is degraded.
async fn stop_of_payments(trial: &Trial, name: &str) -> Result<Option<Stopped>> {
    trial.until_degraded(Role::Payments, "at rest", testing::SOON, <[Condition]>::is_empty).await?;
    stop(threads(trial.stack.process(Role::Payments, 1)?.pid, name)?[0])
}

#[test]
fn a_poll_thread_that_stands_still_is_named_and_goes_on() -> Result<()> {
    testing::run(load::SETTINGS, async |trial| {
        // As the system cuts it off.
        let Some(stopped) = stop_of_payments(trial, "poll-payments-s").await? else { return Ok(()) };
        let named = |said: &[Condition]| said.iter().any(|one| one.code == "poll-thread-stalled");
        trial.until_degraded(Role::Payments, "named", SHOWN, named).await?;
        drop(stopped);
        trial.until_degraded(Role::Payments, "over", SHOWN, <[Condition]>::is_empty).await?;
        an_order_ends(trial).await
    })
}

#[test]
fn a_producer_whose_thread_stands_still_is_named_and_replaced() -> Result<()> {
    testing::run(load::SETTINGS, async |trial| {
        let Some(stopped) = stop_of_payments(trial, "producer pollin").await? else { return Ok(()) };
        let named = |said: &[Condition]| said.iter().any(|one| one.code == "producer-silent");
        trial.until_degraded(Role::Payments, "named", SHOWN, named).await?;
        trial.until_degraded(Role::Payments, "replaced", REPLACED, <[Condition]>::is_empty).await?;
        // By the new one: the other still stands.
        an_order_ends(trial).await?;
        drop(stopped);
        an_order_ends(trial).await
    })
}

#[test]
fn a_thread_of_the_kafka_client_that_stands_still_harms_nobody_unseen() -> Result<()> {
    testing::run(load::SETTINGS, async |trial| {
        let mut drawn = threads(trial.stack.process(Role::Payments, 1)?.pid, "rdk:")?;
        drawn.shuffle(&mut rand::rng());
        if !load::all() {
            drawn.truncate(SAMPLE);
        }
        for thread in drawn {
            // Of a client that stood still too long, and was replaced, the other threads are gone too.
            harms_nobody_unseen(trial, thread).await?;
        }
        Ok(())
    })
}
