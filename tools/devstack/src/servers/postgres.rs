//! PostgreSQL: one server, a database per service.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, getuid};
use tokio_postgres::NoTls;

use super::{Home, certificate::Files, run, until_ready};
use crate::{
    os::{
        launch::{Launch, Lifetime, RunAs, start},
        paths,
        process::{ProcessId, working_in},
    },
    topology::DATABASES,
};

/// The user PostgreSQL runs as when we are root: it refuses to be root itself.
const USER: &str = "postgres";
/// Starting, with crash recovery.
const READY: Duration = Duration::from_secs(60);

/// The superuser's URL of `database` on the server at `port`. It listens on the loopback address alone.
pub fn url(port: u16, database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/{database}")
}

/// The certificate by which a client knows the server, once it was started.
pub fn root_certificate(home: &Home) -> PathBuf {
    Files::at(&home.directory).certificate
}

/// Starts the server on `port`, making its cluster the first time. Clients may use TLS or not. fsync stays on: durability is what is tested.
pub async fn launch(home: &Home, port: u16, lifetime: Lifetime) -> Result<ProcessId> {
    fs::create_dir_all(&home.directory)
        .with_context(|| format!("{} cannot be made", home.directory.display()))?;
    let user = run_as(&home.directory).await?;
    let data = home.data();
    let data_text = data.display().to_string();
    let initdb = paths::program("initdb")?.display().to_string();
    home.prepared(|_| async {
        let words = [
            &initdb,
            "-D",
            &data_text,
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ];
        run(&as_user(user, &words)).await.context("PostgreSQL's directory cannot be made")
    })
    .await?;
    clear_after_a_kill(&data).await?;
    let tls = Files::at(&home.directory);
    tls.make("postgres")?;
    let (certificate, key) = (tls.certificate.display().to_string(), tls.key.display().to_string());
    if let Some(user) = user {
        run(&["chown", user.name, &certificate, &key].map(String::from)).await?;
    }

    let mut command = vec![paths::program("postgres")?.display().to_string(), "-D".into(), data_text];
    let settings = [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".into(),
        "unix_socket_directories=".into(),
        "max_connections=300".into(),
        "max_wal_size=2GB".into(),
        "log_checkpoints=off".into(),
        "ssl=on".into(),
        format!("ssl_cert_file={certificate}"),
        format!("ssl_key_file={key}"),
    ];
    command.extend(settings.into_iter().flat_map(|setting| ["-c".into(), setting]));
    let launch = Launch {
        command,
        variables: Vec::new(),
        hermetic: true,
        directory: data,
        log: home.log.clone(),
        // An immediate shutdown: as sudden as a kill for its clients, but its shared memory is given back.
        death: "QUIT",
        user,
    };
    start(&launch, lifetime)
}

/// Waits until the server answers queries, then makes the databases that are missing.
pub async fn ready(home: &Home, port: u16, process: Option<ProcessId>) -> Result<()> {
    let url = url(port, "postgres");
    let client = until_ready("postgres", process, &home.log, READY, || async { connect(&url).await }).await?;
    for database in DATABASES {
        let there =
            client.query_opt("select 1 from pg_database where datname = $1", &[&database.name]).await?;
        if there.is_none() {
            // A name cannot be a parameter; this one is a constant of ours.
            let made = client.batch_execute(&format!("create database {}", database.name)).await;
            made.with_context(|| format!("database {} cannot be made", database.name))?;
        }
    }
    Ok(())
}

/// A connection whose other half runs until the client is dropped.
pub async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let connecting = tokio::time::timeout(Duration::from_secs(5), tokio_postgres::connect(url, NoTls));
    let (client, connection) = connecting.await.context("PostgreSQL does not answer within 5 s")??;
    // When the connection breaks, the client's next query says so.
    tokio::spawn(connection);
    Ok(client)
}

/// Backends of a postmaster that was killed end by themselves, but not at once, and until then a new one cannot start. Its
/// pid file is only in the way if the id has been given to another process.
async fn clear_after_a_kill(data: &Path) -> Result<()> {
    for orphan in working_in(data) {
        orphan
            .end(Signal::QUIT, Duration::from_secs(5))
            .await
            .context("what is left of PostgreSQL does not end")?;
    }
    let pid_file = data.join("postmaster.pid");
    match fs::remove_file(&pid_file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", pid_file.display()))
        }
        _ => Ok(()),
    }
}

/// Who to run as, and makes `directory` theirs.
async fn run_as(directory: &Path) -> Result<Option<RunAs>> {
    if !getuid().is_root() {
        return Ok(None);
    }
    let path = directory.display().to_string();
    if run(&["chown".into(), format!("{USER}:{USER}"), path.clone()]).await.is_err() {
        bail!("PostgreSQL does not run as root and there is no user {USER}: run `./dev setup`");
    }
    let user = |pass_directories| Some(RunAs { name: USER, pass_directories });
    for candidate in [user(false), user(true)] {
        if run(&as_user(candidate, &["test", "-w", &path])).await.is_ok() {
            return Ok(candidate);
        }
    }
    bail!("user {USER} cannot write {path}: move the project to where it can, such as below /srv")
}

fn as_user(user: Option<RunAs>, command: &[&str]) -> Vec<String> {
    let command = command.iter().copied().map(String::from);
    match user {
        None => command.collect(),
        Some(user) => {
            let setpriv = std::iter::once("setpriv".to_owned()).chain(user.words());
            setpriv.chain(["--".into()]).chain(command).collect()
        }
    }
}
