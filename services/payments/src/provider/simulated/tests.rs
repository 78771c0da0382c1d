use super::*;

fn provider(change: impl FnOnce(&mut SimulatedSettings)) -> Simulated {
    let mut settings = SimulatedSettings {
        seed: 7,
        max_amount_cents: 1_000,
        test_tokens: true,
        ..SimulatedSettings::default()
    };
    change(&mut settings);
    Simulated::new(settings, None)
}

fn request<'a>(key: &'a str, token: Option<&'a str>, failed: u32) -> ChargeRequest<'a> {
    ChargeRequest { key, amount_cents: 1_000, token, attempt: Try { failed, crashed: 0 } }
}

fn code(answer: Result<ChargeAnswer, ProviderError>) -> &'static str {
    match answer.expect_err("no answer") {
        ProviderError::Unreachable { code, .. }
        | ProviderError::Unavailable { code, .. }
        | ProviderError::Transient { code, .. }
        | ProviderError::Permanent { code, .. } => code,
    }
}

fn is_approved(answer: &Result<ChargeAnswer, ProviderError>) -> bool {
    matches!(answer, Ok(ChargeAnswer::Approved(_)))
}

fn is_declined(answer: &Result<ChargeAnswer, ProviderError>) -> bool {
    matches!(answer, Ok(ChargeAnswer::Declined { .. }))
}

#[test]
fn the_same_request_gets_the_same_answer_and_keys_differ() {
    let (one, other) = (provider(|s| s.decline_rate = 0.5), provider(|s| s.decline_rate = 0.5));
    let answers: Vec<_> = (0..50).map(|n| one.charge_now(request(&format!("charge:{n}"), None, 0))).collect();
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(&other.charge_now(request(&format!("charge:{n}"), None, 0)), answer);
    }
    let mut approved: Vec<_> = answers.into_iter().filter(is_approved).map(|a| format!("{a:?}")).collect();
    let count = approved.len();
    approved.sort();
    approved.dedup();
    assert_eq!(approved.len(), count, "two charges share a reference");
}

#[test]
fn rates_are_kept_and_another_seed_gives_other_answers() {
    let declined = |provider: &Simulated| -> Vec<bool> {
        (0..4_000)
            .map(|n| is_declined(&provider.charge_now(request(&format!("charge:{n}"), None, 0))))
            .collect()
    };
    let count = |answers: &[bool]| answers.iter().filter(|declined| **declined).count();
    let fifth = declined(&provider(|s| s.decline_rate = 0.2));
    assert!((700..=900).contains(&count(&fifth)), "{} of 4000 declined at a rate of 0.2", count(&fifth));
    assert_ne!(fifth, declined(&provider(|s| (s.decline_rate, s.seed) = (0.2, 8))));
    assert_eq!(count(&declined(&provider(|_| ()))), 0);
    assert_eq!(count(&declined(&provider(|s| s.decline_rate = 1.0))), 4_000);
}

#[test]
fn a_transient_failure_passes_with_another_try() {
    let provider = provider(|s| s.transient_rate = 0.5);
    let tries = |n: u32| (0..64).map(move |failed| (format!("charge:{n}"), failed));
    for n in 0..50 {
        assert!(
            tries(n).any(|(key, failed)| is_approved(&provider.charge_now(request(&key, None, failed)))),
            "64 tries in a row failed at a rate of one half"
        );
    }
    let failed =
        (0..1_000).filter(|n| provider.charge_now(request(&format!("c:{n}"), None, 0)).is_err()).count();
    assert!((400..=600).contains(&failed), "{failed} of 1000 tries failed at a rate of one half");
}

#[test]
fn test_tokens_force_their_path_whatever_the_rates() {
    let provider = provider(|s| (s.decline_rate, s.transient_rate) = (1.0, 1.0));
    let charge = |token, failed| provider.charge_now(request("charge:1", Some(token), failed));
    assert!(is_approved(&charge("tok_ok", 0)));
    assert!(is_approved(&charge("tok_no_courier", 0)));
    assert!(is_declined(&charge("tok_declined", 0)));
    assert_eq!(code(charge("tok_flaky_2", 0)), "provider-unavailable");
    assert_eq!(code(charge("tok_flaky_2", 1)), "provider-unavailable");
    assert!(is_approved(&charge("tok_flaky_2", 2)));
    assert_eq!(code(charge("tok_down", 1_000)), "provider-unavailable");
    assert_eq!(code(charge("tok_poison", 0)), "payment-method-unusable");
    assert_eq!(code(charge("tok_unheard_of", 0)), "unknown-test-token");
    assert!(is_approved(&charge("tok_late", 0)), "it is charged, and the answer does not come");
    assert!(is_approved(&charge("tok_refund_flaky_3", 0)));
}

#[test]
fn crash_tokens_panic_as_often_as_they_say() {
    let charge = |token: &'static str, crashed| {
        std::panic::catch_unwind(move || {
            let attempt = Try { failed: 0, crashed };
            provider(|_| ()).charge_now(ChargeRequest { attempt, ..request("charge:1", Some(token), 0) })
        })
    };
    assert!(charge("tok_crash", 0).is_err());
    assert!(charge("tok_crash", 9).is_err());
    assert!(charge("tok_crash_once", 0).is_err());
    assert!(is_approved(&charge("tok_crash_once", 1).expect("no panic the second time")));
}

#[test]
fn test_tokens_are_refused_unless_they_are_on() {
    let provider = provider(|s| s.test_tokens = false);
    for token in ["tok_ok", "tok_crash", "tok_unheard_of"] {
        assert_eq!(code(provider.charge_now(request("charge:1", Some(token), 0))), "test-token-refused");
    }
    assert!(is_approved(&provider.charge_now(request("charge:1", Some("card-4242"), 0))));
}

#[test]
fn the_limit_is_the_last_amount_that_passes() {
    let charge = |amount_cents| {
        provider(|_| ()).charge_now(ChargeRequest { amount_cents, ..request("charge:1", Some("tok_ok"), 0) })
    };
    assert!(is_approved(&charge(1_000)));
    assert_eq!(code(charge(1_001)), "amount-over-limit");
}

#[tokio::test(start_paused = true)]
async fn answers_take_as_long_as_told() {
    let provider = provider(|s| s.latency = Duration::from_millis(80));
    let started = tokio::time::Instant::now();
    let charge = Reference::new("ch_1");
    assert!(provider.charge(request("charge:1", None, 0)).await.is_ok());
    let refund = RefundRequest {
        key: "refund:1",
        charge_key: "charge:1",
        amount_cents: 5,
        charge: &charge,
        attempt: Try::default(),
    };
    let reference = provider.refund(refund).await.expect("refunds succeed");
    assert!(reference.as_str().starts_with("re_"));
    assert_eq!(started.elapsed(), Duration::from_millis(160));
}

#[tokio::test]
async fn a_refund_fails_as_often_as_the_token_of_its_charge_says() {
    let provider = provider(|_| ());
    let charged = provider.charge(request("charge:1", Some("tok_refund_flaky_2"), 0)).await;
    let Ok(ChargeAnswer::Approved(charge)) = charged else { panic!("{charged:?}") };
    let refund = async |failed| {
        let attempt = Try { failed, crashed: 0 };
        let (key, charge_key) = ("refund:1", "charge:1");
        provider
            .refund(RefundRequest { key, charge_key, amount_cents: 1_000, charge: &charge, attempt })
            .await
    };
    assert!(matches!(refund(0).await, Err(ProviderError::Transient { .. })));
    assert!(matches!(refund(1).await, Err(ProviderError::Transient { .. })));
    assert!(refund(2).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_never_comes() {
    let provider = provider(|_| ());
    let charge = provider.charge(request("charge:1", Some("tok_late"), 0));
    assert!(tokio::time::timeout(Duration::from_secs(3_600), charge).await.is_err());
}
