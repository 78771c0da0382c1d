//! Requests that cannot be orders.

use anyhow::{Context, Result, ensure};
use devstack::testing::{self, Trial};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::SETTINGS;

/// The request is refused with `status` and a problem that names the request.
async fn is_refused(trial: &Trial, body: Vec<u8>, status: StatusCode) -> Result<Value> {
    let correlation = format!("edge-{}", uuid::Uuid::new_v4());
    let request = Client::builder().no_proxy().build()?.post(format!("{}/place-order", trial.gateway.url()));
    let request = request.header("content-type", "application/json").header("x-correlation-id", &correlation);
    let answer = request.body(body).send().await?;
    ensure!(answer.status() == status, "answered {}, not {status}", answer.status());
    let header =
        |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let kind = header("content-type").context("no content type")?;
    ensure!(kind.starts_with("application/problem+json"), "the content type is {kind}");
    ensure!(
        header("x-correlation-id").as_deref() == Some(correlation.as_str()),
        "another correlation id came back"
    );
    let problem: Value = answer.json().await?;
    ensure!(problem["status"] == status.as_u16(), "{problem}");
    ensure!(problem["correlation_id"] == correlation.as_str(), "{problem}");
    ensure!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    Ok(problem)
}

async fn orders(trial: &Trial) -> Result<i64> {
    let orders = devstack::servers::postgres::connect(trial.stack.url("ORDERS_DATABASE_URL")?).await?;
    Ok(orders.query_one("select count(*) from orders", &[]).await?.get(0))
}

#[test]
fn a_negative_quantity_is_refused_and_named() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let before = orders(trial).await?;
        let body = serde_json::to_vec(&json!({ "item": "pizza", "quantity": -1 }))?;
        let problem = is_refused(trial, body, StatusCode::UNPROCESSABLE_ENTITY).await?;
        ensure!(problem.to_string().contains("quantity"), "the field is not named: {problem}");
        ensure!(orders(trial).await? == before, "an order was placed");
        Ok(())
    })
}

#[test]
fn a_body_of_two_megabytes_is_too_large() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let before = orders(trial).await?;
        let body = serde_json::to_vec(&json!({ "item": "x".repeat(2 << 20) }))?;
        is_refused(trial, body, StatusCode::PAYLOAD_TOO_LARGE).await?;
        ensure!(orders(trial).await? == before, "an order was placed");
        Ok(())
    })
}

#[test]
fn a_body_that_is_no_json_is_refused() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        is_refused(trial, b"{".to_vec(), StatusCode::BAD_REQUEST).await.map(drop)
    })
}

#[test]
fn a_post_without_a_body_places_a_default_order() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let answer = trial.gateway.post(Vec::new()).await?;
        ensure!(answer.status() == StatusCode::ACCEPTED, "answered {}", answer.status());
        let location = answer.headers().get("location").context("no Location")?.to_str()?.to_owned();
        let placed: Value = answer.json().await?;
        ensure!(placed["status"] == "PENDING", "{placed}");
        let id = placed["order_id"].as_str().context("no order_id")?;
        ensure!(location == format!("/orders/{id}"), "Location is {location}");
        let order = trial.gateway.get(&location).await?;
        ensure!(order["order_id"] == id && order["item"].is_string(), "{order}");
        Ok(())
    })
}
