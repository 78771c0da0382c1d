//! A cluster that wants TLS and a password.

use crate::common::{Group, expect};

/// What the test run provides: where to log in, and a file of the properties that it takes.
fn secured() -> (String, String) {
    let given = |variable| {
        std::env::var(variable)
            .unwrap_or_else(|_| panic!("{variable} is not set: run these tests by `./dev test`"))
    };
    (given("TEST_KAFKA_SASL_BROKERS"), given("TEST_KAFKA_CONFIG_FILE"))
}

#[test]
fn a_file_of_properties_logs_in_and_reads() {
    let group = Group::new();
    let id = group.bury_one(1).to_string();
    let (brokers, file) = secured();
    let shown = expect(0, &["show", &id, "--brokers", &brokers, "--config", &file, "-o", "json"]);
    assert_eq!(shown.json()[0]["id"], id);
}

#[test]
fn a_wrong_password_is_said_to_be_the_reason() {
    let (brokers, file) = secured();
    let connection = ["--brokers", &brokers, "--config", &file, "--connect-timeout", "2s"];
    let wrong = ["topics", "-X", "sasl.password=wrong-one"];
    let refused = expect(6, &[&wrong[..], &connection].concat());
    assert!(refused.err.contains("Authentication failed"), "{}", refused.err);
    assert!(!refused.err.contains("wrong-one"), "{}", refused.err);
}
