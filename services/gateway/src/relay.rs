//! The body of an answer on its way from orders to the caller.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body as AnswerBody, Bytes};
use chassis::shutdown::Stop;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::place::Place;

/// Passes a body on as it comes, with a limit on each wait for orders. The request's place is free when it has ended.
pub(crate) struct Relay {
    body: AnswerBody,
    limit: Duration,
    /// Set while orders is waited for.
    late: Option<Pin<Box<Sleep>>>,
    /// It has no end of its own: when to end it.
    stop: Option<Stop>,
    _place: Place,
}

impl Relay {
    pub(crate) fn new(body: AnswerBody, place: Place, limit: Duration) -> Self {
        Self { body, limit, late: None, stop: None, _place: place }
    }

    /// The same of a body that goes on until `stop`: it ends then as if orders had ended it, so that whoever follows an order does
    /// so through another gateway.
    pub(crate) fn until(stop: Stop, body: AnswerBody, place: Place, limit: Duration) -> Self {
        Self { stop: Some(stop), ..Self::new(body, place, limit) }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                if self.stop.as_mut().is_some_and(|stop| stop.as_mut().poll(cx).is_ready()) {
                    return Poll::Ready(None);
                }
                let limit = self.limit;
                let late = self.late.get_or_insert_with(|| Box::pin(sleep(limit)));
                if late.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let error = format!("orders sent nothing of its answer for {} ms", limit.as_millis());
                tracing::warn!(error, "an answer was cut off");
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(frame) => {
                self.late = None;
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
