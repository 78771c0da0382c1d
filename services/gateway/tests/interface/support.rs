//! Orders, and gateways in front of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actors::{KafkaSettings, Publisher};
use chassis::{
    http::{Limits, Server},
    identity::Secret,
    shutdown::{Listener, Trigger, trigger},
};
use clap::Parser;
use deadpool_postgres::Pool;
use gateway::{Settings, auth::Auth, http::Edge, upstream::Upstream};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use orders::{closing, http::Api, intake, request::Accepts, watch::Watch};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub(crate) const SECRET: &str = "a secret of more than thirty-two bytes";
pub(crate) const TOKEN: &str = "between-gateway-and-orders";
/// What nothing here takes longer than.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// An orders service with its database; everything ends with it.
pub(crate) struct Trial {
    pub(crate) orders: SocketAddr,
    pub(crate) pool: Pool,
    watch: Watch,
    _stop: Trigger,
}

impl Trial {
    pub(crate) async fn start() -> Self {
        let pool = chassis::testing::migrated("orders", orders::migrations()).await;
        let (stop, listener) = trigger();
        // A producer of a Kafka that is not there: everything stays in the outbox.
        let kafka = || KafkaSettings { brokers: "127.0.0.1:1".into(), properties: Vec::new() };
        let nowhere = || Publisher::start(&kafka()).expect("Kafka need not answer");
        let (door, intake) = intake::open(pool.clone(), nowhere(), 100_000).await.expect("opens");
        let (closer, ending) =
            closing::open(pool.clone(), nowhere(), Duration::from_secs(3_600)).await.expect("opens");
        tokio::spawn(intake.run(listener.clone(), Duration::ZERO));
        tokio::spawn(ending.run(listener.clone(), Duration::ZERO));
        let watch = Watch::default();
        tokio::spawn(watch.clone().run(pool.clone(), listener.clone()));
        let api = api(door, closer, pool.clone(), watch.clone(), listener.clone());
        let orders = serve(orders::http::app(api), Limits::default(), listener).await;
        Self { orders, pool, watch, _stop: stop }
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let client = self.pool.get().await.expect("a connection");
        client.query_one(sql, &[]).await.expect("a query").get(0)
    }

    /// Orders that somebody follows.
    pub(crate) fn followed(&self) -> usize {
        self.watch.followed()
    }

    /// What there is of orders, keys and events.
    pub(crate) async fn stored(&self) -> i64 {
        self.count("select (select count(*) from orders) + (select count(*) from idempotency) + (select count(*) from outbox)")
            .await
    }
}

/// Routes of orders that take requests with the gateway's token alone.
pub(crate) fn api(
    door: intake::Door,
    closer: closing::Closer,
    pool: Pool,
    watch: Watch,
    stop: Listener,
) -> Api {
    let accepts = Accepts { test_tokens: true, max_amount_cents: 1_000_000 };
    let followers = Arc::new(Semaphore::new(2_000));
    Api { door, pool, closer, accepts, watch, followers, stop, token: Some(Secret::new(TOKEN)) }
}

pub(crate) async fn serve(app: axum::Router, limits: Limits, stop: Listener) -> SocketAddr {
    Server::start(([127, 0, 0, 1], 0).into(), app, limits, stop).await.expect("a free port").address
}

/// A gateway that asks for tokens; it stops with its trigger.
pub(crate) async fn gateway(orders: SocketAddr, more: &[&str]) -> (SocketAddr, Trigger) {
    let login = ["--jwt-hs256-secret", SECRET, "--jwt-issuer", "login", "--jwt-audience", "food"];
    open_gateway(orders, &[&login, more].concat()).await
}

/// One that lets everybody in.
pub(crate) async fn open_gateway(orders: SocketAddr, more: &[&str]) -> (SocketAddr, Trigger) {
    let url = format!("http://{orders}");
    let args = ["gateway", "--orders-url", &url, "--gateway-token", TOKEN, "--connect-timeout-ms", "500"];
    let settings = Settings::try_parse_from(args.iter().chain(more)).expect("sound settings");
    let auth = Auth::new(&settings.auth).expect("sound settings");
    let upstream = Upstream::new(&settings).expect("sound settings");
    let (stop, listener) = trigger();
    let app = gateway::http::app(Edge::of(&settings, upstream, auth, listener.clone()));
    (serve(app, settings.http.limits(), listener).await, stop)
}

/// Without a limit of requests.
pub(crate) const UNLIMITED: [&str; 2] = ["--rate-limit", "0"];

/// A token of `subject`, with these claims besides.
pub(crate) fn token(subject: &str, more: &Value) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let mut claims = json!({"sub": subject, "iss": "login", "aud": "food", "exp": now + 600});
    for (name, value) in more.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))
        .expect("signed")
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(LIMIT).build().expect("a client")
}

/// Places an order; its id.
pub(crate) async fn place(gateway: SocketAddr, token: &str, body: &Value) -> String {
    let request = client().post(format!("http://{gateway}/place-order")).bearer_auth(token).json(body);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let placed: Value = answer.json().await.expect("JSON");
    placed["order_id"].as_str().expect("an id").to_owned()
}
