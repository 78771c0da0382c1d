//! The orders service: takes orders in, follows each through payment and delivery, and says how it ended.
//!
//! - [`domain`]: what an order is and what becomes of it, pure.
//! - [`request`]: what a customer may ask for.
//! - [`intake`]: commits the orders that come in, together, with the events that announce them.
//! - [`handler`]: joins what payments and delivery say to the domain.
//! - [`store`]: all SQL. [`timeline`]: what it remembers of an order's events.
//! - [`http`]: the routes. [`settings`]: what it can be told. [`metrics`]: what it measures.

use std::{net::SocketAddr, time::Duration};

use chassis::{
    RunError, Service,
    http::Server,
    service::Spec,
    shutdown::{Stop, Trigger, trigger},
};
use contracts::topics;
use tokio::task::JoinHandle;

pub mod domain;
pub mod handler;
pub mod http;
pub mod intake;
pub mod metrics;
pub mod request;
pub mod settings;
pub mod store;
pub mod timeline;

pub use self::settings::Settings;

mod own {
    refinery::embed_migrations!("../../migrations/orders");
}

/// The service's name.
pub const NAME: &str = "orders";

/// Requests in hand are given this long to be answered when the service stops.
const HTTP_LIMIT: Duration = Duration::from_secs(2);
/// The intake is given this long to hand its last events to Kafka; another instance publishes what it could not.
const INTAKE_LIMIT: Duration = Duration::from_secs(2);

/// The service's own migrations.
pub fn migrations() -> refinery::Runner {
    own::migrations::runner()
}

/// The service, started.
#[derive(Debug)]
pub struct Running {
    service: Service,
    http: Server,
    intake: JoinHandle<bool>,
    close_intake: Trigger,
}

impl Running {
    /// Where orders are placed.
    pub fn http_address(&self) -> SocketAddr {
        self.http.address
    }

    /// Where the admin port listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.service.admin_address()
    }

    /// Runs until `stop`, then drains.
    ///
    /// # Errors
    /// When the admin port fails, or the drain does not finish in time.
    pub async fn run(self, stop: Stop) -> Result<(), RunError> {
        let Self { service, http, intake, close_intake } = self;
        let edge = async move {
            let answered = http.stopped(HTTP_LIMIT).await;
            close_intake.fire();
            // Rows that Kafka did not acknowledge are safe in the outbox: that is no unfinished drain.
            answered && intake.await.is_ok()
        };
        service.run(stop, edge).await
    }
}

/// Starts the service; ports may be 0.
///
/// # Errors
/// When a server it needs cannot be used, or a port is taken.
pub async fn start(settings: &Settings, stop: &mut Stop) -> Result<Running, RunError> {
    metrics::describe();
    let spec = Spec {
        name: NAME,
        build: env!("CARGO_PKG_VERSION"),
        group: topics::ORDERS_GROUP,
        reads: &[topics::PAYMENTS, topics::DELIVERIES],
        writes: &[topics::ORDERS],
        database_url: &settings.orders_database_url,
        admin_listen: settings.admin_listen,
        migrations: migrations(),
        common: &settings.common,
    };
    let mut service = Service::open(spec, stop).await?;
    let (close_intake, closing) = trigger();
    let (door, intake) =
        intake::open(service.pools.intake.clone(), service.publisher.clone(), settings.outbox_limit)
            .await
            .map_err(|cause| RunError::Start(anyhow::anyhow!("{cause}").context("cannot open the intake")))?;
    let intake = tokio::spawn(intake.run(closing, INTAKE_LIMIT));
    service.health.task("the intake", intake.abort_handle());
    let api = http::Api { door, pool: service.pools.reads.clone(), test_tokens: settings.common.test_tokens };
    let limits = settings.common.http.limits().within_descriptors(1);
    let http = Server::start(settings.http_listen, http::app(api), limits, service.listener()).await;
    let http = http.map_err(RunError::Start)?;
    service.health.watch_doors(http.doors());
    service.start_group(handler::Orders).await?;
    tracing::info!(http = %http.address, admin = %service.admin_address(), "taking orders");
    Ok(Running { service, http, intake, close_intake })
}

/// Starts the service and runs it until `stop`.
///
/// # Errors
/// See [`RunError`].
pub async fn run(settings: Settings, mut stop: Stop) -> Result<(), RunError> {
    let running = start(&settings, &mut stop).await?;
    running.run(stop).await
}
