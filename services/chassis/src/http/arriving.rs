//! A request's body while it arrives: for how long it may, and what becomes of the rest that nobody wants.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body,
    http::{HeaderValue, Request, Version, header::EXPECT, request::Parts},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::connection::Progress;

/// A body that nobody wants is still taken up to this size, in bytes.
const UNWANTED: usize = 16 << 20;

/// The body of a request did not come in time.
#[derive(Debug)]
pub(super) struct TooSlow(Duration);

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the body did not arrive within {} ms", self.0.as_millis())
    }
}

impl std::error::Error for TooSlow {}

/// The request's body, for as long as it may take.
pub(super) struct Arriving {
    /// Until it is dropped.
    body: Option<Incoming>,
    progress: Option<Arc<Progress>>,
    limit: Duration,
    /// When it is too late, and the clock once it is needed: most bodies come with their heads.
    deadline: Instant,
    late: Option<Pin<Box<Sleep>>>,
    /// The peer sends it: at once, or since it was told to.
    sent: bool,
}

impl Arriving {
    /// The request with such a body, which takes `limit` at the most.
    pub(super) fn of(
        request: Request<Incoming>,
        progress: Arc<Progress>,
        limit: Duration,
    ) -> Request<body::Body> {
        let (head, body) = request.into_parts();
        let mut arriving = Self {
            progress: Some(progress),
            limit,
            deadline: Instant::now() + limit,
            late: None,
            sent: !waits(&head),
            body: Some(body),
        };
        if arriving.is_end_stream() {
            arriving.arrived();
        }
        Request::from_parts(head, body::Body::new(arriving))
    }

    fn arrived(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.set(true, true);
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        // Whoever answers without the rest of it has all that is needed.
        self.arrived();
        let unwanted = |body: &Incoming| {
            let least = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
            !body.is_end_stream() && least <= UNWANTED
        };
        if self.sent
            && let Some(body) = self.body.take().filter(unwanted)
        {
            tokio::spawn(discard(body, self.deadline));
        }
    }
}

/// Whether the peer asks before it sends the body.
fn waits(head: &Parts) -> bool {
    let asks = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    head.version > Version::HTTP_10 && head.headers.get(EXPECT).is_some_and(asks)
}

/// Takes the rest of a body that is answered already. Closing the connection over it would have the kernel reset it, and
/// the peer, which is still writing, would lose the answer. Ends with the connection, too.
async fn discard(body: Incoming, deadline: Instant) {
    let rest = async {
        let (mut body, mut taken) = (pin!(body), 0);
        while taken < UNWANTED
            && let Some(Ok(frame)) = body.frame().await
        {
            taken += frame.data_ref().map_or(0, body::Bytes::len);
        }
    };
    // However it ended: what is still to come is cut off.
    let _cut_off = timeout_at(deadline, rest).await;
}

impl Body for Arriving {
    type Data = body::Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.sent = true;
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            let deadline = self.deadline;
            let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            ready!(late.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Box::new(TooSlow(self.limit)))));
        };
        if frame.is_none() || self.is_end_stream() {
            self.arrived();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}
