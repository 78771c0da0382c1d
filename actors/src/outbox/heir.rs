//! Takes over the outbox lanes of instances that died, and publishes what they left.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use deadpool_postgres::Client;
use tokio::time::Instant;

use super::{
    instance::{HEARTBEAT, Instance, LEASE_SECONDS, TICK_LIMITS, remove},
    relay::Relay,
    track::Track,
};
use crate::{
    Cause,
    connection::{Connection, Trouble},
};

const EVERY: Duration = Duration::from_millis(500);
/// Kafka that has answered for nothing for so long is given no more: each takeover would fill the producer's buffer.
const SLOW: Duration = Duration::from_secs(5);

/// A dead instance's lane, ours for as long as its lease is renewed.
struct Inherited {
    relay: Relay,
    epoch: i64,
    renew: Instant,
}

/// Works for as long as the instance is alive. A lane that is not empty when it ends expires, and somebody else inherits it.
pub(super) async fn inherit(instance: Arc<Instance>) {
    let mut inherited = None;
    while !instance.fenced.load(Ordering::Acquire) {
        tokio::time::sleep(EVERY).await;
        if let Err(cause) = round(&instance, &mut inherited).await {
            tracing::debug!(prefix = instance.prefix, %cause, "PostgreSQL does not answer; what the dead left waits");
            tokio::time::sleep(HEARTBEAT).await;
        }
    }
}

/// One lane at a time: it is published and removed before the next is taken.
async fn round(instance: &Instance, inherited: &mut Option<Inherited>) -> Result<(), Cause> {
    let mut connection = Connection::get(&instance.pool).await.map_err(|trouble| trouble.cause())?;
    let client = &*connection.begin();
    let work = async {
        if inherited.is_none() && !is_slow(&instance.track) {
            *inherited = take(instance, client).await?;
        }
        let Some(lane) = inherited else { return Ok(()) };
        if publish(lane, client).await? {
            *inherited = None;
        }
        Ok(())
    };
    let done: Result<Result<(), tokio_postgres::Error>, _> = TICK_LIMITS.within(work).await;
    let done = done.map_err(|trouble| trouble.cause())?;
    connection.settle(&done);
    done.map_err(|error| Trouble::Refused(error).cause())
}

/// Whether Kafka keeps this instance's own records waiting. What it refuses it has answered for.
fn is_slow(own: &Track) -> bool {
    own.backlog().oldest > SLOW && own.refusal().is_none()
}

async fn take(instance: &Instance, client: &Client) -> Result<Option<Inherited>, tokio_postgres::Error> {
    let statement =
        "UPDATE outbox_instance SET epoch = epoch + 1, expires_at = now() + make_interval(secs => $2)
                     WHERE lane = (SELECT lane FROM outbox_instance
                                   WHERE starts_with(lane, $1 || '/') AND expires_at < now()
                                   LIMIT 1 FOR UPDATE SKIP LOCKED)
                     RETURNING lane, epoch";
    let Some(row) = client.query_opt(statement, &[&instance.prefix, &LEASE_SECONDS]).await? else {
        return Ok(None);
    };
    let lane: String = row.get(0);
    tracing::info!(lane, "an outbox instance has died; publishing what it left");
    failpoint!(WriterTookOver);
    let track = Arc::new(Track::new(true));
    instance.publisher.is_written_by(&lane, &track);
    let relay = Relay::new(lane, instance.publisher.clone(), track);
    Ok(Some(Inherited { relay, epoch: row.get(1), renew: Instant::now() + HEARTBEAT }))
}

/// Goes on with a lane. True when there is nothing more to do for it here.
async fn publish(lane: &mut Inherited, client: &Client) -> Result<bool, tokio_postgres::Error> {
    if lane.renew <= Instant::now() {
        let statement = "UPDATE outbox_instance SET expires_at = now() + make_interval(secs => $3)
                         WHERE lane = $1 AND epoch = $2";
        if client.execute(statement, &[&lane.relay.lane(), &lane.epoch, &LEASE_SECONDS]).await? == 0 {
            // It took too long: somebody else has it.
            return Ok(true);
        }
        lane.renew = Instant::now() + HEARTBEAT;
    }
    if lane.relay.is_behind() {
        lane.relay.catch_up(client).await?;
    }
    remove(client, &lane.relay).await
}
