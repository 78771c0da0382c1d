//! Errors of an HTTP interface as `application/problem+json` (RFC 9457).

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// The media type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What the `type` of every problem begins with; its code follows.
pub const TYPE: &str = "urn:backburner:problem:";

/// A problem names no more fields than these.
pub const MAX_FIELDS: usize = 16;

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's name in the request.
    pub field: Cow<'static, str>,
    /// What it must be, and what it is not.
    pub reason: String,
    /// Where it is in the body, as a JSON pointer (RFC 6901); none for a header or a parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

impl FieldError {
    /// Of a field of the body's object.
    pub fn in_body(field: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        let field = field.into();
        let pointer = format!("/{}", field.replace('~', "~0").replace('/', "~1"));
        Self { field, reason: reason.into(), pointer: Some(pointer) }
    }
}

/// A problem; its correlation id is filled in by the layer that gives each request one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The response's status.
    pub status: StatusCode,
    /// The kind of problem, for programs: the same each time it occurs, in all versions. `docs/problems.md` has them.
    pub code: &'static str,
    /// The kind of problem, the same each time it occurs.
    pub title: Cow<'static, str>,
    /// This occurrence: what, why, what to do.
    pub detail: String,
    /// The fields that are wrong, if that is what the problem is.
    pub errors: Vec<FieldError>,
    /// When it makes sense to try again; sent in whole seconds, at least 1.
    pub retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Wire<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    code: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// A problem with the status's own name as its title.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        let (code, detail) = (code_of(status), detail.into());
        Self { status, code, title: title.into(), detail, errors: Vec::new(), retry_after: None }
    }

    /// The same problem under a code of its own.
    #[must_use]
    pub fn coded(self, code: &'static str) -> Self {
        Self { code, ..self }
    }

    /// 422, naming the field.
    pub fn invalid(field: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self::of_field(StatusCode::UNPROCESSABLE_ENTITY, field, reason)
    }

    /// 422, naming every field that is wrong, [`MAX_FIELDS`] at the most.
    pub fn invalid_fields(errors: Vec<FieldError>) -> Self {
        Self::of_fields(StatusCode::UNPROCESSABLE_ENTITY, errors)
    }

    /// What is wrong with one field.
    pub fn of_field(
        status: StatusCode,
        field: impl Into<Cow<'static, str>>,
        reason: impl Into<String>,
    ) -> Self {
        Self::of_fields(
            status,
            vec![FieldError { field: field.into(), reason: reason.into(), pointer: None }],
        )
    }

    fn of_fields(status: StatusCode, mut errors: Vec<FieldError>) -> Self {
        let more = errors.len().saturating_sub(MAX_FIELDS);
        errors.truncate(MAX_FIELDS);
        let mut detail: Vec<_> =
            errors.iter().map(|FieldError { field, reason, .. }| format!("{field}: {reason}")).collect();
        if more > 0 {
            detail.push(format!("{more} more"));
        }
        Self { errors, ..Self::new(status, detail.join("; ")) }
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// The response, with the correlation id in its body.
    pub fn render(&self, correlation_id: Option<&str>) -> Response {
        let wire = Wire {
            kind: &format!("{TYPE}{}", self.code),
            code: self.code,
            title: &self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            correlation_id,
            errors: &self.errors,
        };
        let body = serde_json::to_vec(&wire).expect("strings and numbers always serialise");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs_f64().ceil().max(1.0) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The code of problems that have none of their own.
fn code_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not-found",
        405 => "method-not-allowed",
        408 => "request-timeout",
        409 => "conflict",
        413 => "payload-too-large",
        415 => "unsupported-media-type",
        422 => "invalid-fields",
        429 => "too-many-requests",
        503 => "unavailable",
        504 => "no-answer",
        500.. => "internal-error",
        _ => "bad-request",
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.render(None);
        response.extensions_mut().insert(self);
        response
    }
}

/// Characters of a path that are said again.
const MAX_PATH: usize = 200;

/// For a router's fallback: 404.
pub async fn not_found(uri: axum::http::Uri) -> Problem {
    let path: String = uri.path().chars().take(MAX_PATH).collect();
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}"))
}

/// For a router's fallback: 405.
pub async fn method_not_allowed(method: Method) -> Problem {
    // Of those that somebody made up there are any, and of any length.
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let named = if known.contains(&method) { method.as_str() } else { "this method" };
    let detail = format!("{named} is not possible here: the header `Allow` says what is");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

#[cfg(test)]
mod tests;
