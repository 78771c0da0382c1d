use super::*;

#[test]
fn what_the_server_says_is_compared_with_what_the_protocol_rests_on() {
    let sound = [
        ("statement_timeout", "5000"),
        ("lock_timeout", "5000"),
        ("idle_in_transaction_session_timeout", "5000"),
        ("synchronous_commit", "on"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("transaction_read_only", "off"),
        ("server_encoding", "UTF8"),
    ];
    let with = |name: &str, value: &str| {
        let mut settings: HashMap<String, String> =
            sound.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings.insert(name.to_owned(), value.to_owned());
        compare(&settings, &Limits::default())
    };
    assert_eq!(with("synchronous_commit", "remote_apply"), Ok(()));
    for (name, value, words) in [
        ("lock_timeout", "0", "lock_timeout"),
        ("fsync", "off", "fsync is off"),
        ("synchronous_commit", "off", "synchronous_commit is off"),
        ("transaction_read_only", "on", "takes no writes"),
        ("server_encoding", "SQL_ASCII", "UTF8"),
    ] {
        let error = with(name, value).expect_err("not fit");
        assert!(error.contains(words), "{error}");
    }
}
