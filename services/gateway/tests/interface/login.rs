//! Who asks, and how often, from outside.

use clap::Parser;
use gateway::operation::Operation;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{TOKEN, Trial, UNLIMITED, client, gateway, open_gateway, place, serve, token};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn customers_see_their_own_orders_whatever_else_they_send() {
    let trial = Trial::start().await;
    let (address, _stop) = gateway(trial.orders, &UNLIMITED).await;
    let (kim, lou, boss) =
        (token("kim", &json!({})), token("lou", &json!({})), token("boss", &json!({"role": "operator"})));
    let kims = place(address, &kim, &json!({"item": "soup"})).await;
    let lous = place(address, &lou, &json!({"item": "tea"})).await;
    let list = async |token: &str, more: &[(&str, &str)]| {
        let mut request = client().get(format!("http://{address}/orders")).bearer_auth(token);
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let page: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        let orders = page["orders"].as_array().cloned().unwrap_or_default();
        orders.iter().map(|order| order["order_id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(&kim, &[]).await, std::slice::from_ref(&kims));
    assert_eq!(list(&boss, &[]).await, [lous.clone(), kims.clone()]);
    // What the gateway says to orders nobody else can say through it.
    let claims = [("x-backburner-subject", "lou"), ("x-backburner-operator", "1")];
    assert_eq!(list(&kim, &claims).await, std::slice::from_ref(&kims));
    for path in ["", "/events", "?wait=1"] {
        let answer =
            client().get(format!("http://{address}/orders/{lous}{path}")).bearer_auth(&kim).send().await;
        assert_eq!(answer.expect("an answer").status(), 404, "{path}");
    }
    // Around the gateway there is no way.
    for headers in [vec![], vec![("x-backburner-operator", "1"), ("x-backburner-subject", "boss")]] {
        let mut request = client().get(format!("http://{}/orders", trial.orders));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        assert_eq!(request.send().await.expect("an answer").status(), 401);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_one_customer_is_nothing_to_another() {
    let trial = Trial::start().await;
    let (address, _stop) = gateway(trial.orders, &UNLIMITED).await;
    let send = async |who: &str, item: &str| {
        let request =
            client().post(format!("http://{address}/place-order")).bearer_auth(token(who, &json!({})));
        let request = request.header("idempotency-key", "k-1").json(&json!({ "item": item }));
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let (status, first) = send("kim", "soup").await;
    assert_eq!(status, 202);
    assert_eq!(send("kim", "soup").await.1["order_id"], first["order_id"]);
    assert_eq!(send("kim", "tea").await.0, 422);
    let (status, others) = send("lou", "tea").await;
    assert_eq!(status, 202, "{others}");
    assert_ne!(others["order_id"], first["order_id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_too_much_is_told_so_and_nobody_else_is() {
    let trial = Trial::start().await;
    let (address, _stop) = gateway(trial.orders, &["--rate-limit", "1", "--rate-limit-burst", "5"]).await;
    let ask = async |who: Option<&str>| {
        let mut request = client().get(format!("http://{address}/orders"));
        if let Some(who) = who {
            request = request.bearer_auth(token(who, &json!({})));
        }
        request.send().await.expect("an answer")
    };
    let mut refused = None;
    for n in 0..8 {
        let answer = ask(Some("kim")).await;
        let left = answer.headers()["ratelimit"].to_str().expect("ASCII").to_owned();
        assert_eq!(answer.headers()["ratelimit-policy"], "\"caller\";q=5;w=5");
        match answer.status().as_u16() {
            200 => assert!(n < 7 && left.starts_with("\"caller\";r="), "{n}: {left}"),
            429 => {
                assert!(n >= 5, "one in {n}");
                refused = Some(answer);
                break;
            }
            other => panic!("{other}"),
        }
    }
    let refused = refused.expect("the limit is reached");
    let after: u64 = refused.headers()["retry-after"].to_str().expect("ASCII").parse().expect("seconds");
    assert!((1..=5).contains(&after), "{after}");
    assert_eq!(refused.json::<Value>().await.expect("JSON")["code"], "too-many-requests");
    assert_eq!(ask(Some("lou")).await.status(), 200);
    // Guesses count for where they come from.
    let mut guesses = Vec::new();
    for _ in 0..8 {
        guesses.push(ask(None).await.status().as_u16());
    }
    assert_eq!((guesses[0], guesses[7]), (401, 429), "{guesses:?}");
}

/// A browser asks first whether a page of another origin may; the answer is no, by saying nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_of_another_origin_is_let_in() {
    let trial = Trial::start().await;
    for (address, _stop) in
        [gateway(trial.orders, &UNLIMITED).await, open_gateway(trial.orders, &UNLIMITED).await]
    {
        for operation in Operation::ALL {
            let url = format!("http://{address}{}", operation.path().replace("{id}", "0"));
            let asked = client()
                .request(Method::OPTIONS, &url)
                .header("origin", "https://elsewhere.example")
                .header("access-control-request-method", "POST");
            let answer = asked.send().await.expect("an answer");
            assert_eq!(answer.status(), 405, "{url}");
            let sent =
                client().request(operation.method(), &url).header("origin", "https://elsewhere.example");
            for answer in [answer, sent.send().await.expect("an answer")] {
                let allowed =
                    answer.headers().keys().find(|name| name.as_str().starts_with("access-control"));
                assert_eq!(allowed, None, "{url}");
            }
        }
    }
}

/// A gateway whose requests would be refused, or in front of an orders that believes anybody, is not ready, and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_orders_does_not_know_is_not_ready() {
    let trial = Trial::start().await;
    let older = axum::Router::new().route("/livez", axum::routing::get(async || "alive"));
    let (_stop, listener) = chassis::shutdown::trigger();
    let older = serve(older, Default::default(), listener).await;
    let says = async |orders: std::net::SocketAddr, token: &str, alone: bool| {
        let url = format!("http://{orders}");
        let args = ["gateway", "--orders-url", &url, "--gateway-token", token];
        let settings = gateway::Settings::try_parse_from(args).expect("sound settings");
        let upstream = gateway::upstream::Upstream::new(&settings).expect("sound settings");
        upstream.reachable(alone).await.err().map(|error| error.to_string()).unwrap_or_default()
    };
    for alone in [true, false] {
        assert_eq!(says(trial.orders, TOKEN, alone).await, "");
        assert!(says(trial.orders, "another", alone).await.contains("does not take the gateway's token"));
    }
    assert!(says(older, TOKEN, true).await.contains("from anybody"));
    assert_eq!(
        says(older, TOKEN, false).await,
        "",
        "where nobody has to say who they are it does not matter"
    );
}
