//! What a body is said to be.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use chassis::Problem;

/// Refuses a body that is said to be something else than JSON. What `curl -d` says where it is told nothing, a form, is taken for JSON;
/// and so is a body of which nothing is said.
///
/// # Errors
/// 415.
pub(super) fn check(headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
    if body.is_empty() {
        return Ok(());
    }
    let refuse = |detail| Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().any(|value| !plain(value)) {
        return refuse("the body must not be compressed: send it without Content-Encoding");
    }
    let said = headers.get_all(header::CONTENT_TYPE).iter();
    if said.map(HeaderValue::as_bytes).all(is_json_or_unsaid) {
        return Ok(());
    }
    refuse("the body must be JSON: send the header Content-Type: application/json")
}

fn is_json_or_unsaid(kind: &[u8]) -> bool {
    let Ok(kind) = std::str::from_utf8(kind) else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(
        kind.as_str(),
        "application/json" | "application/x-www-form-urlencoded" | "text/plain" | "application/octet-stream"
    ) || (kind.starts_with("application/") && kind.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(headers: &[(header::HeaderName, &str)], body: &[u8]) -> Result<(), u16> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value")));
        check(&headers.collect(), body).map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn json_is_taken_and_what_is_something_else_is_not() {
        for taken in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.order+json",
            "text/plain",
            "application/x-www-form-urlencoded",
        ] {
            assert_eq!(status(&[(header::CONTENT_TYPE, taken)], b"{}"), Ok(()), "{taken}");
        }
        for not in
            ["application/xml", "multipart/form-data; boundary=x", "text/html", "image/png", "", "json"]
        {
            assert_eq!(status(&[(header::CONTENT_TYPE, not)], b"{}"), Err(415), "{not}");
            assert_eq!(status(&[(header::CONTENT_TYPE, not)], b""), Ok(()), "of nothing it does not matter");
        }
        assert_eq!(status(&[], b"{}"), Ok(()));
        assert_eq!(status(&[(header::CONTENT_ENCODING, "gzip")], b"{}"), Err(415));
        assert_eq!(status(&[(header::CONTENT_ENCODING, "identity")], b"{}"), Ok(()));
    }
}
