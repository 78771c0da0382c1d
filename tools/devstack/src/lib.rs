//! Real Kafka, PostgreSQL and Redis as private child processes, with the services on top: for `./dev`, tests and benches.
//!
//! - [`topology`]: what everything is called, in one place.
//! - [`stack`]: a [`stack::Stack`] is started, found again by a later command, and stopped. The project's own lives in
//!   `.devstack`; private ones live for one run and die with the process that made them, however it ends.
//! - [`servers`]: how Kafka, PostgreSQL and Redis are prepared and started.
//! - [`clients`]: the system as a customer, an operator and a stranger with a Kafka client use it.
//! - [`reconcile`]: whether everything that went in came out once. [`audit`]: the same of every offset, without believing a counter.
//!   [`money`]: the same of every cent.
//! - [`demo`], [`bench`], [`lab`]: what is shown, measured and broken on it.
//! - [`testing`]: what tests on a whole stack share.
//! - [`os`]: processes, ports, paths and logs, on which that stands. [`progress`], [`errors`]: what is said of what takes long, and of
//!   what goes wrong.

pub mod audit;
pub mod bench;
pub mod clients;
pub mod demo;
pub mod lab;
pub mod money;
pub mod os;
pub mod progress;
pub mod reconcile;
pub mod servers;
pub mod stack;
pub mod testing;
pub mod topology;
