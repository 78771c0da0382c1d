//! The way to the orders service.

use std::time::Duration;

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header::AUTHORIZATION,
        uri::PathAndQuery,
    },
};
use bytes::Bytes;
use chassis::{identity::GATEWAY_CHECK, settings::TokenError};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use thiserror::Error;
use tokio::time::timeout;

use crate::settings::{Base, Settings};

/// An idle connection is closed before orders (HTTP_HEAD_TIMEOUT_MS), or a proxy between, would.
const IDLE: Duration = Duration::from_secs(5);

/// Orders gave no answer.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// No connection: the request never left.
    #[error("orders cannot be reached")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    /// The connection broke with the request under way.
    #[error("the connection to orders broke")]
    Broken(#[source] hyper_util::client::legacy::Error),
    /// It does not take the gateway's token.
    #[error("orders does not take the gateway's token: GATEWAY_TOKEN must be the same for both")]
    Token,
    /// It takes what anybody says of who asks.
    #[error(
        "orders takes requests from anybody: it has no GATEWAY_TOKEN, or is of a version that asks for none"
    )]
    Open,
    /// No answer in time.
    #[error("orders did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// A pool of connections to orders. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    base: Base,
    response_limit: Duration,
    /// By which orders knows the gateway.
    token: Option<HeaderValue>,
}

impl Upstream {
    /// Connects on demand.
    ///
    /// # Errors
    /// When the gateway's token cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, TokenError> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_millis(settings.connect_timeout_ms)));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let token = settings.gateway.token()?;
        // Checked to be visible ASCII.
        let token = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        let token = token.map(|mut token| {
            token.set_sensitive(true);
            token
        });
        Ok(Self {
            client,
            base: settings.orders_url.clone(),
            response_limit: Duration::from_millis(settings.response_timeout_ms),
            token,
        })
    }

    /// Time orders may take for an answer, and for each part of its body.
    pub fn response_limit(&self) -> Duration {
        self.response_limit
    }

    /// Sends a request; the body of the answer is passed on as it comes. Orders may take `longer` than for others before it answers.
    ///
    /// # Errors
    /// See [`UpstreamError`]; what orders answers is no error.
    pub async fn send(
        &self,
        method: Method,
        path: PathAndQuery,
        mut headers: HeaderMap,
        body: Bytes,
        longer: Duration,
    ) -> Result<Response<Body>, UpstreamError> {
        headers.extend(self.token.clone().map(|token| (AUTHORIZATION, token)));
        self.exchange(method, path, headers, body, longer).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: PathAndQuery,
        headers: HeaderMap,
        body: Bytes,
        longer: Duration,
    ) -> Result<Response<Body>, UpstreamError> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.base.0.clone())
            .path_and_query(path)
            .build()
            .expect("a scheme, an authority and a path make a URL");
        let limit = self.response_limit.saturating_add(longer);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        match timeout(limit, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response.map(Body::new)),
            Ok(Err(error)) if error.is_connect() => Err(UpstreamError::Unreachable(error)),
            Ok(Err(error)) => Err(UpstreamError::Broken(error)),
            Err(_) => Err(UpstreamError::TimedOut(limit)),
        }
    }

    /// Whether orders answers, and takes the gateway's token; `alone`: and takes nothing without it.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub async fn reachable(&self, alone: bool) -> Result<(), UpstreamError> {
        let path = || PathAndQuery::from_static(GATEWAY_CHECK);
        let none = (HeaderMap::new(), Bytes::new());
        let (headers, body) = none.clone();
        let answer = self.send(Method::GET, path(), headers, body, Duration::ZERO).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            return Err(UpstreamError::Token);
        }
        if alone {
            let (headers, body) = none;
            let answer = self.exchange(Method::GET, path(), headers, body, Duration::ZERO).await?;
            if answer.status() != StatusCode::UNAUTHORIZED {
                return Err(UpstreamError::Open);
            }
        }
        Ok(())
    }
}
