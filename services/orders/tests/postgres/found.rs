//! Orders that are looked for, and whose they are.

use std::time::Duration;

use axum::{body::Body, http::Request};
use chassis::identity::{GATEWAY_CHECK, OPERATOR, SUBJECT, Secret};
use http_body_util::BodyExt;
use orders::http::{Api, app};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt;

use crate::support::Trial;

/// What `who` gets: as the gateway would say it; a name that ends in `!` is an operator's.
async fn ask(api: &Api, who: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header("x-correlation-id", "conv-1");
    let mut request = request.header("authorization", "Bearer t-1");
    let name = who.trim_end_matches('!');
    if !name.is_empty() {
        request = request.header(SUBJECT, name);
    }
    if name != who {
        request = request.header(OPERATOR, "1");
    }
    let request = request.body(Body::from(body.to_owned())).expect("valid");
    let response = app(api.clone()).oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn place(api: &Api, who: &str, body: &str) -> String {
    let (status, placed) = ask(api, who, "POST", "/orders", body).await;
    assert_eq!(status, 202, "{placed}");
    placed["order_id"].as_str().expect("an id").to_owned()
}

async fn list(api: &Api, who: &str, query: &str) -> Vec<String> {
    let (status, page) = ask(api, who, "GET", &format!("/orders?{query}"), "").await;
    assert_eq!(status, 200, "{page}");
    let id = |order: &Value| order["order_id"].as_str().expect("an id").to_owned();
    page["orders"].as_array().expect("a list").iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_found_by_customer_and_by_conversation_page_by_page() {
    let trial = Trial::start(10_000).await;
    let api = Api { token: Some(Secret::new("t-1")), ..trial.api() };
    let mut kims = Vec::new();
    for n in 0..5 {
        kims.insert(0, place(&api, "", r#"{"item":"soup","customer_id":"kim & zoë"}"#).await);
        place(&api, "", &json!({"item": "tea", "customer_id": format!("c-{n}")}).to_string()).await;
    }
    let named = "customer_id=kim+%26+zo%C3%AB";
    assert_eq!(list(&api, "", named).await, kims);
    assert_eq!(list(&api, "", "correlation_id=conv-1").await.len(), 10);
    assert_eq!(list(&api, "", &format!("correlation_id=conv-1&{named}")).await, kims);
    for nobodys in ["correlation_id=conv-2", "customer_id=nobody", "customer_id=c-1&status=PAID"] {
        assert!(list(&api, "", nobodys).await.is_empty(), "{nobodys}");
    }
    let (mut next, mut seen) = (format!("/orders?{named}&limit=2"), Vec::new());
    loop {
        let (status, page) = ask(&api, "", "GET", &next, "").await;
        assert_eq!(status, 200, "{page}");
        seen.extend(page["orders"].as_array().expect("a list").iter().map(|o| o["order_id"].clone()));
        let Some(more) = page["next"].as_str() else { break };
        next = more.to_owned();
    }
    assert_eq!(seen, kims);
    for wrong in ["customer_id=", "customer_id=a%00b", "correlation_id=%0a", "customer=kim"] {
        assert_eq!(ask(&api, "", "GET", &format!("/orders?{wrong}"), "").await.0, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_placed_before_it_was_noted_is_found_too_and_noted_once_by_however_many() {
    let pool = chassis::testing::migrated("orders", orders::migrations()).await;
    let client = pool.get().await.expect("a connection");
    let undo = "drop trigger note_orders on orders; drop function note_orders; drop table orders_by_customer;
                drop table orders_by_correlation; drop table orders_noted";
    client.batch_execute(undo).await.expect("as it was");
    let insert = "insert into orders (order_id, state, version, customer_id, item, quantity, amount_cents, correlation_id,
                                      timeline, created_at, updated_at)
                  select gen_random_uuid(), 'PENDING', 1, 'kim', 'soup', 1, 1, 'conv-1', '[]', now(), now() from generate_series(1, $1)";
    client.execute(insert, &[&5_000_i32]).await.expect("orders");
    let migration = include_str!("../../../../migrations/orders/V4__finding.sql");
    client.batch_execute(migration).await.expect("migrates");
    // By an older version, which knows nothing of those tables, while it is done.
    let older = async { client.execute(insert, &[&10_i32]).await.expect("orders") };
    let noting = || orders::housekeeping::note_orders(pool.clone());
    let all = async { tokio::join!(noting(), older) };
    timeout(Duration::from_secs(60), all).await.expect("it ends");
    timeout(Duration::from_secs(60), noting()).await.expect("another one has nothing to do");
    for table in ["orders_by_customer", "orders_by_correlation"] {
        let count = format!("select count(*) from {table}");
        let count: i64 = client.query_one(&count, &[]).await.expect("a query").get(0);
        assert_eq!(count, 5_010, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_has_their_own_orders_and_an_operator_all() {
    let trial = Trial::start(10_000).await;
    let api = Api { token: Some(Secret::new("t-1")), ..trial.api() };
    let kims = place(&api, "kim", r#"{"item":"soup"}"#).await;
    let lous = place(&api, "lou", r#"{"item":"soup","customer_id":"lou"}"#).await;
    let (status, refused) =
        ask(&api, "kim", "POST", "/orders", r#"{"item":"soup","customer_id":"lou"}"#).await;
    assert_eq!((status, &refused["code"]), (403, &json!("not-yours")));
    let for_lou = place(&api, "op!", r#"{"item":"soup","customer_id":"lou"}"#).await;

    assert_eq!(list(&api, "kim", "").await, std::slice::from_ref(&kims));
    assert_eq!(list(&api, "lou", "").await, [for_lou.clone(), lous.clone()]);
    assert_eq!(list(&api, "op!", "").await.len(), 3);
    assert_eq!(list(&api, "kim", "correlation_id=conv-1").await, std::slice::from_ref(&kims));
    assert_eq!(ask(&api, "kim", "GET", "/orders?customer_id=lou", "").await.0, 403);

    for (who, theirs) in [("kim", &kims), ("lou", &for_lou), ("op!", &kims), ("", &lous)] {
        let (status, view) = ask(&api, who, "GET", &format!("/orders/{theirs}"), "").await;
        assert_eq!((status, view["order_id"].as_str()), (200, Some(theirs.as_str())), "{who}");
    }
    for (method, path) in [("GET", ""), ("GET", "?wait=1"), ("GET", "/events"), ("POST", "/cancel")] {
        let (status, refused) = ask(&api, "kim", method, &format!("/orders/{lous}{path}"), "").await;
        assert_eq!(
            (status, &refused["code"]),
            (404, &json!("no-order")),
            "{method} {path}: as if it were not there"
        );
    }
    assert_eq!(ask(&api, "", "GET", &format!("/orders/{lous}"), "").await.1["status"], "PENDING");
    assert_eq!(ask(&api, "lou", "POST", &format!("/orders/{lous}/cancel"), "").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_a_token_nobody_gets_by_without_it() {
    let trial = Trial::start(10_000).await;
    let api = Api { token: Some(Secret::new("t-1")), ..trial.api() };
    let send = async |path: &str, token: Option<&str>| {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let request = request.body(Body::empty()).expect("valid");
        app(api.clone()).oneshot(request).await.expect("infallible").status().as_u16()
    };
    for none in [None, Some("Bearer t-2"), Some("t-1")] {
        assert_eq!(send("/orders", none).await, 401, "{none:?}");
    }
    assert_eq!(send("/orders", Some("Bearer t-1")).await, 200);
    assert_eq!(send("/livez", None).await, 200);
    assert_eq!((send(GATEWAY_CHECK, None).await, send(GATEWAY_CHECK, Some("Bearer t-1")).await), (401, 204));
    // Where there is none, whoever says who asks could be anybody.
    let open = trial.api();
    for name in [SUBJECT, OPERATOR] {
        let request = Request::get("/orders").header(name, "1").body(Body::empty()).expect("valid");
        assert_eq!(app(open.clone()).oneshot(request).await.expect("infallible").status(), 401);
    }
}
