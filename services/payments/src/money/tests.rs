use super::*;

fn reference(name: &str) -> Reference {
    Reference::new(name)
}

fn booked(charge: Option<i64>, refund: Option<i64>) -> Booked {
    Booked {
        charge: charge.map(|cents| (cents, reference("ch"))),
        refund: refund.map(|cents| (cents, reference("re"))),
    }
}

fn listed(cents: i64, refund: Option<&str>) -> Option<ListedCharge> {
    Some(ListedCharge {
        key: "charge:1".into(),
        amount_cents: cents,
        reference: reference("ch"),
        changed_at: DateTime::UNIX_EPOCH,
        refund: refund.map(reference),
    })
}

#[test]
fn each_kind_of_difference_is_seen() {
    let back = Some("re");
    let table = [
        (booked(None, None), None, None),
        (booked(Some(5), None), listed(5, None), None),
        (booked(Some(5), Some(5)), listed(5, back), None),
        (booked(None, None), listed(5, None), Some(Difference::UnbookedCharge)),
        (booked(None, None), listed(5, back), Some(Difference::UnbookedCharge)),
        (booked(Some(5), None), listed(5, back), Some(Difference::UnbookedRefund)),
        (booked(Some(5), None), None, Some(Difference::UnknownCharge)),
        (booked(Some(5), Some(5)), None, Some(Difference::UnknownCharge)),
        (booked(Some(5), Some(5)), listed(5, None), Some(Difference::UnknownRefund)),
        (booked(None, Some(5)), listed(5, back), Some(Difference::RefundWithoutCharge)),
        (booked(None, Some(5)), None, Some(Difference::RefundWithoutCharge)),
        (booked(Some(5), None), listed(6, None), Some(Difference::Amount)),
        (booked(Some(5), Some(4)), listed(5, back), Some(Difference::Amount)),
        (booked(Some(5), Some(5)), listed(5, Some("other")), Some(Difference::Reference)),
    ];
    let settled = DateTime::UNIX_EPOCH + Duration::from_secs(1);
    for (booked, listed, expected) in table {
        let money = Money { booked, listed };
        assert_eq!(money.difference(settled), expected, "{money:?}");
    }
    let mut money = Money { booked: booked(Some(5), None), listed: listed(5, None) };
    money.booked.charge = Some((5, reference("another")));
    assert_eq!(money.difference(settled), Some(Difference::Reference));
}

#[test]
fn a_charge_of_a_moment_ago_may_be_booked_in_a_moment_and_what_went_back_is_not_held() {
    let fresh = Money { booked: Booked::default(), listed: listed(5, None) };
    assert_eq!(fresh.difference(DateTime::UNIX_EPOCH - Duration::from_secs(1)), None);
    assert_eq!(fresh.held(), 5);
    let before = DateTime::UNIX_EPOCH - Duration::from_secs(1);
    let back = Money { booked: Booked::default(), listed: listed(5, Some("re")) };
    assert_eq!(back.difference(before), None);
    assert_eq!(back.difference(DateTime::UNIX_EPOCH), Some(Difference::UnbookedCharge));
    let half = Money { booked: booked(Some(5), None), listed: listed(5, Some("re")) };
    assert_eq!(half.difference(before), None);
    assert_eq!((back.held(), Money::default().held()), (0, 0));
}

#[test]
fn every_difference_has_a_word_of_its_own() {
    for difference in Difference::ALL {
        let word = serde_json::to_value(difference).expect("a word");
        assert_eq!(word, difference.as_str());
    }
}
