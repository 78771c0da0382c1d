//! The payments service: charges an order when it is created, gives the charge back when the order cannot be delivered.
//!
//! [`handler`] joins the `orders` topic to the [`domain`], which decides; [`provider`] is who holds the money; [`store`]
//! keeps where each payment stands and a ledger of every cent that moved.

pub mod domain;
pub mod handler;
pub mod provider;
pub mod settings;
pub mod store;

use chassis::{RunError, Service, service::Spec, shutdown::Stop};
use contracts::topics;
use metrics::{counter, describe_counter};

use crate::{handler::Payments, provider::Simulated, settings::Settings};

mod schema {
    refinery::embed_migrations!("../../migrations/payments");
}

/// Runs the service until `stop`, then drains.
pub async fn run(settings: Settings, mut stop: Stop) -> Result<(), RunError> {
    describe_counter!(handler::PAYMENTS, "Charges that were decided, by result");
    describe_counter!(handler::REFUNDS, "Charges that were given back");
    for result in ["success", "failed"] {
        counter!(handler::PAYMENTS, "result" => result).increment(0);
    }
    counter!(handler::REFUNDS).increment(0);
    let spec = Spec {
        name: "payments",
        build: env!("CARGO_PKG_VERSION"),
        group: topics::PAYMENTS_GROUP,
        reads: &[topics::ORDERS],
        writes: &[topics::PAYMENTS],
        database_url: &settings.payments_database_url,
        admin_listen: settings.admin_listen,
        migrations: schema::migrations::runner(),
        common: &settings.common,
    };
    let mut service = Service::open(spec, &mut stop).await?;
    let provider = Simulated::new(settings.simulated());
    service.start_group(Payments::new(provider, settings.provider_timeout())).await?;
    service.run(stop, async { true }).await
}
