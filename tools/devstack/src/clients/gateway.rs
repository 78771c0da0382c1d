//! A customer of the platform: what tests, demo and bench ask the gateway.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use reqwest::{Client, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clients::topics::partition_of;

/// States in which nothing more happens to an order.
pub const TERMINAL: [&str; 2] = ["COMPLETED", "CANCELLED"];

/// Whoever repeats a request waits this long for each answer.
const TRY: Duration = Duration::from_secs(3);

/// The gateway, over HTTP.
#[derive(Clone, Debug)]
pub struct Gateway {
    url: String,
    http: Client,
}

/// An order as the gateway shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Order {
    /// Its id.
    pub order_id: Uuid,
    /// PENDING, PAID, REFUNDING, COMPLETED or CANCELLED.
    #[serde(alias = "state")]
    pub status: String,
    /// Why it was cancelled.
    #[serde(default)]
    pub reason: Option<String>,
    /// Its events, oldest first.
    #[serde(default)]
    pub timeline: Vec<Moment>,
}

/// An event in an order's timeline.
#[derive(Clone, Debug, Deserialize)]
pub struct Moment {
    /// Its type.
    pub event_type: String,
    /// The service that said it.
    pub service: String,
    /// When orders received or emitted it, RFC 3339.
    pub recorded_at: chrono::DateTime<chrono::Utc>,
}

impl Order {
    /// Whether nothing more will happen to it.
    pub fn is_terminal(&self) -> bool {
        TERMINAL.contains(&self.status.as_str())
    }

    /// The types of its events, oldest first.
    pub fn events(&self) -> Vec<&str> {
        self.timeline.iter().map(|moment| moment.event_type.as_str()).collect()
    }
}

impl Gateway {
    /// The gateway at `url`, asked over at most `connections` connections that are kept.
    pub fn new(url: String, connections: usize) -> Result<Self> {
        let http = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(connections)
            .tcp_nodelay(true)
            .build()?;
        Ok(Self { url, http })
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `POST /place-order` with any body.
    pub async fn post(&self, body: Vec<u8>) -> Result<Response> {
        self.post_as(body, &Uuid::new_v4().to_string(), None).await
    }

    /// The same with a correlation id, and maybe an idempotency key.
    pub async fn post_as(&self, body: Vec<u8>, correlation: &str, key: Option<&str>) -> Result<Response> {
        let request = self.http.post(format!("{}/place-order", self.url)).body(body);
        let mut request =
            request.header("content-type", "application/json").header("x-correlation-id", correlation);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.send().await.context("POST /place-order was not answered")
    }

    /// Places an order of `amount_cents` paid with `token`; its id once it is accepted.
    pub async fn place(&self, token: &str, amount_cents: i64) -> Result<Uuid> {
        self.place_as(token, amount_cents, &Uuid::new_v4().to_string()).await
    }

    /// The same with a correlation id of the caller's choice.
    pub async fn place_as(&self, token: &str, amount_cents: i64, correlation: &str) -> Result<Uuid> {
        self.place_with(token, amount_cents, correlation, None).await
    }

    async fn place_with(
        &self,
        token: &str,
        amount_cents: i64,
        correlation: &str,
        key: Option<&str>,
    ) -> Result<Uuid> {
        let body =
            json!({ "item": "Margherita pizza", "amount_cents": amount_cents, "payment_token": token });
        let answer = self.post_as(serde_json::to_vec(&body)?, correlation, key).await?;
        let status = answer.status();
        let text = answer.text().await?;
        if status != reqwest::StatusCode::ACCEPTED {
            bail!("POST /place-order answered {status}: {text}");
        }
        let placed: Order = serde_json::from_str(&text).with_context(|| format!("not an order: {text}"))?;
        Ok(placed.order_id)
    }

    /// The same with a key, sent once.
    pub async fn place_keyed(&self, token: &str, amount_cents: i64) -> Result<Uuid> {
        let key = Uuid::new_v4().to_string();
        self.place_with(token, amount_cents, &key, Some(&key)).await
    }

    /// Places one order: sends it again and again, always with the same key, while the platform does not say that it has it, up to
    /// `limit`.
    pub async fn place_eventually(&self, token: &str, amount_cents: i64, limit: Duration) -> Result<Uuid> {
        self.place_counted(token, amount_cents, limit).await.map(|(order, _)| order)
    }

    /// The same, with how often it was sent.
    pub async fn place_counted(
        &self,
        token: &str,
        amount_cents: i64,
        limit: Duration,
    ) -> Result<(Uuid, usize)> {
        let mut sent = 0;
        let (start, key) = (Instant::now(), Uuid::new_v4().to_string());
        loop {
            sent += 1;
            let tried = self.place_with(token, amount_cents, &key, Some(&key));
            let answer = tokio::time::timeout(TRY, tried).await;
            match answer.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", TRY.as_secs()))) {
                Ok(id) => return Ok((id, sent)),
                Err(error) if start.elapsed() > limit => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Places orders until each of the `partitions` of their topic has one, all of it within `limit`.
    pub async fn place_on_each(&self, partitions: i32, limit: Duration) -> Result<Vec<Uuid>> {
        let start = Instant::now();
        let mut placed = Vec::new();
        let mut missing: BTreeSet<i32> = (0..partitions).collect();
        while !missing.is_empty() {
            let left = limit.saturating_sub(start.elapsed());
            let order = self.place_eventually("tok_ok", 1_000, left).await?;
            missing.remove(&partition_of(order.to_string().as_bytes(), partitions));
            placed.push(order);
        }
        Ok(placed)
    }

    /// The order as it is now.
    pub async fn order(&self, id: Uuid) -> Result<Order> {
        let answer = self.http.get(format!("{}/orders/{id}", self.url)).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("GET /orders/{id} answered {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("not an order: {text}"))
    }

    /// Waits until the order is in `state`.
    pub async fn until(&self, id: Uuid, state: &str, limit: Duration) -> Result<Order> {
        let start = Instant::now();
        loop {
            let order = self.order(id).await?;
            if order.status == state {
                return Ok(order);
            }
            if order.is_terminal() || start.elapsed() > limit {
                let reason = order.reason.as_deref().unwrap_or("no reason");
                bail!("order {id} is {} ({reason}) after {:?}, not {state}", order.status, start.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Cancels an order: what is answered, and its status.
    pub async fn cancel(&self, id: Uuid) -> Result<(u16, Value)> {
        let answer = self.http.post(format!("{}/orders/{id}/cancel", self.url)).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    /// Waits until the order waits for a dead letter.
    pub async fn stalled(&self, id: Uuid, limit: Duration) -> Result<Value> {
        let start = Instant::now();
        loop {
            let order = self.get(&format!("/orders/{id}")).await?;
            if !order["stalled"].is_null() {
                return Ok(order);
            }
            if start.elapsed() > limit {
                bail!("order {id} is not stalled after {limit:?}: {order}");
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Any other resource, as JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }
}
