//! TLS and credentials, against a real PostgreSQL and a real Kafka that have them.

use std::{env, path::PathBuf};

use actors::{Cause, KafkaSettings, Publisher, TopicSpec, ensure_topics};
use chassis::{
    database::{Database, DatabaseError, TlsFiles},
    settings::KafkaArgs,
};
use clap::Parser;
use uuid::Uuid;

/// What the test run provides.
fn given(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: these tests need servers with TLS, as `./dev test` provides")
    })
}

/// The database server's URL with this `sslmode`; its host is an address, which the certificate holds.
fn url(mode: &str) -> String {
    format!("{}?sslmode={mode}", given("TEST_POSTGRES_URL"))
}

fn trusting(root_cert: String) -> TlsFiles {
    TlsFiles { root_cert: Some(PathBuf::from(root_cert)), ..TlsFiles::default() }
}

/// The certificate of a server that is not the database's.
fn other_root() -> String {
    let kafka = kafka(&[]).properties;
    kafka.into_iter().find(|(name, _)| name == "ssl.ca.location").expect("the client's file has it").1
}

/// Whether the server says that the pool's connections are encrypted.
async fn encrypted(url: &str, files: &TlsFiles) -> bool {
    let pool = Database::new(url, "tls", files).expect("valid").pool(1).expect("a pool");
    let client = pool.get().await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    client.query_one(sql, &[]).await.expect("a row").get(0)
}

#[tokio::test]
async fn connections_to_postgres_are_as_secure_as_the_url_says() {
    let none = TlsFiles::default();
    let root = trusting(given("TEST_POSTGRES_ROOT_CERT"));
    assert!(!encrypted(&given("TEST_POSTGRES_URL"), &none).await, "plain unless asked for");
    assert!(!encrypted(&url("disable"), &root).await);
    for mode in ["prefer", "require"] {
        assert!(encrypted(&url(mode), &none).await, "{mode} verifies nothing without a certificate");
        assert!(encrypted(&url(mode), &root).await, "{mode}");
    }
    for mode in ["verify-ca", "verify-full"] {
        assert!(encrypted(&url(mode), &root).await, "{mode}");
    }
    assert!(encrypted(&given("TEST_POSTGRES_URL"), &root).await, "a certificate asks for it as well");
}

#[tokio::test]
async fn a_server_that_is_not_trusted_ends_the_start_at_once_and_says_why() {
    let other = trusting(other_root());
    for (mode, files) in [
        ("require", &other),
        ("verify-ca", &other),
        ("verify-full", &other),
        ("verify-full", &TlsFiles::default()),
    ] {
        let database = Database::new(&url(mode), "tls", files).expect("valid");
        let error = database.migrate(refinery::Runner::new(&[])).await.expect_err("not trusted");
        assert!(matches!(error, DatabaseError::Connect(_)), "{mode}: {error:?}");
        let error = format!("{:#}", anyhow::Error::from(error));
        assert!(error.contains("certificate verify failed"), "{mode}: {error}");
    }
}

#[tokio::test]
async fn the_name_in_the_certificate_matters_to_verify_full_alone() {
    let root = trusting(given("TEST_POSTGRES_ROOT_CERT"));
    // Another address of the same server, which the certificate does not hold.
    let elsewhere = |mode| {
        let url = url(mode);
        let (before, after) = url.split_once("@127.0.0.1:").expect("the private server's address");
        format!("{before}@db.example:{after}&hostaddr=127.0.0.1")
    };
    assert!(encrypted(&elsewhere("verify-ca"), &root).await);
    let pool =
        Database::new(&elsewhere("verify-full"), "tls", &root).expect("valid").pool(1).expect("a pool");
    let error = format!("{:#}", anyhow::Error::from(pool.get().await.expect_err("another name")));
    assert!(error.contains("hostname mismatch"), "{error}");
}

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    kafka: KafkaArgs,
}

/// The settings of a service that is given the client's file, and `more`.
fn kafka(more: &[&str]) -> KafkaSettings {
    let (brokers, file) = (given("TEST_KAFKA_SASL_BROKERS"), given("TEST_KAFKA_CONFIG_FILE"));
    let args = ["service", "--kafka-brokers", &brokers, "--kafka-config-file", &file];
    let args = args.iter().chain(more);
    Settings::try_parse_from(args).expect("valid").kafka.settings().expect("valid")
}

#[test]
fn the_usual_ways_to_log_in_to_kafka_are_built_in() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let list = format!("sasl.mechanisms={mechanism}");
        Publisher::start(&kafka(&["--kafka-properties", &list])).expect("a client that can do it");
    }
}

async fn ensure_a_topic(more: &[&str]) -> Result<(), Cause> {
    let topic = TopicSpec::new(format!("tls-{}", Uuid::new_v4().simple()), 1);
    ensure_topics(&kafka(more), &[topic], true).await
}

#[tokio::test]
async fn kafka_lets_in_who_has_the_password() {
    ensure_a_topic(&[]).await.expect("let in");
}

#[tokio::test]
async fn kafka_says_so_when_the_password_is_wrong() {
    let cause =
        ensure_a_topic(&["--kafka-properties", "sasl.password=wrong-one"]).await.expect_err("refused");
    assert_eq!(cause.code, "kafka-refused", "{cause}");
    assert!(cause.message.contains("Authentication failed"), "{cause}");
    assert!(!cause.message.contains("wrong-one"), "{cause}");
}

#[tokio::test]
async fn a_broker_that_is_not_trusted_is_not_logged_in_to() {
    // The system's authorities do not know the private broker.
    let cause =
        ensure_a_topic(&["--kafka-properties", "ssl.ca.location=probe"]).await.expect_err("not trusted");
    assert_eq!(cause.code, "kafka-refused", "{cause}");
    assert!(cause.message.contains("certificate"), "{cause}");
}
