//! PgBouncer between: it works, or the start says in words why it cannot.

use std::{
    env,
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use actors::connection::Limits;
use chassis::database::{Database, DatabaseError, TlsFiles};
use tempfile::TempDir;
use tokio_postgres::{Config, NoTls, config::Host};
use uuid::Uuid;

const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// Nobody's user that every Debian has: PgBouncer does not run as root.
const NOBODY: u32 = 65_534;

/// A pooler of its own before the server of the test run; ended with the test.
struct Pooler {
    child: Child,
    url: String,
    _directory: TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing more to do about it then.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// A new database behind a pooler that pools as `mode` says. `None`, and a line that says so, where there is no PgBouncer.
async fn pooler(mode: &str, more: &str) -> Option<Pooler> {
    if !Path::new(PROGRAM).exists() {
        eprintln!("skipped: there is no {PROGRAM} (apt-get install pgbouncer)");
        return None;
    }
    let server = env::var("TEST_POSTGRES_URL").expect("TEST_POSTGRES_URL is not set: run ./dev test");
    let config: Config = server.parse().expect("a URL");
    let (client, connection) = config.connect(NoTls).await.expect("connected");
    tokio::spawn(connection);
    let database = format!("pooled_{}", Uuid::new_v4().simple());
    client.batch_execute(&format!("create database {database}")).await.expect("created");
    let Host::Tcp(host) = &config.get_hosts()[0] else { panic!("a server with an address") };
    let (server_port, user) = (config.get_ports()[0], config.get_user().expect("a user"));
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let directory = tempfile::tempdir().expect("a directory");
    let ini = directory.path().join("pgbouncer.ini");
    fs::write(
        &ini,
        format!(
            "[databases]\n* = host={host} port={server_port} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n{more}\n"
        ),
    )
    .expect("written");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("readable");
    let mut command = if fs::metadata("/proc/self").is_ok_and(|own| is_root(&own)) {
        chown(&ini, Some(NOBODY), None).expect("given away");
        let mut command = Command::new("setpriv");
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        command.args([&user, &group, "--clear-groups", "--pdeathsig=KILL", PROGRAM]);
        command
    } else {
        Command::new(PROGRAM)
    };
    command.args(["-q", &ini.display().to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("started");
    let pooler = Pooler {
        child,
        url: format!("postgres://{user}@127.0.0.1:{port}/{database}"),
        _directory: directory,
    };
    let started = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(started.elapsed() < Duration::from_secs(10), "PgBouncer does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Some(pooler)
}

fn is_root(own: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(own) == 0
}

/// What a service's start does, in its order.
async fn start(pooler: &Pooler) -> Result<(), DatabaseError> {
    let database = Database::new(&pooler.url, "pooled", &TlsFiles::default())?;
    let pool = database.pool(4)?;
    database.reachable().await?;
    Database::check(&pool, &Limits::default()).await?;
    database.migrate(refinery::Runner::new(&[])).await
}

/// Starts two processes' worth, one after the other: a lock that stayed behind would hold the second one up.
async fn two_starts(pooler: &Pooler) -> Result<(), DatabaseError> {
    for _ in 0..2 {
        let started = tokio::time::timeout(Duration::from_secs(15), start(pooler));
        started.await.expect("within seconds, one way or the other")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_pooler_by_session_changes_nothing_and_keeps_no_lock() {
    for more in ["", "ignore_startup_parameters = options"] {
        let Some(pooler) = pooler("session", more).await else { return };
        two_starts(&pooler).await.expect("works");
    }
}

#[tokio::test]
async fn a_pooler_that_loses_prepared_statements_is_refused_in_words() {
    for more in ["", "ignore_startup_parameters = options"] {
        let Some(pooler) = pooler("transaction", more).await else { return };
        // One that keeps them, from PgBouncer 1.21 on where it is told so, would do.
        let refused = two_starts(&pooler).await.expect_err("prepared statements are lost");
        let DatabaseError::Unfit(words) = refused else { panic!("{refused:?}") };
        assert!(words.contains("prepared statements") && words.contains("pool by session"), "{words}");
    }
}

#[tokio::test]
async fn a_pooler_by_statement_is_refused_in_words() {
    let Some(pooler) = pooler("statement", "").await else { return };
    let refused = two_starts(&pooler).await.expect_err("no transactions");
    let DatabaseError::Unfit(words) = refused else { panic!("{refused:?}") };
    assert!(words.contains("pooler"), "{words}");
}
