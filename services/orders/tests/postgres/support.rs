//! A database of its own for each test, on the server that the test run provides.

use std::{sync::Arc, time::Duration};

use actors::{KafkaSettings, Publisher};
use chassis::{
    Correlation,
    shutdown::{Listener, Trigger, trigger},
};
use deadpool_postgres::Pool;
use orders::{
    closing::{self, Closer},
    http::Api,
    idempotency::Key,
    intake::{self, Door, Placed, Refusal},
    request::{Accepts, Request},
    watch::Watch,
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

/// A pool on a migrated database.
pub(crate) async fn database() -> Pool {
    chassis::testing::migrated("orders", orders::migrations()).await
}

/// A producer of a Kafka that is not there: everything stays in the outbox.
pub(crate) fn nowhere() -> Publisher {
    let kafka = KafkaSettings { brokers: "127.0.0.1:1".into(), properties: Vec::new() };
    Publisher::start(&kafka).expect("Kafka need not answer")
}

/// An intake at work.
pub(crate) struct Trial {
    pub(crate) door: Door,
    pub(crate) pool: Pool,
    pub(crate) closing: Trigger,
    pub(crate) task: JoinHandle<bool>,
    pub(crate) closer: Closer,
    pub(crate) ending: JoinHandle<bool>,
    pub(crate) watch: Watch,
    pub(crate) stop: Listener,
}

/// What may be ordered here.
pub(crate) const ACCEPTS: Accepts = Accepts { test_tokens: false, max_amount_cents: 1_000_000 };

/// Those who may follow an order at a time.
pub(crate) const FOLLOWERS: usize = 8;

/// An hour in which nothing is over its time.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);

impl Trial {
    pub(crate) async fn start(outbox_limit: usize) -> Self {
        Self::with_time_out(outbox_limit, LONG).await
    }

    /// One in which orders may take so long.
    pub(crate) async fn with_time_out(outbox_limit: usize, time_out: Duration) -> Self {
        let pool = database().await;
        let (door, intake) = intake::open(pool.clone(), nowhere(), outbox_limit).await.expect("opens");
        let (closing, listener) = trigger();
        let limit = Duration::from_millis(100);
        let task = tokio::spawn(intake.run(listener.clone(), limit));
        let (closer, ending) = closing::open(pool.clone(), nowhere(), time_out).await.expect("opens");
        let ending = tokio::spawn(ending.run(listener.clone(), limit));
        let watch = Watch::default();
        tokio::spawn(watch.clone().run(pool.clone(), listener.clone()));
        Self { door, pool, closing, task, closer, ending, watch, stop: listener }
    }

    /// The routes.
    pub(crate) fn api(&self) -> Api {
        let (watch, stop) = (self.watch.clone(), self.stop.clone());
        Api { watch, stop, ..api(self.door.clone(), self.closer.clone(), self.pool.clone()) }
    }

    /// Begins to place an order.
    pub(crate) fn place(&self) -> JoinHandle<Result<Uuid, Refusal>> {
        let door = self.door.clone();
        tokio::spawn(async move { place(&door).await })
    }

    pub(crate) async fn ids(&self, sql: &str) -> Vec<Uuid> {
        // Connections that were cut a moment ago may still be in the pool.
        let mut stale = self.pool.status().max_size;
        loop {
            let client = self.pool.get().await.expect("a connection");
            match client.query(sql, &[]).await {
                Ok(rows) => return rows.iter().map(|row| row.get(0)).collect(),
                Err(error) if stale > 0 && was_cut(&error) => stale -= 1,
                Err(error) => panic!("a query: {error:?}"),
            }
        }
    }

    pub(crate) async fn orders(&self) -> Vec<Uuid> {
        self.ids("select order_id from orders order by 1").await
    }

    /// The orders that the events in the outbox are about.
    pub(crate) async fn announced(&self) -> Vec<Uuid> {
        self.ids("select convert_from(key, 'UTF8')::uuid from outbox order by 1").await
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let client = self.pool.get().await.expect("a connection");
        client.query_one(sql, &[]).await.expect("a query").get(0)
    }
}

fn was_cut(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN)
}

pub(crate) async fn place(door: &Door) -> Result<Uuid, Refusal> {
    place_with(door, None, br#"{"item":"soup","quantity":2}"#).await.map(|placed| placed.order_id)
}

pub(crate) async fn place_with(door: &Door, key: Option<Key>, body: &[u8]) -> Result<Placed, Refusal> {
    let correlation = Correlation { id: "c-1".into(), traceparent: "00-a-b-01".into() };
    let request = Request::parse(body, ACCEPTS).expect("sound");
    door.place(request, key, correlation).await
}

/// Routes of an instance that has stopped: nobody follows an order there.
pub(crate) fn api(door: Door, closer: Closer, pool: Pool) -> Api {
    let (_, stop) = trigger();
    let followers = Arc::new(Semaphore::new(FOLLOWERS));
    Api { door, closer, pool, accepts: ACCEPTS, watch: Watch::default(), followers, stop, token: None }
}
