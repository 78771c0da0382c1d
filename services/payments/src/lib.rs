//! The payments service: charges an order when it is created, gives the charge back when the order is not delivered, cancelled or over
//! its time.
//!
//! - [`domain`]: what becomes of the payment of an order, pure.
//! - [`handler`]: joins what orders says to the domain. [`provider`]: who holds the money.
//! - [`store`]: all SQL: where each payment stands, and a ledger of every cent that moved.
//! - [`money`]: does that ledger agree with the provider's list of charges?
//! - [`settings`]: its settings. [`metrics`]: what it measures.

pub mod domain;
pub mod handler;
pub mod metrics;
pub mod money;
pub mod provider;
pub mod settings;
pub mod store;

use chassis::{RunError, Service, database::Database, service::Spec, shutdown::Stop};
use contracts::topics;

pub use self::settings::Settings;
use self::{
    handler::Payments,
    provider::{book::Book, simulated::Simulated},
};

mod own {
    refinery::embed_migrations!("../../migrations/payments");
}

/// The service's name.
pub const NAME: &str = "payments";

/// The service's own migrations.
pub fn migrations() -> refinery::Runner {
    own::migrations::runner()
}

/// Connections of the simulated provider's own.
const PROVIDER_CONNECTIONS: usize = 4;

/// What the simulated provider remembers, in a database that has the migrations.
fn book(settings: &Settings) -> Result<Book, RunError> {
    let files = settings.common.database.tls_files();
    let database = Database::new(&settings.payments_database_url, "payment-provider", &files);
    let pool = database.and_then(|database| database.pool(PROVIDER_CONNECTIONS));
    pool.map(Book::new).map_err(RunError::start)
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
        group: topics::PAYMENTS_GROUP,
        reads: &[topics::ORDERS],
        writes: &[topics::PAYMENTS],
        database_url: &settings.payments_database_url,
        admin_listen: settings.admin_listen,
        migrations: migrations(),
        common: &settings.common,
    };
    let mut service = Service::open(spec, &mut shutdown).await?;
    let simulated = settings.simulated();
    let book = if settings.provider.provider_book { Some(book(&settings)?) } else { None };
    let provider = Simulated::new(simulated, book);
    let comparing = tokio::spawn(money::watch(provider.clone(), service.pools.housekeeping.clone()));
    service.health.task("the comparison with the provider", comparing.abort_handle());
    service.start_group(Payments::new(provider, settings.provider_timeout())).await?;
    service.run(shutdown, async { true }).await
}
