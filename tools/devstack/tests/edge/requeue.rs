//! A dead letter put back once its cause is gone.

use anyhow::{Context, Result, ensure};
use contracts::topics::PAYMENTS_GROUP;
use devstack::{
    testing::{self, SOON, Trial},
    topology::Role,
};
use serde_json::Value;

use crate::SETTINGS;

const LIMIT: &str = "PROVIDER_MAX_AMOUNT_CENTS";

async fn outcomes(trial: &Trial, id: &str) -> Result<Vec<String>> {
    let shown = trial.inspector.json(&["show", id]).await?;
    let history = shown.first().and_then(|letter| letter["history"].as_array()).context("no history")?;
    Ok(history.iter().filter_map(|line: &Value| line["outcome"].as_str()).map(str::to_owned).collect())
}

async fn requeue(trial: &Trial, id: &str) -> Result<()> {
    let output = trial.inspector.run(&["requeue", id, "--execute", "--wait", "--force"]).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "the inspector ended with {}: {said}", output.status);
    Ok(())
}

#[test]
fn a_requeued_payment_is_applied_once_and_then_already_applied() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        // As if the provider had lowered what it takes since orders was told.
        trial.stack.restart_with(Role::Orders, 1, &[(LIMIT, "5000000")]).await?;
        let id = trial.gateway.place("tok_ok", 2_000_000).await?;
        let letter = trial.dead(PAYMENTS_GROUP, &id.to_string()).await?;
        ensure!(letter.class == "permanent" && letter.state == "open", "{letter:?}");

        let plan = trial.inspector.run(&["requeue", &letter.id]).await?;
        ensure!(plan.status.success(), "the plan ended with {}", plan.status);
        let still = trial.dead(PAYMENTS_GROUP, &id.to_string()).await?;
        ensure!(still.state == "open", "a plan alone changed it to {}", still.state);

        trial.stack.set_variable(Role::Payments, LIMIT, "5000000");
        ensure!(trial.stack.stop(Role::Payments, 1).await?, "payments had to be killed");
        trial.stack.start(Role::Payments, 1).await?;
        requeue(trial, &letter.id).await?;
        ensure!(
            outcomes(trial, &letter.id).await? == ["applied"],
            "{:?}",
            outcomes(trial, &letter.id).await?
        );
        trial.gateway.until(id, "COMPLETED", SOON).await?;
        ensure!(trial.ledger(id).await? == (1, 0));

        requeue(trial, &letter.id).await?;
        let all = outcomes(trial, &letter.id).await?;
        ensure!(all == ["applied", "already-applied"], "{all:?}");
        ensure!(trial.ledger(id).await? == (1, 0), "charged again");
        let totals = trial.totals("still", |totals| totals.is_still()).await?;
        ensure!(totals.unaccounted() == 0, "{totals}");
        Ok(())
    })
}
