//! One peer: how long it may take to ask and to listen, and when it is left.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body, http::Request};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tower::ServiceExt;

use super::{arriving::Arriving, limits::Limits};
use crate::shutdown::Listener;

/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// A peer that takes less than this in the time for writing has stopped reading.
const SOME: usize = 16 << 10;
/// When the server stops, or all places are taken, a peer that is not being served is left after this time.
const GRACE: Duration = Duration::from_secs(1);

/// Who asks: an extension of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Serves one connection until it ends, or has to.
pub(super) async fn serve(
    stream: TcpStream,
    peer: Peer,
    app: Router,
    limits: Limits,
    mut crowded: watch::Receiver<bool>,
    stop: Listener,
) {
    let progress = Arc::new(Progress::new());
    let io = TokioIo::new(Watched {
        stream,
        progress: progress.clone(),
        limit: limits.write,
        stall: None,
        taken: 0,
    });
    let watched = progress.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, progress) = (app.clone(), watched.clone());
        async move {
            let in_hand = InHand::new(&progress);
            let mut request = Arriving::of(request, progress, limits.body);
            request.extensions_mut().insert(peer);
            let Ok(answer) = app.oneshot(request).await;
            Ok::<_, Infallible>(answer.map(|body| Answer { body, _in_hand: in_hand }))
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(MAX_HEAD);
    let mut connection = pin!(http.serve_connection(io, service));
    tokio::select! {
        ended = connection.as_mut() => return say(ended),
        () = stop.fired() => {}
        () = progress.lingers(&mut crowded) => return,
    }
    let stopped = Instant::now();
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection => say(ended),
        () = progress.is_left(stopped) => {}
    }
}

fn say(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        tracing::debug!(%error, source, "a connection ended early");
    }
}

/// How far a connection is.
#[derive(Debug)]
pub(super) struct Progress(Mutex<State>);

#[derive(Debug)]
struct State {
    /// A request is with the application, or its answer on the way.
    in_hand: bool,
    /// All of that request is here.
    complete: bool,
    /// When that changed.
    since: Instant,
    /// The peer has not taken what is written for it since then.
    stalled: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self(Mutex::new(State { in_hand: false, complete: false, since: Instant::now(), stalled: None }))
    }

    pub(super) fn set(&self, in_hand: bool, complete: bool) {
        let mut state = self.0.lock();
        (state.in_hand, state.complete, state.since) = (in_hand, complete, Instant::now());
    }

    fn stalled(&self, stalled: bool) {
        let mut state = self.0.lock();
        state.stalled = stalled.then(|| state.stalled.unwrap_or_else(Instant::now));
    }

    /// Ends when all places are taken and this peer keeps one without a whole request.
    async fn lingers(&self, crowded: &mut watch::Receiver<bool>) {
        loop {
            // An error means that the server is gone, and this with it.
            if crowded.wait_for(|crowded| *crowded).await.is_err() {
                return std::future::pending().await;
            }
            let state = self.0.lock().lingers();
            if state {
                return;
            }
            sleep(GRACE / 4).await;
        }
    }

    /// Ends when there is nothing to wait for any more, the server having stopped at `stopped`.
    async fn is_left(&self, stopped: Instant) {
        sleep_until(stopped + GRACE).await;
        while !self.0.lock().is_left() {
            sleep(GRACE / 20).await;
        }
    }
}

impl State {
    fn lingers(&self) -> bool {
        !(self.in_hand && self.complete) && self.stalled.is_none() && self.since.elapsed() >= GRACE
    }

    fn is_left(&self) -> bool {
        match self.stalled {
            Some(since) => since.elapsed() >= GRACE,
            None => !(self.in_hand && self.complete),
        }
    }
}

/// A request is with the application, until its answer is written or given up.
#[derive(Debug)]
struct InHand(Arc<Progress>);

impl InHand {
    fn new(progress: &Arc<Progress>) -> Self {
        progress.set(true, false);
        Self(progress.clone())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.set(false, false);
    }
}

/// The answer's body.
struct Answer {
    body: body::Body,
    _in_hand: InHand,
}

impl Body for Answer {
    type Data = body::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose peer has to take what is written.
struct Watched {
    stream: TcpStream,
    progress: Arc<Progress>,
    limit: Duration,
    stall: Option<Pin<Box<Sleep>>>,
    /// Bytes taken since the clock was set.
    taken: usize,
}

impl Watched {
    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.taken += bytes;
                if self.taken >= SOME {
                    self.settle();
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => {
                self.progress.stalled(true);
                let (limit, taken) = (self.limit, &mut self.taken);
                let stall = self.stall.get_or_insert_with(|| {
                    *taken = 0;
                    Box::pin(sleep(limit))
                });
                ready!(stall.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not take its answer")))
            }
        }
    }

    /// Much, or all, was taken.
    fn settle(&mut self) {
        self.taken = 0;
        if self.stall.take().is_some() {
            self.progress.stalled(false);
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// All that was to be written has been.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.settle();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
