//! What every service process needs: settings, telemetry, health, HTTP problems, shutdown.
//!
//! A service's `main.rs` parses its settings and hands over to [`process::run`], which sets up [`telemetry`], runs the
//! service until a signal arrives ([`shutdown`]) and turns what it returns into an exit code ([`exit`]). The service's own `run`
//! opens a [`service::Service`]: database, migrations, topics, producer, admin port. Then it starts its consumer group
//! and whatever else it does. [`identity`] says who asks. [`events`] joins the shared contracts to the runtime's records.

pub mod admin;
pub mod correlation;
pub mod database;
pub mod events;
pub mod exit;
pub mod http;
pub mod identity;
pub mod problem;
pub mod process;
pub mod service;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod traces;

pub use self::{correlation::Correlation, exit::RunError, problem::Problem, service::Service};
