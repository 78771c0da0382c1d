//! The delivery service: sends a courier when an order is paid, and has them back when the order is over.
//!
//! [`handler`] joins the `payments` and `orders` topics to the [`domain`], which decides; [`store`] keeps the couriers
//! and who has which order.

pub mod domain;
pub mod handler;
pub mod settings;
pub mod store;

use std::time::Duration;

use chassis::{RunError, Service, service::Spec, shutdown::Stop};
use contracts::topics;
use metrics::{counter, describe_counter};

use crate::{handler::Deliveries, settings::Settings};

mod schema {
    refinery::embed_migrations!("../../migrations/delivery");
}

/// Runs the service until `stop`, then drains.
pub async fn run(settings: Settings, mut stop: Stop) -> Result<(), RunError> {
    describe_counter!(handler::ASSIGNMENTS, "Deliveries by what became of them");
    for result in ["assigned", "released", "failed", "closed"] {
        counter!(handler::ASSIGNMENTS, "result" => result).increment(0);
    }
    let spec = Spec {
        name: "delivery",
        build: env!("CARGO_PKG_VERSION"),
        group: topics::DELIVERY_GROUP,
        reads: &[topics::PAYMENTS, topics::ORDERS],
        writes: &[topics::DELIVERIES],
        database_url: &settings.delivery_database_url,
        admin_listen: settings.admin_listen,
        migrations: schema::migrations::runner(),
        common: &settings.common,
    };
    let patience = Duration::from_secs(settings.courier_patience_s);
    let mut service = Service::open(spec, &mut stop).await?;
    service.start_group(Deliveries::new(settings.common.test_tokens, patience)).await?;
    service.run(stop, async { true }).await
}
