use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read")]
struct Probe {
    id: Option<uuid::Uuid>,
    at: Option<chrono::DateTime<chrono::Utc>>,
    count: u32,
    #[serde(default)]
    inner: Vec<Inner>,
    word: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only read")]
struct Inner {
    price: i64,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Yes,
    No,
}

fn said(json: &str) -> String {
    read::<Probe>(json.as_bytes()).expect_err("does not fit").to_string()
}

#[test]
fn what_does_not_fit_is_told_by_field_kind_and_place_and_never_by_value() {
    for (json, expected) in [
        (
            r#"{"count":"4111, expected u32"}"#,
            "`count`: expected a whole number that is not negative, found a string at line 1 column 29",
        ),
        (
            r#"{"count":4111.5}"#,
            "`count`: expected a whole number that is not negative, found a number at line 1 column 15",
        ),
        (
            r#"{"count":-4111}"#,
            "`count`: expected a whole number that is not negative, found a whole number that is not one at line 1 column 14",
        ),
        (
            r#"{"count":1,"inner":[{"price":{"4111":1},"name":""}]}"#,
            "`inner[0].price`: expected a whole number, found an object at line 1 column 29",
        ),
        (
            r#"{"count":1,"inner":[{"price":1,"name":4111}]}"#,
            "`inner[0].name`: expected a string, found a whole number at line 1 column 42",
        ),
        (r#"{"count":1,"id":"4111"}"#, "`id`: expected a UUID, found another string at line 1 column 22"),
        (
            r#"{"count":1,"at":"4111"}"#,
            "`at`: expected a date and time (RFC 3339), found another string at line 1 column 22",
        ),
        (
            r#"{"count":1,"word":"4111"}"#,
            "`word`: expected `yes` or `no`, found another word at line 1 column 24",
        ),
        ("{}", "field `count` is missing at line 1 column 2"),
        (r#"{"count":1,"count":4111}"#, "field `count` is there twice at line 1 column 18"),
    ] {
        assert_eq!(said(json), expected, "{json}");
    }
    for json in [
        r#"{"4111":1}"#,
        r#"{"count":1,"inner":4111}"#,
        r#"["4111"]"#,
        r#"{"count":41110000000}"#,
        "4111",
        "\"4111\"",
        "{\"4111",
    ] {
        let said = said(json);
        assert!(!said.contains("4111") && said.contains("line 1 column"), "{json}: {said}");
    }
    assert!(matches!(read::<Probe>(b"{\"count\":1} x"), Err(Misfit::NotJson { .. })));
}

#[test]
fn texts_are_bounded() {
    assert_eq!(check("name", "abc", 3), Ok(()));
    let said = |text: &str| check("name", text, 3).expect_err("refused").to_string();
    assert_eq!(said("abcd"), "`name` is longer than 3 bytes: it has 4");
    assert_eq!(said("a\0"), "`name` has the character U+0000, at byte 1");
}
