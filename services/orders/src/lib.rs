//! The orders service: takes orders in, follows each through payment and delivery, and says how it ended.
//!
//! - [`domain`]: what an order is and what becomes of it, pure. [`request`]: what a customer may ask for.
//! - [`handler`]: joins what payments and delivery say to the domain. [`http`]: the routes.
//! - [`idempotency`]: requests that are sent again.
//! - [`closing`]: ends orders that are cancelled, or over their time.
//! - [`intake`]: commits the orders that come in, together, with the events that announce them.
//! - [`housekeeping`]: what keeps the tables small, and shows what waits.
//! - [`watch`]: who follows which order.
//! - [`transact`]: what is changed outside the lanes, with the events that say so.
//! - [`store`]: all SQL. [`timeline`]: what it remembers of an order's events.
//! - [`settings`]: its settings. [`metrics`]: what it measures.

pub mod closing;
pub mod domain;
pub mod handler;
pub mod housekeeping;
pub mod http;
pub mod idempotency;
pub mod intake;
pub mod metrics;
pub mod request;
pub mod settings;
pub mod store;
pub mod timeline;
pub mod transact;
pub mod watch;

use std::{sync::Arc, time::Duration};

use chassis::{
    RunError, Service,
    admin::Need,
    http::Server,
    service::Spec,
    shutdown::{Stop, trigger},
};
use contracts::topics;
use tokio::sync::Semaphore;

pub use self::settings::Settings;
use self::{handler::Orders, http::Api, watch::Watch};

mod own {
    refinery::embed_migrations!("../../migrations/orders");
}

/// The service's name.
pub const NAME: &str = "orders";

/// What others say of orders.
pub(crate) const READS: [&str; 2] = [topics::PAYMENTS, topics::DELIVERIES];

/// Requests in hand are given this long to be answered when the service stops.
const HTTP_LIMIT: Duration = Duration::from_secs(2);
/// The intake is given this long to hand its last events to Kafka; another instance publishes what it could not.
const INTAKE_LIMIT: Duration = Duration::from_secs(2);

/// The service's own migrations.
pub fn migrations() -> refinery::Runner {
    own::migrations::runner()
}

/// Runs the service until `shutdown`, then drains; ports may be 0.
///
/// # Errors
/// When a server it needs cannot be used, a port is taken, or the drain does not finish in time.
pub async fn run(settings: Settings, mut shutdown: Stop) -> Result<(), RunError> {
    metrics::describe();
    ::metrics::gauge!(metrics::TIMEOUT).set(settings.order_timeout().as_secs_f64());
    let spec = Spec {
        name: NAME,
        build: env!("CARGO_PKG_VERSION"),
        group: topics::ORDERS_GROUP,
        reads: &READS,
        writes: &[topics::ORDERS],
        database_url: &settings.orders_database_url,
        admin_listen: settings.admin_listen,
        migrations: migrations(),
        common: &settings.common,
    };
    let mut service = Service::open(spec, &mut shutdown).await?;

    let (pool, publisher) = (service.pools.intake.clone(), service.publisher.clone());
    let (door, intake) = intake::open(pool, publisher, settings.outbox_limit)
        .await
        .map_err(|cause| RunError::Start(anyhow::anyhow!("{cause}").context("cannot open the intake")))?;
    let (pool, publisher) = (service.pools.intake.clone(), service.publisher.clone());
    let (closer, ending) =
        closing::open(pool, publisher, settings.order_timeout()).await.map_err(|cause| {
            RunError::Start(anyhow::anyhow!("{cause}").context("cannot open what ends orders"))
        })?;
    let (close, closing) = trigger();
    let intake = tokio::spawn(intake.run(closing.clone(), INTAKE_LIMIT));
    service.health.task("the intake", intake.abort_handle());
    let ending = tokio::spawn(ending.run(closing, INTAKE_LIMIT));
    service.health.task("what ends orders", ending.abort_handle());
    let forgetting = tokio::spawn(housekeeping::forget_keys(service.pools.housekeeping.clone()));
    service.health.task("the forgetting of old keys", forgetting.abort_handle());
    let watching = tokio::spawn(housekeeping::watch_orders(service.pools.housekeeping.clone()));
    service.health.task("the counting of orders that wait", watching.abort_handle());

    let watch = Watch::default();
    let following = tokio::spawn(watch.clone().run(service.pools.housekeeping.clone(), service.listener()));
    service.health.task("the watch over orders that are followed", following.abort_handle());
    let sight = watch.clone();
    service.health.check("order-streams", Need::Optional, move || std::future::ready(sight.sees()));
    // It ends when all are noted.
    tokio::spawn(housekeeping::note_orders(service.pools.housekeeping.clone()));

    let limits = settings.common.http.limits().within_descriptors(1);
    let api = Api {
        door,
        closer,
        pool: service.pools.reads.clone(),
        accepts: request::Accepts {
            test_tokens: settings.common.test_tokens,
            max_amount_cents: settings.common.provider_max_amount_cents,
        },
        watch,
        // Those who follow an order stay for long: half of the connections is for the others.
        followers: Arc::new(Semaphore::new(
            settings.max_streams.min(limits.connections / 2).min(Semaphore::MAX_PERMITS),
        )),
        stop: service.listener(),
        token: settings.gateway.secret().map_err(RunError::start)?,
    };
    let http = Server::start(settings.http_listen, http::app(api), limits, service.listener()).await;
    let http = http.map_err(RunError::Start)?;
    service.health.watch_doors(http.doors());

    service.start_group(Orders).await?;
    tracing::info!(http = %http.address, admin = %service.admin_address(), "taking orders");
    let edge = async move {
        let answered = http.stopped(HTTP_LIMIT).await;
        close.fire();
        // Rows that Kafka did not acknowledge are safe in the outbox: that is no unfinished drain.
        let (intake, ending) = tokio::join!(intake, ending);
        answered && intake.is_ok() && ending.is_ok()
    };
    service.run(shutdown, edge).await
}
