//! A request's way to orders and its answer's way back.

use std::time::Duration;

use axum::{
    body::Body as AnswerBody,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, uri::PathAndQuery},
    response::Response,
};
use bytes::Bytes;
use chassis::{
    Correlation, Problem,
    correlation::{CORRELATION_ID, TRACEPARENT},
    identity::{OPERATOR, SUBJECT},
    shutdown::Stop,
};

use crate::{
    auth::Identity,
    place::Place,
    relay::Relay,
    upstream::{Upstream, UpstreamError},
};

pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Orders says something at least every 15 seconds to those who follow one.
const SILENCE: Duration = Duration::from_secs(45);

/// By which orders knows a request that is sent again.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Headers of a request that orders should see, beside those of the correlation and of who asks.
const PASSED_UP: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ACCEPT,
    IDEMPOTENCY_KEY,
    HeaderName::from_static("last-event-id"),
];
/// Headers of an answer that the caller should see, beside the correlation id.
const PASSED_DOWN: [HeaderName; 7] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CACHE_CONTROL,
    header::LOCATION,
    header::LINK,
    header::RETRY_AFTER,
    HeaderName::from_static("idempotent-replayed"),
];

/// What a request is for, and what it means that its answer does not come.
pub(crate) enum Asked<'a> {
    /// To see something, after so many seconds at the most.
    Read {
        /// Seconds that orders may wait with its answer.
        wait: u64,
    },
    /// To follow an order, until this ends.
    Follow(Stop),
    /// To place an order, with this key.
    Place(&'a str),
    /// To cancel one.
    Cancel,
}

impl Asked<'_> {
    fn method(&self) -> Method {
        match self {
            Self::Read { .. } | Self::Follow(_) => Method::GET,
            Self::Place(_) | Self::Cancel => Method::POST,
        }
    }
}

/// What a request takes along.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    /// Where to.
    pub(crate) upstream: &'a Upstream,
    /// Its place among those in hand.
    pub(crate) place: Place,
    /// Who asks.
    pub(crate) who: Option<Identity>,
    /// What it belongs to.
    pub(crate) correlation: Correlation,
}

/// Passes a request on to orders and its answer back. Of the caller's headers orders sees those it has to, and never one by which the
/// gateway says who asks.
///
/// # Errors
/// Where no answer comes.
pub(crate) async fn forward(
    way: Way<'_>,
    asked: Asked<'_>,
    uri: Uri,
    given: &HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let Way { upstream, place, who, correlation } = way;
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut headers = HeaderMap::with_capacity(PASSED_UP.len() + 4);
    copy(&PASSED_UP, given, &mut headers);
    for (name, value) in [(CORRELATION_ID, &correlation.id), (TRACEPARENT, &correlation.traceparent)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    if let Some(Identity { subject, operator, .. }) = who {
        let subject = HeaderValue::from_bytes(subject.as_bytes());
        headers.insert(
            SUBJECT,
            subject
                .map_err(|_| Problem::new(StatusCode::UNAUTHORIZED, "the token's `sub` fits in no header"))?,
        );
        if operator {
            headers.insert(OPERATOR, HeaderValue::from_static("1"));
        }
    }
    let wait = match asked {
        Asked::Read { wait } => Duration::from_secs(wait),
        _ => Duration::ZERO,
    };
    let answer = upstream.send(asked.method(), path, headers, body, wait).await;
    let (mut parts, body) = answer.map_err(|error| problem(error, &asked))?.into_parts();
    if parts.status == StatusCode::UNAUTHORIZED {
        // It is the gateway that has the wrong token, and no caller can mend that.
        tracing::error!("orders does not take the gateway's token: GATEWAY_TOKEN must be the same for both");
        return Err(Problem::unavailable(
            "the gateway cannot talk to orders, nothing was done by this request",
            RETRY_AFTER,
        ));
    }
    let answered = std::mem::take(&mut parts.headers);
    copy(&PASSED_DOWN, &answered, &mut parts.headers);
    let relay = match asked {
        Asked::Follow(stop) if parts.status.is_success() => Relay::until(stop, body, place, SILENCE),
        _ => Relay::new(body, place, upstream.response_limit()),
    };
    Ok(Response::from_parts(parts, AnswerBody::new(relay)))
}

fn copy(names: &[HeaderName], from: &HeaderMap, to: &mut HeaderMap) {
    for name in names {
        // What is there twice is not made one here.
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}

fn problem(error: UpstreamError, asked: &Asked<'_>) -> Problem {
    let source = std::error::Error::source(&error).map(ToString::to_string);
    tracing::warn!(%error, source, "no answer from orders");
    match (error, asked) {
        (error @ UpstreamError::Unreachable(_), _) => {
            Problem::unavailable(format!("{error}, nothing was done by this request: try again"), RETRY_AFTER)
        }
        // No time to retry is named: whoever did just that, without the key, would order twice.
        (error, Asked::Place(key)) => {
            let unknown = "it is not known whether the order was taken";
            let detail = format!(
                "{error}: {unknown}. Send it again with the header `Idempotency-Key: {key}`, which it had"
            );
            Problem::new(StatusCode::GATEWAY_TIMEOUT, detail).coded("outcome-unknown")
        }
        (error, Asked::Cancel) => {
            let unknown = "it is not known whether the order was cancelled";
            let detail = format!("{error}: {unknown}. Look at it, or send this again: it is cancelled once");
            Problem::new(StatusCode::GATEWAY_TIMEOUT, detail).coded("outcome-unknown")
        }
        (error @ UpstreamError::Broken(_), Asked::Read { .. } | Asked::Follow(_)) => {
            Problem::unavailable(error.to_string(), RETRY_AFTER)
        }
        (error, Asked::Read { .. } | Asked::Follow(_)) => {
            Problem::new(StatusCode::GATEWAY_TIMEOUT, error.to_string())
        }
    }
}
