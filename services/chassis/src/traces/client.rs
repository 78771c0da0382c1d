//! Posts to a collector, with the HTTP client that is here already.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use tokio::time::timeout;

/// A collector's answer to one post comes within this.
const ANSWER: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(2);
/// Of an answer as much is read, bytes.
const READ: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Poster(Client<HttpConnector, Full<Bytes>>);

impl Poster {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector))
    }
}

impl HttpClient for Poster {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let post = async {
                let (head, body) = self.0.request(request.map(Full::new)).await?.into_parts();
                let body = Limited::new(body, READ).collect().await?.to_bytes();
                Ok(Response::from_parts(head, body))
            };
            timeout(ANSWER, post).await?
        })
    }
}
