//! The provider's own list of charges, and the ledger beside it.

use std::{collections::BTreeMap, time::Duration};

use deadpool_postgres::Pool;
use payments::{
    domain::{Booking, Kind, Payment, Status},
    money::{self, Difference, Money},
    provider::{
        ChargeAnswer, ChargeRequest, PaymentProvider, ProviderError, Reference, RefundRequest, Try,
        VoidAnswer, VoidRequest,
        book::Book,
        simulated::{Simulated, SimulatedSettings},
    },
    store,
};
use uuid::Uuid;

use crate::store::{at, database};

fn provider(pool: &Pool) -> Simulated {
    let settings =
        SimulatedSettings { max_amount_cents: 1_000, test_tokens: true, ..SimulatedSettings::default() };
    Simulated::new(settings, Some(Book::new(pool.clone())))
}

async fn charge(provider: &Simulated, order: Uuid, token: &str) -> Result<ChargeAnswer, ProviderError> {
    let key = Kind::Charge.provider_key(order);
    let attempt = Try::default();
    provider.charge(ChargeRequest { key: &key, amount_cents: 900, token: Some(token), attempt }).await
}

async fn refund(provider: &Simulated, order: Uuid, charge: &Reference) -> Reference {
    let (key, charge_key) = (Kind::Refund.provider_key(order), Kind::Charge.provider_key(order));
    let attempt = Try::default();
    let request = RefundRequest { key: &key, charge_key: &charge_key, amount_cents: 900, charge, attempt };
    provider.refund(request).await.expect("given back")
}

async fn void(provider: &Simulated, order: Uuid) -> VoidAnswer {
    let (charge, refund) = (Kind::Charge.provider_key(order), Kind::Refund.provider_key(order));
    let request = VoidRequest { charge: &charge, refund: &refund, attempt: Try::default() };
    provider.void(request).await.expect("answered")
}

fn reference(answer: Result<ChargeAnswer, ProviderError>) -> Reference {
    match answer {
        Ok(ChargeAnswer::Approved(reference)) => reference,
        other => panic!("not charged: {other:?}"),
    }
}

#[tokio::test]
async fn a_charge_is_made_once_and_a_void_finds_it_whether_or_not_it_was_answered() {
    let provider = provider(&database().await);
    let [answered, lost, never, back] = std::array::from_fn(|_| Uuid::now_v7());
    let first = reference(charge(&provider, answered, "tok_ok").await);
    assert_eq!(reference(charge(&provider, answered, "tok_ok").await), first);

    // Charged, and nobody hears of it.
    let silent = tokio::time::timeout(Duration::from_millis(300), charge(&provider, lost, "tok_late"));
    assert!(silent.await.is_err());
    let VoidAnswer::Returned { amount_cents: 900, refund: once, .. } = void(&provider, lost).await else {
        panic!("it was charged")
    };
    let again = void(&provider, lost).await;
    assert!(matches!(again, VoidAnswer::Returned { refund, .. } if refund == once), "it goes back once");

    // What was voided before is not charged afterwards.
    assert_eq!(void(&provider, never).await, VoidAnswer::Nothing);
    assert_eq!(void(&provider, never).await, VoidAnswer::Nothing);
    let late = charge(&provider, never, "tok_ok").await;
    assert!(matches!(late, Err(ProviderError::Permanent { code: "charge-voided", .. })), "{late:?}");

    let held = reference(charge(&provider, back, "tok_ok").await);
    assert_eq!(refund(&provider, back, &held).await, refund(&provider, back, &held).await);
    let listed = provider.charges("", 10).await.expect("a list");
    let listed: BTreeMap<_, _> = listed.into_iter().map(|one| (one.key, one.refund.is_some())).collect();
    let key = |order| Kind::Charge.provider_key(order);
    assert_eq!(listed, BTreeMap::from([(key(answered), false), (key(lost), true), (key(back), true)]));
}

/// However a charge and a void meet: nothing is held afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_void_that_races_its_charge_leaves_nothing_held() {
    let pool = database().await;
    let provider = provider(&pool);
    for _ in 0..60 {
        let order = Uuid::now_v7();
        let (charged, voided) = tokio::join!(charge(&provider, order, "tok_ok"), void(&provider, order));
        match (charged, voided) {
            (Ok(_), VoidAnswer::Returned { .. }) => {}
            (Err(ProviderError::Permanent { code: "charge-voided", .. }), VoidAnswer::Nothing) => {}
            other => panic!("{other:?}"),
        }
    }
    let page = money::page(&provider, &pool, Uuid::nil()).await.expect("both answer");
    assert!(page.orders.values().all(|money| money.held() == 0), "{page:?}");
}

async fn book(pool: &Pool, order: Uuid, entries: &[(Kind, i64, &Reference)]) {
    let unsaved = entries.iter().map(|(kind, amount_cents, reference)| Booking {
        kind: *kind,
        amount_cents: *amount_cents,
        reference: (*reference).clone(),
        at: at(0),
    });
    let payment =
        Payment { status: Status::Closed, order_version: 1, updated_at: at(0), unsaved: unsaved.collect() };
    let client = pool.get().await.expect("a connection");
    store::save(&client, &[(order, payment)]).await.expect("booked");
}

#[tokio::test]
async fn the_comparison_finds_each_kind_of_difference_and_nothing_else() {
    let pool = database().await;
    let provider = provider(&pool);
    let none =
        async || money::differences(&provider, &pool, Uuid::nil(), Duration::ZERO).await.expect("compared");
    // More than a page on both sides, all of it right.
    for _ in 0..1_100 {
        let order = Uuid::now_v7();
        let held = reference(charge(&provider, order, "tok_ok").await);
        book(&pool, order, &[(Kind::Charge, 900, &held)]).await;
    }
    assert_eq!(none().await, BTreeMap::new());

    let other = Reference::new("another");
    let made = async || {
        let order = Uuid::now_v7();
        (order, reference(charge(&provider, order, "tok_ok").await))
    };
    let _unbooked = made().await;
    let (order, held) = made().await;
    refund(&provider, order, &held).await;
    book(&pool, order, &[(Kind::Charge, 900, &held)]).await;
    let (order, held) = made().await;
    book(&pool, order, &[(Kind::Charge, 900, &held), (Kind::Refund, 900, &other)]).await;
    book(&pool, Uuid::now_v7(), &[(Kind::Charge, 900, &other)]).await;
    book(&pool, Uuid::now_v7(), &[(Kind::Refund, 900, &other)]).await;
    let (order, held) = made().await;
    book(&pool, order, &[(Kind::Charge, 901, &held)]).await;
    let (order, _) = made().await;
    book(&pool, order, &[(Kind::Charge, 900, &other)]).await;
    let expected = Difference::ALL.into_iter().map(|difference| (difference, 1)).collect();
    assert_eq!(none().await, expected);

    // A charge of a moment ago may be on its way into the ledger.
    let patient = money::differences(&provider, &pool, Uuid::nil(), Duration::from_secs(60)).await;
    assert!(!patient.expect("compared").contains_key(&Difference::UnbookedCharge));
}

#[tokio::test]
async fn pages_hold_every_order_once_with_all_of_its_lines() {
    let pool = database().await;
    let provider = provider(&pool);
    let orders: Vec<Uuid> = (0..1_500).map(|_| Uuid::now_v7()).collect();
    for (n, order) in orders.iter().enumerate() {
        let held = reference(charge(&provider, *order, "tok_ok").await);
        let back = refund(&provider, *order, &held).await;
        // Of every third the provider alone knows.
        if n % 3 > 0 {
            book(&pool, *order, &[(Kind::Charge, 900, &held), (Kind::Refund, 900, &back)]).await;
        }
    }
    let (mut after, mut seen) = (Uuid::nil(), BTreeMap::<Uuid, Money>::new());
    loop {
        let page = money::page(&provider, &pool, after).await.expect("both answer");
        for (order, money) in page.orders {
            assert!(seen.insert(order, money).is_none(), "{order} twice");
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen.len(), orders.len());
    for (n, order) in orders.iter().enumerate() {
        let booked = &seen[order].booked;
        assert_eq!((booked.charge.is_some(), booked.refund.is_some()), (n % 3 > 0, n % 3 > 0), "{order}");
        assert!(seen[order].listed.as_ref().is_some_and(|listed| listed.refund.is_some()));
    }
}
