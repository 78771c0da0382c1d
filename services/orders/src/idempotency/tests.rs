use axum::http::HeaderValue;

use super::*;

fn key(key: &str, body: &[u8]) -> Key {
    Key { subject: String::new(), key: key.to_owned(), body: Sha256::digest(body).into() }
}

#[test]
fn a_key_is_taken_or_refused_as_what_it_is() {
    let of = |keys: &[&[u8]]| {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(key).expect("a header"));
        }
        Key::of(&headers, "", b"{}")
    };
    assert_eq!(of(&[]), Ok(None));
    assert_eq!(of(&[b"k-1"]), Ok(Some(key("k-1", b"{}"))));
    assert_eq!(of(&[&[b'k'; 255]]).expect("the longest").expect("one").key.len(), 255);
    for wrong in [&[b"".as_slice()][..], &[b"a b"], &[b"a\tb"], &[b"\xff"], &[&[b'k'; 256]], &[b"a", b"a"]] {
        let problem = of(wrong).expect_err("refused");
        assert_eq!(
            (problem.status.as_u16(), &*problem.errors[0].field),
            (400, "Idempotency-Key"),
            "{wrong:?}"
        );
    }
}

#[test]
fn each_request_has_one_fate() {
    let id = Uuid::from_u128;
    let (one, other, old) = (key("one", b"a"), key("one", b"b"), key("old", b"a"));
    let requests = [
        (id(1), None),
        (id(2), Some(&one)),
        (id(3), Some(&one)),
        (id(4), Some(&other)),
        (id(5), Some(&old)),
        (id(6), None),
    ];
    let held = |key: &Key, order: u128| {
        let name = (key.subject.clone(), key.key.clone());
        (name, Held { order_id: id(order), body: key.body.to_vec() })
    };
    // The first of the batch has its key now; another one's was there.
    let now = HashMap::from([held(&one, 2), held(&old, 99)]);
    let expected = [
        Claimed::New,
        Claimed::New,
        Claimed::Like(1),
        Claimed::Reused(Some(1)),
        Claimed::Before(id(99)),
        Claimed::New,
    ];
    assert_eq!(claims(&requests, &now), expected);
    // It was there with the other body.
    let now = HashMap::from([held(&other, 98), held(&old, 99)]);
    let expected = [
        Claimed::New,
        Claimed::Reused(None),
        Claimed::Reused(None),
        Claimed::Before(id(98)),
        Claimed::Before(id(99)),
        Claimed::New,
    ];
    assert_eq!(claims(&requests, &now), expected);
}
