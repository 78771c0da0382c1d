//! Names that follow one request through every service: `X-Correlation-ID`, and W3C `traceparent`.

use std::convert::Infallible;

use actors::trace::TraceParent;
use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
    middleware::Next,
    response::Response,
};
use tracing::Instrument;
use uuid::Uuid;

use crate::problem::Problem;

/// The header of the correlation id, in requests and responses.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// The header of the W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What a request carries on to all that it sets off. An extractor where [`layer`] is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correlation {
    /// 1 to 128 visible ASCII characters.
    pub id: String,
    /// A valid `traceparent`.
    pub traceparent: String,
}

impl Correlation {
    /// What is done in the conversation `id`, in a trace of its own.
    pub fn of_id(id: String) -> Self {
        Self { id, traceparent: make_traceparent() }
    }

    /// Takes both from the headers; makes what is missing or malformed.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let id = text(CORRELATION_ID).filter(|id| valid_id(id)).map_or_else(make_id, str::to_owned);
        let traceparent = text(TRACEPARENT)
            .filter(|parent| is_traceparent(parent))
            .map_or_else(make_traceparent, str::to_owned);
        Self { id, traceparent }
    }
}

fn make_id() -> String {
    Uuid::now_v7().to_string()
}

fn make_traceparent() -> String {
    // The upper half of a random UUID: the lower one begins with bits that are always the same, by which samplers choose.
    let random = || Uuid::new_v4().as_u64_pair().0;
    let trace_id = u128::from(random()) << 64 | u128::from(random());
    TraceParent { trace_id, span_id: random(), flags: 1 }.to_string()
}

fn valid_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether this is a W3C `traceparent` of the version there is.
pub(crate) fn is_traceparent(parent: &str) -> bool {
    TraceParent::parse(parent).is_some()
}

/// Middleware for `axum::middleware::from_fn`: gives each request a [`Correlation`], a span with its id, and echoes the
/// id in the response, in a problem's body too.
pub async fn layer(mut request: Request, next: Next) -> Response {
    let correlation = Correlation::of(request.headers());
    let span = tracing::info_span!(
        "request",
        correlation_id = correlation.id,
        method = %request.method(),
        path = request.uri().path(),
    );
    request.extensions_mut().insert(correlation.clone());
    let mut response = next.run(request).instrument(span).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let headers = std::mem::take(response.headers_mut());
        response = problem.render(Some(&correlation.id));
        for (name, value) in &headers {
            if !response.headers().contains_key(name) && name != axum::http::header::CONTENT_LENGTH {
                response.headers_mut().append(name, value.clone());
            }
        }
    }
    if let Ok(value) = HeaderValue::from_str(&correlation.id) {
        response.headers_mut().insert(CORRELATION_ID, value);
    }
    response
}

impl<S: Sync> FromRequestParts<S> for Correlation {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(|| Self::of(&parts.headers)))
    }
}

#[cfg(test)]
mod tests;
