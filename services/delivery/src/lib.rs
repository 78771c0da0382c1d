//! The delivery service: sends a courier when an order is paid, and has them back when the order is over.
//!
//! - [`domain`]: who delivers what, pure.
//! - [`handler`]: joins what payments and orders say to the domain.
//! - [`store`]: all SQL: the couriers, and who has which order.
//! - [`settings`]: its settings. [`metrics`]: what it measures.

pub mod domain;
pub mod handler;
pub mod metrics;
pub mod settings;
pub mod store;

use chassis::{RunError, Service, service::Spec, shutdown::Stop};
use contracts::topics;

use self::handler::Deliveries;
pub use self::settings::Settings;

mod own {
    refinery::embed_migrations!("../../migrations/delivery");
}

/// The service's name.
pub const NAME: &str = "delivery";

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
    let spec = Spec {
        name: NAME,
        build: env!("CARGO_PKG_VERSION"),
        group: topics::DELIVERY_GROUP,
        reads: &[topics::PAYMENTS, topics::ORDERS],
        writes: &[topics::DELIVERIES],
        database_url: &settings.delivery_database_url,
        admin_listen: settings.admin_listen,
        migrations: migrations(),
        common: &settings.common,
    };
    let mut service = Service::open(spec, &mut shutdown).await?;
    service.start_group(Deliveries::new(settings.common.test_tokens, settings.courier_patience())).await?;
    service.run(shutdown, async { true }).await
}
