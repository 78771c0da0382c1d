use super::*;

const ACCEPTS: Accepts = Accepts { test_tokens: true, max_amount_cents: 1_000_000 };

fn parse(body: &str) -> Result<Request, Problem> {
    Request::parse(body.as_bytes(), ACCEPTS)
}

/// The field that is refused.
fn refused(body: &str) -> String {
    let problem = parse(body).expect_err(body);
    assert_eq!(problem.status, 422, "{body}: {problem:?}");
    let [error] = &problem.errors[..] else { panic!("{body}: one field: {problem:?}") };
    error.field.to_string()
}

#[test]
fn nothing_at_all_orders_a_default() {
    let default = Request {
        item: DEFAULT_ITEM.into(),
        quantity: 1,
        amount_cents: 1_290,
        customer_id: None,
        payment_token: None,
    };
    for body in ["", " \n"] {
        assert_eq!(parse(body), Ok(default.clone()));
    }
    assert_eq!(parse(&format!(r#"{{"item":"{DEFAULT_ITEM}","quantity":null}}"#)), Ok(default));
}

#[test]
fn what_is_no_field_is_refused_by_its_name_beside_all_else_that_is_wrong() {
    assert_eq!(refused(r#"{"item":"soup","quantitty":1}"#), "quantitty");
    let problem = parse(r#"{"item":"soup","quantity":0,"constructor":1,"":2}"#).expect_err("three");
    let mut fields: Vec<_> = problem.errors.iter().map(|error| &*error.field).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["", "constructor", "quantity"]);
    let long = format!(r#"{{"item":"soup","{}":1}}"#, "é".repeat(1_000));
    assert_eq!(refused(&long), "é".repeat(64));
    let many: Vec<String> = (0..1_000).map(|n| format!(r#""f{n}":1"#)).collect();
    let problem = parse(&format!("{{{}}}", many.join(","))).expect_err("a thousand");
    assert!(problem.errors.len() <= 16, "{}", problem.errors.len());
}

#[test]
fn what_is_given_is_taken() {
    let body = r#"{"item":"soup","quantity":3,"amount_cents":0,"customer_id":"c","payment_token":"tok_ok"}"#;
    let request = parse(body).expect("sound");
    assert_eq!(
        (request.quantity, request.amount_cents, request.payment_token.as_deref()),
        (3, 0, Some("tok_ok"))
    );
    assert_eq!(parse(r#"{"item":"soup","quantity":3}"#).expect("sound").amount_cents, 3 * UNIT_PRICE_CENTS);
    let longest = "ü".repeat(200);
    assert_eq!(parse(&format!(r#"{{"item":"{longest}"}}"#)).expect("200 characters").item, longest);
}

#[test]
fn what_makes_no_sense_is_refused_by_the_name_of_its_field() {
    let with = |field: &str, value: &str| format!(r#"{{"item":"soup","{field}":{value}}}"#);
    for value in ["-1", "0", "1001", "1.5", "1.0", "1e3", "\"2\"", "true", "[1]", "99999999999999999999"] {
        assert_eq!(refused(&with("quantity", value)), "quantity", "{value}");
    }
    for value in ["-1", "100000001", "0.5", "{}"] {
        assert_eq!(refused(&with("amount_cents", value)), "amount_cents", "{value}");
    }
    let long = |n: usize| format!("\"{}\"", "x".repeat(n));
    for (field, value) in [
        ("customer_id", long(101)),
        ("customer_id", "\"\"".into()),
        ("payment_token", long(65)),
        ("payment_token", "7".into()),
        ("customer_id", r#""a\u0000b""#.into()),
    ] {
        assert_eq!(refused(&with(field, &value)), field, "{value}");
    }
    for value in [long(201), "\"\"".into(), "\"  \"".into(), "5".into(), "null".into()] {
        assert_eq!(refused(&format!(r#"{{"item":{value}}}"#)), "item", "{value}");
    }
    assert_eq!(refused("{}"), "item");
    assert_eq!(refused("[]"), "body");
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_no_value_is_repeated() {
    let body = r#"{"quantity":"4111","amount_cents":-4111,"customer_id":[4111],"payment_token":"tok_ok"}"#;
    let problem =
        Request::parse(body.as_bytes(), Accepts { test_tokens: false, ..ACCEPTS }).expect_err("all wrong");
    let fields: Vec<_> = problem.errors.iter().map(|error| error.field.as_ref()).collect();
    assert_eq!(fields, ["item", "quantity", "amount_cents", "customer_id", "payment_token"]);
    let said = format!("{problem:?}");
    assert!(!said.contains("4111") && said.len() < 2_000, "{said}");
    assert!(fields.iter().all(|field| problem.detail.contains(&format!("{field}: "))), "{}", problem.detail);
}

#[test]
fn what_is_not_json_is_a_bad_request() {
    for body in ["item=soup", "{", "{\"item\":\"soup\"} trailing", "\u{feff}{}"] {
        assert_eq!(parse(body).expect_err(body).status, 400, "{body}");
    }
    assert_eq!(Request::parse(b"\xff\xfe", ACCEPTS).expect_err("not UTF-8").status, 400);
}

#[test]
fn test_tokens_are_refused_unless_switched_on() {
    let parse = |token: &str| {
        let body = format!(r#"{{"item":"soup","payment_token":"{token}"}}"#);
        Request::parse(body.as_bytes(), Accepts { test_tokens: false, ..ACCEPTS })
            .map_err(|problem| problem.errors)
    };
    assert_eq!(parse("tok_ok").expect_err("a test token")[0].field, "payment_token");
    assert!(parse("card_1").is_ok());
}

#[test]
fn a_field_that_is_there_twice_is_refused_by_its_name() {
    let accepts = Accepts { test_tokens: false, max_amount_cents: 1_000_000 };
    let problem =
        Request::parse(br#"{"item":"soup","quantity":1,"item":"tea"}"#, accepts).expect_err("refused");
    assert_eq!((problem.status.as_u16(), problem.errors.len()), (422, 1));
    assert_eq!((&*problem.errors[0].field, problem.errors[0].pointer.as_deref()), ("item", Some("/item")));
    for other in ["[{}]", "null", "true", "-7", "7", "7.5", "\"item\"", "1e400"] {
        let status = Request::parse(other.as_bytes(), accepts).expect_err("refused").status.as_u16();
        assert_eq!(status, if other == "1e400" { 400 } else { 422 }, "{other}");
    }
}
