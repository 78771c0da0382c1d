//! The description of the interface against what is answered: every status that it names is produced here, and none besides; each
//! answer has the headers and the body that it says.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use axum::http::Method;
use chassis::shutdown::{Trigger, trigger};
use gateway::{openapi::document, operation::Operation};
use orders::{closing, intake, watch::Watch};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    schema,
    support::{Trial, UNLIMITED, api, client, gateway, place, serve, token},
};

/// What was produced.
#[derive(Default)]
struct Seen(BTreeSet<(&'static str, u16)>);

impl Seen {
    /// The answer has `status`, and is as it is described.
    async fn expect(&mut self, operation: Operation, status: u16, request: RequestBuilder) -> Value {
        let answer = request.header("x-correlation-id", "c-1").send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{operation:?}");
        let method = operation.method().as_str().to_ascii_lowercase();
        let said = &document()["paths"][operation.path()][&method]["responses"][status.to_string()];
        assert!(said.is_object(), "{operation:?} {status} is not described");
        self.0.insert((operation.path(), status));
        for (name, _) in said["headers"].as_object().expect("headers") {
            // A last page has no next one, and where there is no limit none is told.
            if !name.starts_with("RateLimit") && name != "Link" {
                assert!(answer.headers().contains_key(name.as_str()), "{operation:?} {status}: no {name}");
            }
        }
        assert_eq!(answer.headers()["x-correlation-id"], "c-1");
        body(answer, said).await
    }
}

/// Chunks that are none.
const MALFORMED: &str = "transfer-encoding: chunked\r\nx-correlation-id: c-1\r\n\r\nzz\r\n{}\r\n0\r\n\r\n";

impl Seen {
    /// A body that cannot be read is a problem as it is described.
    async fn malformed(&mut self, operation: Operation, by: &Asker, path: &str) {
        let mut stream = TcpStream::connect(by.gateway).await.expect("connects");
        let token = by.token.as_deref().expect("a token");
        let head = format!("POST {path} HTTP/1.1\r\nhost: f\r\nauthorization: Bearer {token}\r\n");
        stream.write_all(format!("{head}{MALFORMED}").as_bytes()).await.expect("written");
        let mut read = Vec::new();
        let end = timeout(Duration::from_secs(20), stream.read_to_end(&mut read)).await;
        end.expect("an end").expect("an answer");
        let text = String::from_utf8(read).expect("a text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 400 ") && head.contains("application/problem+json"), "{text}");
        let problem: Value = serde_json::from_str(body).expect("JSON");
        schema::check(&problem, &document()["components"]["schemas"]["Problem"]).expect("as it is described");
        self.0.insert((operation.path(), 400));
    }
}

async fn body(answer: Response, said: &Value) -> Value {
    let Some((kind, content)) = said["content"].as_object().and_then(|content| content.iter().next()) else {
        assert!(answer.bytes().await.expect("a body").is_empty());
        return Value::Null;
    };
    let given = answer.headers()["content-type"].to_str().expect("ASCII").to_owned();
    assert!(given.starts_with(kind.as_str()), "{given} is not {kind}");
    if !kind.contains("json") {
        return Value::Null;
    }
    let value: Value = answer.json().await.expect("JSON");
    schema::check(&value, &content["schema"]).unwrap_or_else(|wrong| panic!("{wrong}\n{value:#}"));
    value
}

/// Requests of one who has a token, at one gateway.
struct Asker {
    gateway: SocketAddr,
    token: Option<String>,
}

impl Asker {
    fn at(gateway: SocketAddr, who: &str) -> Self {
        Self { gateway, token: Some(token(who, &json!({}))) }
    }

    fn send(&self, method: Method, path: &str) -> RequestBuilder {
        let request = client().request(method, format!("http://{}{path}", self.gateway));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.send(Method::GET, path)
    }

    fn place(&self, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.send(Method::POST, "/place-order").body(body)
    }

    /// What each guarded operation gets, sent as it should be.
    fn each(&self, id: &str) -> [(Operation, RequestBuilder); 5] {
        [
            (Operation::PlaceOrder, self.place("")),
            (Operation::ListOrders, self.get("/orders")),
            (Operation::ShowOrder, self.get(&format!("/orders/{id}"))),
            (Operation::FollowOrder, self.get(&format!("/orders/{id}/events"))),
            (Operation::CancelOrder, self.send(Method::POST, &format!("/orders/{id}/cancel"))),
        ]
    }
}

/// An orders service that does not know what has become of anything.
async fn unsure(pool: deadpool_postgres::Pool) -> (SocketAddr, Trigger) {
    let (stop, listener) = trigger();
    let (door, mut jobs) = intake::door(8);
    let (closer, mut cancels) = closing::closer(8);
    tokio::spawn(async move {
        while let Some(job) = jobs.recv().await {
            let _gone = job.reply.send(Err(intake::Refusal::Unknown(job.order.order_id)));
        }
    });
    tokio::spawn(async move {
        while let Some(job) = cancels.recv().await {
            let _gone = job.reply.send(Err(closing::Refusal::Unknown));
        }
    });
    let api = api(door, closer, pool, Watch::default(), listener.clone());
    (serve(orders::http::app(api), Default::default(), listener).await, stop)
}

/// A body that does not come.
fn never() -> reqwest::Body {
    reqwest::Body::wrap_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>())
}

/// Ends an order as payment and delivery would.
async fn complete(trial: &Trial, id: &str) {
    let sql = "update orders set state = 'COMPLETED', version = version + 1, paid_cents = amount_cents, courier_id = 1,
               courier = 'A' where order_id = $1::text::uuid";
    let client = trial.pool.get().await.expect("a connection");
    assert_eq!(client.execute(sql, &[&id]).await.expect("a statement"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_status_that_is_described_is_produced_and_no_other() {
    let trial = Trial::start().await;
    let slow = [&UNLIMITED[..], &["--http-body-timeout-ms", "300"]].concat();
    let (address, _sound) = gateway(trial.orders, &slow).await;
    let mut seen = Seen::default();
    let kim = Asker::at(address, "kim");
    let soup = json!({"item": "soup"}).to_string();

    let placed = seen.expect(Operation::PlaceOrder, 202, kim.place(soup.clone())).await;
    let id = placed["order_id"].as_str().expect("an id").to_owned();
    seen.expect(Operation::PlaceOrder, 400, kim.place("{")).await;
    seen.expect(Operation::PlaceOrder, 403, kim.place(r#"{"item":"soup","customer_id":"lou"}"#)).await;
    seen.expect(Operation::PlaceOrder, 408, kim.place(never())).await;
    seen.expect(Operation::PlaceOrder, 413, kim.place(vec![b' '; 70_000])).await;
    let xml = kim.place("<order/>").header("content-type", "application/xml");
    seen.expect(Operation::PlaceOrder, 415, xml).await;
    seen.expect(Operation::PlaceOrder, 422, kim.place(r#"{"item":"","qty":1}"#)).await;

    let page = seen.expect(Operation::ListOrders, 200, kim.get("/orders?limit=1")).await;
    assert_eq!(page["orders"][0]["order_id"], id.as_str());
    seen.expect(Operation::ListOrders, 400, kim.get("/orders?before=1")).await;
    seen.expect(Operation::ListOrders, 403, kim.get("/orders?customer_id=lou")).await;
    seen.expect(Operation::ListOrders, 422, kim.get("/orders?status=LOST")).await;

    let path = format!("/orders/{id}");
    let order = seen.expect(Operation::ShowOrder, 200, kim.get(&path)).await;
    assert_eq!(order["timeline"].as_array().map(Vec::len), Some(1));
    seen.expect(Operation::ShowOrder, 400, kim.get(&format!("{path}?wait=soon"))).await;
    seen.expect(Operation::ShowOrder, 404, Asker::at(address, "lou").get(&path)).await;
    seen.expect(Operation::FollowOrder, 404, Asker::at(address, "lou").get(&format!("{path}/events"))).await;
    seen.expect(Operation::FollowOrder, 200, kim.get(&format!("{path}/events"))).await;
    let odd = kim.get(&format!("{path}/events")).header("last-event-id", "x");
    seen.expect(Operation::FollowOrder, 400, odd).await;

    let cancel = |who: &Asker, id: &str| who.send(Method::POST, &format!("/orders/{id}/cancel"));
    seen.expect(Operation::CancelOrder, 404, cancel(&Asker::at(address, "lou"), &id)).await;
    seen.expect(Operation::CancelOrder, 408, cancel(&kim, &id).body(never())).await;
    seen.malformed(Operation::CancelOrder, &kim, &format!("/orders/{id}/cancel")).await;
    seen.expect(Operation::CancelOrder, 413, cancel(&kim, &id).body(vec![b' '; 70_000])).await;
    seen.expect(Operation::CancelOrder, 422, cancel(&kim, &id).body("{\"why\":1}")).await;
    let cancelled = seen.expect(Operation::CancelOrder, 200, cancel(&kim, &id)).await;
    assert_eq!(cancelled["status"], "CANCELLED");
    let ended = kim.get(&format!("{path}/events")).header("last-event-id", "3");
    seen.expect(Operation::FollowOrder, 204, ended).await;
    let delivered = place(address, &token("kim", &json!({})), &json!({"item": "soup"})).await;
    complete(&trial, &delivered).await;
    seen.expect(Operation::CancelOrder, 409, cancel(&kim, &delivered)).await;

    let stranger = Asker { gateway: address, token: None };
    for (operation, request) in stranger.each(&id) {
        seen.expect(operation, 401, request).await;
    }
    for (name, path) in [(Operation::OpenApi, "/openapi.json"), (Operation::Docs, "/docs")] {
        seen.expect(name, 200, stranger.get(path)).await;
    }
    let (limited, _limit) = gateway(trial.orders, &["--rate-limit", "1", "--rate-limit-burst", "1"]).await;
    let many = Asker::at(limited, "many");
    many.get("/orders").send().await.expect("an answer");
    for (operation, request) in many.each(&id) {
        seen.expect(operation, 429, request).await;
    }
    let (nobody, _there) = gateway(SocketAddr::from(([127, 0, 0, 1], 1)), &UNLIMITED).await;
    for (operation, request) in Asker::at(nobody, "kim").each(&id) {
        seen.expect(operation, 503, request).await;
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let impatient = [&UNLIMITED[..], &["--response-timeout-ms", "100"]].concat();
    let (waiting, _for_it) = gateway(silent.local_addr().expect("bound"), &impatient).await;
    for (operation, request) in Asker::at(waiting, "kim").each(&id) {
        seen.expect(operation, 504, request).await;
    }
    let (unsure, _about) = unsure(trial.pool.clone()).await;
    let (unknown, _outcome) = gateway(unsure, &UNLIMITED).await;
    let again = place(address, &token("kim", &json!({})), &json!({"item": "soup"})).await;
    for (operation, request) in Asker::at(unknown, "kim").each(&again) {
        if matches!(operation, Operation::PlaceOrder | Operation::CancelOrder) {
            let problem = seen.expect(operation, 500, request).await;
            assert_eq!(problem["code"], "outcome-unknown");
        }
    }

    let all = Operation::ALL.iter();
    let described: BTreeSet<_> =
        all.flat_map(|one| one.statuses().iter().map(|status| (one.path(), *status))).collect();
    assert_eq!(seen.0, described);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_described_of_a_request_is_what_is_taken() {
    let trial = Trial::start().await;
    let (address, _stop) = gateway(trial.orders, &UNLIMITED).await;
    let kim = Asker::at(address, "kim");
    let schema = &document()["components"]["schemas"]["PlaceOrder"];
    // Whole and broken ones: the schema and the service say the same of each.
    let bodies = [
        json!({"item": "soup"}),
        json!({"item": "x".repeat(200), "quantity": 70, "amount_cents": 0, "customer_id": "kim"}),
        json!({"item": "soup", "quantity": null, "amount_cents": null, "payment_token": null}),
        json!({"item": "soup", "quantity": 0}),
        json!({"item": "soup", "quantity": 1001}),
        json!({"item": "soup", "quantity": 1.5}),
        json!({"item": "soup", "amount_cents": -1}),
        json!({"item": "soup", "amount_cents": "12"}),
        json!({"item": "x".repeat(201)}),
        json!({"item": ""}),
        json!({"item": 7}),
        json!({"quantity": 1}),
        json!({"item": "soup", "more": 1}),
        json!({"item": "soup", "payment_token": "x".repeat(65)}),
        json!({"item": "soup", "customer_id": ""}),
        json!([]),
    ];
    for body in bodies {
        let answer =
            kim.place(body.to_string()).timeout(Duration::from_secs(10)).send().await.expect("an answer");
        let taken = answer.status() == 202;
        assert_eq!(taken, schema::check(&body, schema).is_ok(), "{body}: {}", answer.status());
    }
}
