//! Errors of an HTTP interface as `application/problem+json` (RFC 9457).

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// The media type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// A problem names no more fields than these.
pub const MAX_FIELDS: usize = 16;

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's name in the request.
    pub field: Cow<'static, str>,
    /// What it must be, and what it is not.
    pub reason: String,
}

/// A problem; its correlation id is filled in by the layer that gives each request one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The response's status.
    pub status: StatusCode,
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
    kind: &'static str,
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
        Self { status, title: title.into(), detail: detail.into(), errors: Vec::new(), retry_after: None }
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
        Self::of_fields(status, vec![FieldError { field: field.into(), reason: reason.into() }])
    }

    fn of_fields(status: StatusCode, mut errors: Vec<FieldError>) -> Self {
        let more = errors.len().saturating_sub(MAX_FIELDS);
        errors.truncate(MAX_FIELDS);
        let mut detail: Vec<_> =
            errors.iter().map(|FieldError { field, reason }| format!("{field}: {reason}")).collect();
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
            kind: "about:blank",
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

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.render(None);
        response.extensions_mut().insert(self);
        response
    }
}

/// For a router's fallback: 404.
pub async fn not_found(uri: axum::http::Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

/// For a router's fallback: 405.
pub async fn method_not_allowed(method: axum::http::Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible here"))
}

#[cfg(test)]
mod tests;
