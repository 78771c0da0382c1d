//! One order: as it is, as it is once it has ended, and as it changes.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use chassis::{Problem, http::Params};
use futures_util::{Stream, stream};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout_at},
};

use super::{Api, RETRY_AFTER, caller::Caller, id_of, order};
use crate::{store::View, watch::Following};

/// Longest wait for an order's end, seconds.
const MAX_WAIT: u64 = 30;
/// Whoever follows an order hears something at least this often: by it both sides find out that the other is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// An order; with `wait`, as it is once it has ended, or after so many seconds.
pub(super) async fn show(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    caller: Caller,
    params: Params,
) -> Result<Json<View>, Problem> {
    params.only(&["wait"])?;
    let expected = format!("whole seconds from 0 to {MAX_WAIT}");
    let wait: Option<u64> = params.read("wait", &expected)?;
    if wait.is_some_and(|wait| wait > MAX_WAIT) {
        return Err(Problem::of_field(StatusCode::BAD_REQUEST, "wait", format!("must be {expected}")));
    }
    let id = id_of(path)?;
    let mut view = order(&api, &caller, id).await?;
    let Some(wait @ 1..) = wait else { return Ok(Json(view)) };
    let (_place, mut following) = (place(&api)?, api.watch.follow(id));
    let until = Instant::now() + Duration::from_secs(wait);
    let ended = async {
        while !view.status.is_final() {
            following.changed_from(view.version).await;
            match read(&api, &caller, &following).await {
                Ok(later) => view = later,
                Err(_) => sleep(again()).await,
            }
        }
    };
    // Where it has not, what is known is an answer too.
    let _ended = timeout_at(until, api.stop.clone().unless_fired(ended)).await;
    Ok(Json(view))
}

/// The order when it is this one's turn: a change is news to many at once.
async fn read(api: &Api, caller: &Caller, following: &Following) -> Result<View, Problem> {
    let _turn = following.turn().await;
    order(api, caller, following.order()).await
}

/// What cannot be read is asked for again after this, by each at a time of its own.
fn again() -> Duration {
    RETRY_AFTER / 2 + RETRY_AFTER.mul_f64(rand::random())
}

fn place(api: &Api) -> Result<OwnedSemaphorePermit, Problem> {
    let refuse = |_| Problem::unavailable("too many follow orders at this instance, try again", RETRY_AFTER);
    api.followers.clone().try_acquire_owned().map_err(refuse)
}

/// The events of an order as they become known, until it has ended: Server-Sent Events, whose ids count from 1.
pub(super) async fn events(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let id = id_of(path)?;
    let seen = last_seen(&headers)?;
    let (place, following) = (place(&api)?, api.watch.follow(id));
    let view = order(&api, &caller, id).await?;
    if view.status.is_final() && timeline(&view).len() < seen {
        // By this a browser knows that it need not connect again.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let tail = Tail {
        api,
        caller,
        following,
        seen,
        known: 0,
        next: Some(view),
        said: VecDeque::new(),
        ended: false,
        _place: place,
    };
    let alive = KeepAlive::new().interval(HEARTBEAT).text("heartbeat");
    let mut response = Sse::new(tail.stream()).keep_alive(alive).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn last_seen(headers: &HeaderMap) -> Result<usize, Problem> {
    let Some(given) = headers.get(LAST_EVENT_ID) else { return Ok(0) };
    let given = given.to_str().ok().and_then(|given| given.parse().ok());
    let reason = "must be the id of an event of this order, which is a number";
    given.ok_or_else(|| Problem::of_field(StatusCode::BAD_REQUEST, "Last-Event-ID", reason))
}

fn timeline(view: &View) -> &[serde_json::Value] {
    view.timeline.as_ref().and_then(serde_json::Value::as_array).map_or(&[], Vec::as_slice)
}

/// What somebody who follows an order has not been told yet.
struct Tail {
    api: Api,
    caller: Caller,
    following: Following,
    /// Events that were told.
    seen: usize,
    /// The version they are of.
    known: i64,
    /// The order, where it was read and not told.
    next: Option<View>,
    said: VecDeque<Event>,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut tail| async {
            let event = tail.event().await?;
            Some((Ok(event), tail))
        })
    }

    /// `None` at the end.
    async fn event(&mut self) -> Option<Event> {
        let stop = self.api.stop.clone();
        while self.said.is_empty() && !self.ended {
            let view = match self.next.take() {
                Some(view) => view,
                None => stop.clone().unless_fired(self.later()).await?,
            };
            self.tell(view);
        }
        self.said.pop_front()
    }

    /// The order, once it has changed.
    async fn later(&mut self) -> View {
        self.following.changed_from(self.known).await;
        loop {
            match read(&self.api, &self.caller, &self.following).await {
                Ok(view) => return view,
                // It is asked for again, as long as somebody listens.
                Err(_) => sleep(again()).await,
            }
        }
    }

    /// Each event that is new, under its number; then what has become of the order. The end has a number of its own, behind the last: so
    /// that whoever has not heard it is told when they come again.
    fn tell(&mut self, mut view: View) {
        let entries = timeline(&view);
        for (at, entry) in entries.iter().enumerate().skip(self.seen) {
            self.said.extend(Event::default().id((at + 1).to_string()).json_data(entry));
        }
        self.seen = self.seen.max(entries.len());
        view.timeline = None;
        self.known = view.version;
        self.ended = view.status.is_final();
        let order = Event::default().event("order");
        let order = if self.ended { order.id((self.seen + 1).to_string()) } else { order };
        self.said.extend(order.json_data(&view));
    }
}
