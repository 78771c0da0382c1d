//! Who may change something through the admin port.
//!
//! Looking is free to whoever reaches it. A change is asked for with POST, and a web page in the browser of somebody who reaches
//! the port must not be able to ask: it cannot send our header and type of content to another origin without being refused first,
//! and where it makes the port look like its own (by a name of its own that leads here), the browser still says that it is a page.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    identity::{self, Secret},
    problem::Problem,
};

/// The header that each POST must have, whatever it says.
pub const ADMIN: HeaderName = HeaderName::from_static("x-backburner-admin");

/// Headers that browsers add to what a page sends, and that no page can leave out.
const PAGES: [HeaderName; 2] = [header::ORIGIN, HeaderName::from_static("sec-fetch-site")];

/// What is asked of a POST to the admin port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// The token that it must carry.
    token: Option<Secret>,
}

impl Guard {
    /// One that also asks for a token.
    pub fn with_token(token: &str) -> Self {
        Self { token: Some(Secret::new(token)) }
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let refuse = |status, detail: &str| Err(Problem::new(status, detail));
        if PAGES.iter().any(|name| headers.contains_key(name)) {
            return refuse(
                StatusCode::FORBIDDEN,
                "a web page may not do this: send it with curl or another client",
            );
        }
        if !headers.contains_key(ADMIN) {
            return refuse(
                StatusCode::FORBIDDEN,
                "send the header X-Backburner-Admin: 1, which no web page can",
            );
        }
        let json = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let json = json.is_some_and(|kind| {
            kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
        });
        if !json {
            return refuse(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send the header Content-Type: application/json",
            );
        }
        let Some(token) = &self.token else { return Ok(()) };
        if token.is_in(headers) {
            return Ok(());
        }
        let detail = "this admin port has a token (ADMIN_TOKEN): send the header Authorization: Bearer TOKEN";
        refuse(StatusCode::UNAUTHORIZED, detail)
    }
}

/// Middleware: lets through what changes nothing, and what the guard finds in order.
pub(super) async fn layer(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD)
        && let Err(refused) = guard.check(request.headers())
    {
        let status = refused.status;
        tracing::warn!(status = status.as_u16(), "a request to the admin port was refused");
        return match status {
            StatusCode::UNAUTHORIZED => identity::unauthorized(refused, "Bearer"),
            _ => refused.into_response(),
        };
    }
    next.run(request).await
}
