//! How the simulated payment provider behaves, told to what stands for its servers: the schema `provider`, which payments reaches by
//! connections of their own. Nothing is restarted, and payments cannot know beforehand.

use std::time::Duration;

use anyhow::{Context, Result};

use super::stage::Stage;
use crate::servers::postgres::connect;

/// Waiting for the provider's own work in hand.
const LIMIT: Duration = Duration::from_secs(10);

/// How the provider behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// As it does.
    Usual,
    /// Every charge, refund and void fails: it cannot be reached. A decline, which changes nothing there, is still answered.
    Down,
    /// Every statement by which it notes charges, refunds and voids takes so much longer.
    Slow(Duration),
}

/// Makes it behave so from now on.
///
/// # Errors
/// When PostgreSQL does not take it.
pub(super) async fn behave(stage: &Stage, behaviour: Behaviour) -> Result<()> {
    let body = match behaviour {
        Behaviour::Usual => None,
        Behaviour::Down => Some("raise exception 'the provider is down';".to_owned()),
        Behaviour::Slow(delay) => Some(format!("perform pg_sleep({});", delay.as_secs_f64())),
    };
    let sql = match body {
        None => "drop trigger if exists lab on provider.charges; drop function if exists provider.lab()".to_owned(),
        Some(body) => format!(
            "begin;
             create or replace function provider.lab() returns trigger language plpgsql as $$ begin {body} return null; end $$;
             create or replace trigger lab before insert or update on provider.charges for each statement
             execute function provider.lab();
             commit"
        ),
    };
    let told = async {
        let client = connect(stage.url("PAYMENTS_DATABASE_URL")?).await?;
        client.batch_execute(&sql).await.context("the simulated provider cannot be told how to behave")
    };
    tokio::time::timeout(LIMIT, told).await.context("PostgreSQL does not answer")?
}
