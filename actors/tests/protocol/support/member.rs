//! A member of a toy group in a process of its own, which may be killed, frozen and thawed.
//!
//! The process is this test binary again, told to run the one test [`process`], which does nothing unless it was started
//! like this. It ends in order when its standard input closes: also when the test that started it dies.

use std::{
    io::Read,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actors::{Emit, Headers, KafkaSettings, OutboxWriter, Publisher};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
};

use super::{LIMIT, Switches, World, env, pool, settings, start, until};

/// How a member differs from a plain one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manners {
    /// `NAME`, `NAME:HIT` or `NAME:HIT:ACTION`.
    pub(crate) failpoint: Option<String>,
    /// Permanent failures pass.
    pub(crate) forgiving: bool,
    /// It also writes rows that belong to no partition, as an HTTP instance does.
    pub(crate) writes: bool,
    /// A `deadly` event ends the process.
    pub(crate) deadly: bool,
    /// Restarts of an actor without progress.
    pub(crate) budget: Option<u32>,
    /// Milliseconds an external call takes.
    pub(crate) latency: u64,
    /// Records of a batch; 10 if not given.
    pub(crate) batch: Option<usize>,
    /// Its wall clock is wrong by so many seconds.
    pub(crate) skew: i64,
    /// Time between two attempts.
    pub(crate) retry: Option<Duration>,
}

impl Manners {
    /// Dies, or freezes, at a failpoint.
    pub(crate) fn failing(failpoint: impl Into<String>) -> Self {
        Self { failpoint: Some(failpoint.into()), ..Self::default() }
    }
}

/// The running process.
pub(crate) struct Member {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Member {
    /// Starts one.
    pub(crate) fn spawn(world: &World, manners: &Manners) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command
            .args(["support::member::process", "--exact", "--nocapture", "--test-threads=1"])
            .env("TOY_TOPIC", &world.topic)
            .env("TOY_OUT", &world.out)
            .env("TOY_GROUP", &world.group)
            .env("TOY_DATABASE", &world.database)
            .env("TOY_FORGIVING", if manners.forgiving { "1" } else { "" })
            .env("TOY_WRITES", if manners.writes { "1" } else { "" })
            .env("TOY_DEADLY", if manners.deadly { "1" } else { "" })
            .env("TOY_BUDGET", manners.budget.unwrap_or(10).to_string())
            .env("TOY_LATENCY", manners.latency.to_string())
            .env("TOY_BATCH", manners.batch.unwrap_or(10).to_string())
            .env("TOY_RETRY_MS", manners.retry.map_or(0, |retry| retry.as_millis()).to_string())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(failpoint) = &manners.failpoint {
            command.env("FAILPOINT", failpoint);
        }
        if manners.skew != 0 {
            command.env("LD_PRELOAD", super::skew::library()).env("SKEW_S", manners.skew.to_string());
        }
        let mut child = command.spawn().expect("a process");
        let stdin = child.stdin.take();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (heard, stderr) = (said.clone(), child.stderr.take().expect("piped"));
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                heard.lock().expect("not poisoned").push(line);
            }
        });
        Self { child, stdin, said }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
        let pid = rustix::process::Pid::from_raw(pid).expect("not 0");
        rustix::process::kill_process(pid, signal).expect("signalled");
    }

    /// The most memory it has had, in bytes.
    pub(crate) fn peak_memory(&self) -> usize {
        let status = format!("/proc/{}/status", self.child.id().expect("it runs"));
        let status = std::fs::read_to_string(status).expect("Linux");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        peak.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }

    /// Whether a line it said contains `words`.
    pub(crate) fn has_said(&self, words: &str) -> bool {
        self.said.lock().expect("not poisoned").iter().any(|line| line.contains(words))
    }

    /// Its last lines.
    pub(crate) fn last_words(&self) -> String {
        let said = self.said.lock().expect("not poisoned");
        said[said.len().saturating_sub(30)..].join("\n")
    }

    /// Waits until it says so.
    pub(crate) async fn until_said(&self, words: &str) {
        self.until_said_one_of(&[words]).await;
    }

    /// Waits until it has claimed a partition of the toy topic.
    pub(crate) async fn until_claimed(&self, world: &World) {
        let partition = format!("partition{{topic=\"{}\"", world.topic);
        let claimed = || async {
            let said = self.said.lock().expect("not poisoned");
            said.iter().any(|line| line.contains(&partition) && line.contains("partition claimed"))
        };
        until("a member has claimed a partition", claimed).await;
    }

    /// Waits until it says one of these.
    pub(crate) async fn until_said_one_of(&self, choices: &[&str]) {
        let heard = || async { choices.iter().any(|words| self.has_said(words)) };
        until(&format!("a member says one of {choices:?}"), heard).await;
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        match tokio::time::timeout(LIMIT, self.child.wait()).await {
            Ok(status) => status.expect("waited"),
            Err(_) => panic!("the member does not end; its last words:\n{}", self.last_words()),
        }
    }

    /// Waits until it has aborted, as a failpoint does.
    pub(crate) async fn aborted(&mut self) {
        let status = self.ended().await;
        assert_eq!(status.signal(), Some(6), "{status}; its last words:\n{}", self.last_words());
    }

    /// As `kill -9` does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// Asks it to drain and waits for its end.
    pub(crate) async fn stop(mut self) {
        drop(self.stdin.take());
        let status = self.ended().await;
        assert!(status.success(), "{status}; its last words:\n{}", self.last_words());
    }
}

/// What a member's process runs; nothing in the test run itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process() {
    let Ok(topic) = std::env::var("TOY_TOPIC") else { return };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let kafka = KafkaSettings { brokers: env("KAFKA_BROKERS"), properties: Vec::new() };
    let mut settings = settings(&env("TOY_GROUP"), &topic, kafka.clone());
    settings.session_timeout = Duration::from_secs(1);
    settings.drain = Duration::from_millis(600);
    settings.batch_max_records = env("TOY_BATCH").parse().expect("a number");
    let retry = Duration::from_millis(env("TOY_RETRY_MS").parse().expect("a number"));
    if !retry.is_zero() {
        (settings.retry.initial, settings.retry.max) = (retry, retry);
    }
    settings.restart.budget = env("TOY_BUDGET").parse().expect("a number");
    let switches = Arc::new(Switches::default());
    switches.forgiving.store(!env("TOY_FORGIVING").is_empty(), Ordering::Relaxed);
    switches.latency_ms.store(env("TOY_LATENCY").parse().expect("a number"), Ordering::Relaxed);
    switches.deadly.store(!env("TOY_DEADLY").is_empty(), Ordering::Relaxed);
    let (pool, out) = (pool(&env("TOY_DATABASE")), env("TOY_OUT"));
    let group = start(settings.clone(), pool.clone(), switches, &out).await;
    let stopping = Arc::new(AtomicBool::new(false));
    let writing = (!env("TOY_WRITES").is_empty()).then(|| {
        let publisher = Publisher::start(&kafka).expect("publisher");
        tokio::spawn(write(pool, publisher, format!("{}-http", settings.group), out, stopping.clone()))
    });
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        closed = closed => { closed.expect("no panic").expect("readable"); }
        what = group.ended() => {
            eprintln!("{what}");
            // The other thread waits for the standard input.
            std::process::exit(1);
        }
    }
    stopping.store(true, Ordering::Relaxed);
    if let Some(writing) = writing {
        writing.await.expect("no panic");
    }
    group.shutdown(Duration::from_secs(5)).await;
}

/// Writes numbers, one a transaction, as an HTTP instance takes orders in.
async fn write(
    pool: deadpool_postgres::Pool,
    publisher: Publisher,
    prefix: String,
    out: String,
    stopping: Arc<AtomicBool>,
) {
    let mut writer = OutboxWriter::open(pool.clone(), publisher, &prefix).await.expect("opens");
    while !stopping.load(Ordering::Relaxed) {
        let mut client = pool.get().await.expect("connection");
        let tx = client.transaction().await.expect("transaction");
        let next = "INSERT INTO written SELECT coalesce(max(n), 0) + 1 FROM written RETURNING n";
        let n: i64 = tx.query_one(next, &[]).await.expect("written").get(0);
        let said = serde_json::json!({"id": uuid::Uuid::now_v7(), "key": "written", "n": n});
        let emit = Emit {
            topic: out.clone(),
            key: Some(b"written".to_vec()),
            value: Some(said.to_string().into_bytes()),
            headers: Headers::new(),
        };
        let written = writer.write(&tx, vec![emit]).await.expect("a row");
        tx.commit().await.expect("committed");
        writer.publish(written);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(writer.close(Duration::from_secs(4)).await, "Kafka takes all of it");
}
