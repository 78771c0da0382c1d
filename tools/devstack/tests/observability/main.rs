//! Dashboards, alerts and traces: what is configured fits together, and every query finds what it asks for on a real stack.

mod config;
mod faults;
mod files;
mod promql;
mod queries;
mod server;
