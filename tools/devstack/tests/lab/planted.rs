//! A verdict that cannot fail is worth nothing: what is planted is found and named. And whoever interrupts gets a verdict, or an end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use devstack::servers::postgres::connect;
use uuid::Uuid;

use crate::run::{Lab, report};

/// Orders that have ended, so that nobody touches them any more.
async fn ended(lab: &mut Lab) -> Result<()> {
    while lab.number("ended") < Some(20) {
        lab.says(" ended ").await?;
    }
    Ok(())
}

/// An order is taken away, another one is charged once more, a third one never ends, and an event stands where its cause is not yet.
async fn plant(lab: &Lab) -> Result<[Uuid; 3]> {
    let state = lab.state()?;
    let url = |name: &str| state.urls.get(name).with_context(|| format!("{name} is not known"));
    let orders = connect(url("ORDERS_DATABASE_URL")?).await?;
    let payments = connect(url("PAYMENTS_DATABASE_URL")?).await?;
    let rows = orders.query("select order_id from orders where state = 'COMPLETED' limit 3", &[]).await?;
    let [lost, twice, stuck]: [Uuid; 3] = rows
        .iter()
        .map(|row| row.get(0))
        .collect::<Vec<Uuid>>()
        .try_into()
        .ok()
        .context("three have ended")?;
    ensure!(orders.execute("delete from orders where order_id = $1", &[&lost]).await? == 1);
    ensure!(orders.execute("update orders set state = 'PAID' where order_id = $1", &[&stuck]).await? == 1);
    // What the table itself would refuse.
    payments.batch_execute("alter table charges drop constraint charges_pkey").await?;
    let again =
        "insert into charges select order_id, kind, amount_cents, 'again:' || order_id, 'ch_again', now()
                 from charges where order_id = $1 and kind = 'charge'";
    ensure!(payments.execute(again, &[&twice]).await? == 1);
    Ok([lost, twice, stuck])
}

#[tokio::test]
async fn what_was_planted_is_found_and_named() -> Result<()> {
    let mut lab = Lab::start(&["--for", "6s", "--faults", "slow-disk@1s+2s", "--settle", "5s"])?;
    ended(&mut lab).await?;
    let [lost, _, stuck] = plant(&lab).await?;
    let (code, printed, said) = lab.ends().await?;
    ensure!(code == 1, "it ended with {code}: {printed}\n{said}");
    let report = report(&printed)?;
    ensure!(report["verdict"] == "FAIL", "{printed}");
    ensure!(report["lost"] == serde_json::json!([lost.to_string()]), "{printed}");
    ensure!(report["charged_twice"] == 1, "{printed}");
    ensure!(report["stuck"] == serde_json::json!([format!("{stuck} is PAID")]), "{printed}");
    // And what was done was felt, where the system lets it be done.
    let note = report["faults"][0]["note"].as_str().context("it says what it did")?;
    ensure!(!note.starts_with("0 ") && note.ends_with("calls took 100 ms longer"), "{note}");
    let failed = report["failed"].to_string();
    for part in
        ["1 orders are lost", "1 orders are stuck", "1 orders were charged or given back twice", "no-order"]
    {
        ensure!(failed.contains(part), "`{part}` is not in {failed}");
    }
    Ok(())
}

#[tokio::test]
async fn interrupted_once_it_judges_and_twice_it_ends_and_leaves_nothing() -> Result<()> {
    // PostgreSQL stands still for as long as it would take, were it not interrupted.
    let words = ["--for", "10m", "--faults", "freeze:postgres@2s+60s,kill:kafka@9m", "--settle", "60s"];
    let mut lab = Lab::start(&words)?;
    lab.says("! freeze:postgres").await?;
    lab.interrupt()?;
    lab.says("judging what was done").await?;
    lab.says("the load is over").await?;
    let (code, printed, said) = lab.ends().await?;
    ensure!(code == 0, "it ended with {code}: {printed}\n{said}");
    let report = report(&printed)?;
    ensure!(report["interrupted"] == true && report["verdict"] == "PASS", "{printed}");
    let faults = &report["faults"];
    ensure!(faults[0]["began_s"].is_number() && faults[0]["lasted_s"].as_f64() < Some(50.0), "{printed}");
    ensure!(faults[1]["began_s"].is_null() && faults[1]["note"].is_string(), "{printed}");

    let mut lab = Lab::start(&words)?;
    lab.says("! freeze:postgres").await?;
    lab.interrupt()?;
    lab.says("judging what was done").await?;
    lab.interrupt()?;
    let (code, printed, said) = tokio::time::timeout(Duration::from_secs(60), lab.ends()).await??;
    ensure!(code == 130 && printed.is_empty(), "it ended with {code}: {printed}\n{said}");
    Ok(())
}

#[tokio::test]
async fn wrong_usage_is_told_before_anything_is_started() -> Result<()> {
    for (words, told) in [
        (&["--faults", "explode:payments@1s"][..], "there are: kill, freeze"),
        (&["--faults", "kill:payments@10s", "--for", "10s"], "begins when the load is over"),
        (&["--rate", "0"], "is no rate"),
        (&["--for", "soon"], "is no time"),
    ] {
        let (code, printed, said) = Lab::start(words)?.ends().await?;
        ensure!(code == 2 && printed.is_empty() && said.contains(told), "{words:?}: {code}: {printed}{said}");
    }
    Ok(())
}
