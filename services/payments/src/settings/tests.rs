use super::*;

fn parse(args: &[&str]) -> Result<Settings, clap::Error> {
    let needed = ["payments", "--kafka-brokers", "k:9092", "--payments-database-url", "postgres://h/d"];
    Settings::try_parse_from(needed.iter().chain(args))
}

#[test]
fn every_setting_has_a_heading() {
    use clap::CommandFactory;
    assert!(Settings::command().get_arguments().all(|arg| arg.get_help_heading().is_some()));
}

#[test]
fn defaults_are_a_sound_provider_without_test_tokens() {
    let settings = parse(&[]).expect("valid");
    assert!(!settings.simulated().test_tokens);
    assert_eq!(settings.simulated().decline_rate, 0.2);
    assert_eq!(settings.provider_timeout(), Duration::from_secs(2));
}

#[test]
fn what_is_given_reaches_the_provider() {
    let args = ["--test-tokens", "true", "--provider-latency-ms", "30", "--provider-max-amount-cents", "9"];
    let simulated = parse(&args).expect("valid").simulated();
    assert_eq!(
        (simulated.test_tokens, simulated.latency, simulated.max_amount_cents),
        (true, Duration::from_millis(30), 9)
    );
}

#[test]
fn values_that_cannot_work_are_refused() {
    for args in [
        ["--provider-decline-rate", "1.5"],
        ["--provider-decline-rate", "NaN"],
        ["--provider-transient-rate", "-0.1"],
        ["--provider-max-amount-cents", "0"],
        ["--provider-timeout-ms", "0"],
    ] {
        assert!(parse(&args).is_err(), "{args:?}");
    }
}
