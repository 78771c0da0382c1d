//! One thread of a process stands still, and all others go on: the status says so, and nothing is lost by it.

use std::{
    fs,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use devstack::{names::Role, trial, trial::Trial};
use nix::{
    errno::Errno,
    sys::{
        ptrace,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use crate::load;

/// In this time a status shows what is, and shows no more what is over.
const SHOWN: Duration = Duration::from_secs(15);
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

/// Stops the first thread of process `pid` that is called `name`; `None` where the system allows nobody to.
fn stop(pid: u32, name: &str) -> Result<Option<Stopped>> {
    let thread = thread_of(pid, name)?;
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
        Err(error) => Err(anyhow!(error).context("the thread cannot be stopped")),
    }
}

fn thread_of(pid: u32, name: &str) -> Result<Pid> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        // One that has just ended is not the one that is looked for.
        let called = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if called.trim_end() == name {
            let id = path.file_name().and_then(|id| id.to_str()).context("a thread without an id")?;
            found.push(id.parse()?);
        }
    }
    let first = found.into_iter().min().with_context(|| format!("process {pid} has no thread {name}"))?;
    Ok(Pid::from_raw(first))
}

/// The codes of what does not work as it should, as a service says.
async fn degraded(trial: &Trial, role: Role) -> Result<Vec<String>> {
    let url = format!("{}/readyz", trial.stack.admin_url(role, 1)?);
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let report: serde_json::Value = http.get(url).send().await?.json().await?;
    let conditions = report["degraded"].as_array().context("/readyz is not what it should be")?;
    Ok(conditions.iter().filter_map(|one| Some(one["code"].as_str()?.to_owned())).collect())
}

async fn until_degraded(
    trial: &Trial,
    role: Role,
    what: &str,
    limit: Duration,
    enough: impl Fn(&[String]) -> bool,
) -> Result<()> {
    let start = Instant::now();
    loop {
        let codes = degraded(trial, role).await?;
        if enough(&codes) {
            println!("{what} is so after {:.1} s", start.elapsed().as_secs_f64());
            return Ok(());
        }
        ensure!(start.elapsed() < limit, "{what} is not so after {limit:?}: {codes:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn process(trial: &Trial, role: Role) -> Result<u32> {
    let status = trial.stack.status().into_iter().find(|one| one.name == role && one.instance == 1);
    status.and_then(|one| one.pid).with_context(|| format!("{role} does not run"))
}

async fn an_order_ends(trial: &Trial) -> Result<()> {
    let order = trial.gateway.place_eventually("tok_ok", 500, trial::SOON).await?;
    let start = Instant::now();
    loop {
        let status = trial.gateway.order(order).await?.status;
        if status == "COMPLETED" {
            println!("an order ends after {:.1} s", start.elapsed().as_secs_f64());
            return Ok(());
        }
        ensure!(start.elapsed() < trial::SOON, "the order is {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Stops a thread of payments, once nothing of it is degraded.
async fn stop_of_payments(trial: &Trial, name: &str) -> Result<Option<Stopped>> {
    until_degraded(trial, Role::Payments, "rest", trial::SOON, <[String]>::is_empty).await?;
    stop(process(trial, Role::Payments)?, name)
}

#[test]
fn a_poll_thread_that_stands_still_is_named_and_goes_on() -> Result<()> {
    trial::run(load::SETTINGS, async |trial| {
        // As the system cuts it off.
        let Some(stopped) = stop_of_payments(trial, "poll-payments-s").await? else { return Ok(()) };
        let named = |codes: &[String]| codes.iter().any(|code| code == "poll-thread-stalled");
        until_degraded(trial, Role::Payments, "that it is named", SHOWN, named).await?;
        drop(stopped);
        until_degraded(trial, Role::Payments, "that it is over", SHOWN, <[String]>::is_empty).await?;
        an_order_ends(trial).await
    })
}

#[test]
fn a_producer_whose_thread_stands_still_is_named_and_replaced() -> Result<()> {
    trial::run(load::SETTINGS, async |trial| {
        let Some(stopped) = stop_of_payments(trial, "producer pollin").await? else { return Ok(()) };
        let named = |codes: &[String]| codes.iter().any(|code| code == "producer-silent");
        until_degraded(trial, Role::Payments, "that it is named", SHOWN, named).await?;
        until_degraded(trial, Role::Payments, "that it is replaced", REPLACED, <[String]>::is_empty).await?;
        // By the new one: the other still stands.
        an_order_ends(trial).await?;
        drop(stopped);
        an_order_ends(trial).await
    })
}
