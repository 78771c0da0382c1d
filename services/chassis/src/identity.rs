//! Who asks, from the gateway to the services behind it: as headers that only the gateway sets, since it passes on none of a
//! caller's but those it knows, and beside a token by which the services know the gateway.

use std::fmt;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use openssl::sha::sha256;

use crate::problem::Problem;

/// Who asks: the `sub` of their token. Not there while nobody has to say who they are.
pub const SUBJECT: HeaderName = HeaderName::from_static("x-backburner-subject");
/// There where they see to all orders.
pub const OPERATOR: HeaderName = HeaderName::from_static("x-backburner-operator");

/// Where a service says whether it takes the gateway's token: 204 or 401.
pub const GATEWAY_CHECK: &str = "/gateway-check";

/// A token that is asked for. Of it only a digest is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Of this token.
    pub fn new(token: &str) -> Self {
        Self(sha256(token.as_bytes()))
    }

    /// Whether these headers carry it, as `Authorization: Bearer TOKEN`. Takes as long for one that is nearly right as for any other:
    /// digests are compared, which are of one length and cannot be guessed letter by letter.
    pub fn is_in(self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(|given| openssl::memcmp::eq(&sha256(given), &self.0))
    }
}

/// What a request says after `Authorization: Bearer`, if it says so once.
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (given.next(), given.next()) else { return None };
    let (scheme, token) = only.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// 401, with the header that says how to do better.
pub fn unauthorized(problem: Problem, challenge: &'static str) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

/// Middleware: lets through who has the token. Where there is none, everybody is let through but who says who asks: that could be anybody.
pub async fn only_with(State(secret): State<Option<Secret>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let believed = match secret {
        Some(secret) => secret.is_in(headers),
        None => !headers.contains_key(SUBJECT) && !headers.contains_key(OPERATOR),
    };
    if believed {
        return next.run(request).await;
    }
    tracing::warn!(
        has_a_token = secret.is_some(),
        "a request was refused: it is not by the gateway, as far as can be told"
    );
    let detail = "requests come through the gateway, by a token that both have (GATEWAY_TOKEN)";
    unauthorized(Problem::new(StatusCode::UNAUTHORIZED, detail), "Bearer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_only_whole_and_once() {
        let secret = Secret::new("s3cret");
        let headers = |values: &[&str]| {
            let pair = |value: &&str| (header::AUTHORIZATION, value.parse().expect("a value"));
            let mut headers = HeaderMap::new();
            for (name, value) in values.iter().map(pair) {
                headers.append(name, value);
            }
            headers
        };
        for good in ["Bearer s3cret", "bearer s3cret"] {
            assert!(secret.is_in(&headers(&[good])), "{good}");
        }
        for bad in [
            "Bearer s3cre",
            "Bearer s3cret ",
            "Bearer  s3cret",
            "Basic s3cret",
            "s3cret",
            "Bearer",
            "Bearer ",
        ] {
            assert!(!secret.is_in(&headers(&[bad])), "{bad}");
        }
        assert!(!secret.is_in(&headers(&["Bearer s3cret", "Bearer s3cret"])));
        assert!(!secret.is_in(&HeaderMap::new()));
        assert!(!format!("{secret:?}").contains("s3"));
    }
}
