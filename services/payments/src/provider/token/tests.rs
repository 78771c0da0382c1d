use super::*;

#[test]
fn tokens_by_name() {
    for (text, token) in [
        ("tok_ok", Some(Ok(TestToken::Ok))),
        ("tok_declined", Some(Ok(TestToken::Declined))),
        ("tok_flaky_2", Some(Ok(TestToken::Flaky(2)))),
        ("tok_down", Some(Ok(TestToken::Down))),
        ("tok_poison", Some(Ok(TestToken::Poison))),
        ("tok_crash", Some(Ok(TestToken::Crash))),
        ("tok_crash_once", Some(Ok(TestToken::CrashOnce))),
        ("tok_no_courier", Some(Ok(TestToken::NoCourier))),
        ("tok_late", Some(Ok(TestToken::Late))),
        ("tok_refund_flaky_30", Some(Ok(TestToken::RefundFlaky(30)))),
        ("tok_refund_flaky_", Some(Err(UnknownTestToken))),
        ("tok_flaky_", Some(Err(UnknownTestToken))),
        ("tok_flaky_-1", Some(Err(UnknownTestToken))),
        ("tok_flaky_99999999999", Some(Err(UnknownTestToken))),
        ("tok_OK", Some(Err(UnknownTestToken))),
        ("tok_", Some(Err(UnknownTestToken))),
        ("card-4242", None),
        ("", None),
    ] {
        assert_eq!(TestToken::parse(text), token, "{text:?}");
    }
}
