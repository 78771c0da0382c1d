use http_body_util::BodyExt;

use super::*;

#[tokio::test]
async fn a_problem_says_what_the_standard_asks_for() {
    let response = Problem::invalid("quantity", "must be at least 1").render(Some("c-1"));
    assert_eq!(response.status(), 422);
    assert_eq!(response.headers()["content-type"], CONTENT_TYPE);
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        body,
        serde_json::json!({
            "type": "urn:backburner:problem:invalid-fields", "code": "invalid-fields", "title": "Unprocessable Entity", "status": 422,
            "detail": "quantity: must be at least 1", "correlation_id": "c-1",
            "errors": [{"field": "quantity", "reason": "must be at least 1"}],
        })
    );
}

#[test]
fn retry_after_is_never_zero() {
    for (given, sent) in [(0, "1"), (1, "1"), (1_500, "2")] {
        let response = Problem::unavailable("busy", Duration::from_millis(given)).into_response();
        assert_eq!(response.headers()["retry-after"], sent);
    }
}

#[test]
fn however_much_is_wrong_a_problem_is_bounded() {
    let wrong = |n: usize| FieldError::in_body(format!("field-{n}"), "is not known");
    let two = Problem::invalid_fields((0..2).map(wrong).collect());
    assert_eq!(two.detail, "field-0: is not known; field-1: is not known");
    let many = Problem::invalid_fields((0..100).map(wrong).collect());
    assert_eq!(many.errors.len(), MAX_FIELDS);
    assert!(many.detail.ends_with("; 84 more"), "{}", many.detail);
}

#[test]
fn a_field_of_the_body_is_pointed_at() {
    let pointer = |name: &'static str| FieldError::in_body(name, "is wrong").pointer;
    assert_eq!(pointer("quantity").as_deref(), Some("/quantity"));
    assert_eq!(pointer("a/b~c").as_deref(), Some("/a~1b~0c"));
    assert_eq!(Problem::invalid("limit", "is wrong").errors[0].pointer, None);
}
