//! What our HTTP servers have in common.
//!
//! - `server`: accepts, and stops. `connection`: one peer, and how long it may take. `limits`: how long that is, and how many.
//! - `arriving`: a request's body on its way; `body`: as a whole. `params`: its parameters. `measure`: what is counted.

mod arriving;
mod body;
mod connection;
mod limits;
mod measure;
mod params;
mod server;

use axum::{Router, extract::DefaultBodyLimit, middleware};

pub use self::{
    body::{BODY_LIMIT, Body},
    connection::Peer,
    limits::Limits,
    measure::{REQUEST_SECONDS, REQUESTS, measured},
    params::Params,
    server::{Doors, Server},
};
use crate::{correlation, problem};

/// Dresses a router: correlation ids, problems for what is not there, the body limit.
pub fn dress<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(correlation::layer))
}

#[cfg(test)]
mod tests;
