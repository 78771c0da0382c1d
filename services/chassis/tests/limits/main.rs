//! How long a transaction may take is told to PostgreSQL in each, and costs no round trip.

use std::{
    env,
    time::{Duration, Instant},
};

use actors::connection::{Connection, Limits, Trouble};
use chassis::database::{Database, TlsFiles};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_postgres::{Config, config::Host};

/// Half of it each way.
const ROUND_TRIP: Duration = Duration::from_millis(200);

/// Passes on what comes, in order, half a round trip later.
async fn late(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((at, bytes)) = receiver.recv().await {
            tokio::time::sleep_until((at + ROUND_TRIP / 2).into()).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if sender.send((Instant::now(), buffer[..read].to_vec())).is_err() {
            return;
        }
    }
}

/// URL of the test run's server, far away.
async fn far_away() -> String {
    let server = env::var("TEST_POSTGRES_URL").expect("TEST_POSTGRES_URL is not set: run ./dev test");
    let config: Config = server.parse().expect("a URL");
    let Host::Tcp(host) = &config.get_hosts()[0] else { panic!("a server with an address") };
    let (host, port) = (host.clone(), config.get_ports()[0]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect((host.as_str(), port)).await.expect("connected");
            near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).expect("set");
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::spawn(late(from_near, to_far));
            tokio::spawn(late(from_far, to_near));
        }
    });
    format!(
        "postgres://{}@{address}/{}",
        config.get_user().expect("a user"),
        config.get_dbname().expect("a name")
    )
}

async fn connection() -> Connection {
    let database = Database::new(&far_away().await, "test", &TlsFiles::default()).expect("a URL");
    Connection::get(&database.pool(1).expect("a pool")).await.expect("a connection")
}

/// Whole round trips that `work` takes.
async fn trips(work: impl Future<Output = ()>) -> u128 {
    let started = Instant::now();
    work.await;
    started.elapsed().as_millis() / ROUND_TRIP.as_millis()
}

const SHOWN: &str = "select setting from pg_settings where name in ('statement_timeout', 'lock_timeout',
    'idle_in_transaction_session_timeout')";

#[tokio::test]
async fn limits_are_set_in_every_transaction_and_cost_no_round_trip() {
    let (mut connection, limits) = (connection().await, Limits::default());
    let shown = connection.prepare_cached(SHOWN).await.expect("prepared");
    let read = trips(async {
        let rows = connection.read(&limits, connection.query(&shown, &[])).await.expect("read");
        assert!(rows.len() == 3 && rows.iter().all(|row| row.get::<_, &str>(0) == "5000"));
    });
    assert_eq!(read.await, 1, "BEGIN, limits and statement together, and nobody waits for COMMIT");
    let write = trips(async {
        connection.write(&limits, connection.query(&shown, &[])).await.expect("written");
    });
    assert_eq!(write.await, 2);
    // As the batches and the intake do it: BEGIN, the first statement, COMMIT.
    let own = trips(async {
        let client = connection.begin();
        let tx = client.transaction().await.expect("begun");
        let set = limits.set();
        let (_, rows) =
            tokio::try_join!(biased; tx.batch_execute(&set), tx.query(&shown, &[])).expect("both");
        assert!(rows.iter().all(|row| row.get::<_, &str>(0) == "5000"));
        tx.commit().await.expect("committed");
    });
    assert_eq!(own.await, 3);
    connection.settle::<(), tokio_postgres::Error>(&Ok(()));
    let rows = connection.query(&shown, &[]).await.expect("shown");
    assert!(rows.iter().all(|row| row.get::<_, &str>(0) == "0"), "nothing of it stays with the connection");
}

#[tokio::test]
async fn what_takes_too_long_is_ended_by_the_server_or_by_our_clock() {
    let connection = connection().await;
    let limits = Limits { statement: Duration::from_millis(100), ..Limits::default() };
    let sleep = async { connection.batch_execute("select pg_sleep(3)").await };
    let trouble = connection.read(&limits, sleep).await.expect_err("cancelled");
    assert_eq!(trouble.cause().code, "sql-57014");
    let limits = Limits { whole: Duration::from_millis(300), ..Limits::default() };
    let sleep = async { connection.batch_execute("select pg_sleep(3)").await };
    let trouble = connection.write(&limits, sleep).await.expect_err("given up");
    assert!(matches!(trouble, Trouble::NoAnswer(_)), "{trouble:?}");
}
