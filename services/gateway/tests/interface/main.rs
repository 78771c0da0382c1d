//! The gateway in front of a real orders service on a real PostgreSQL: what it answers, and to whom.

mod bad_inputs;
mod contract;
mod fuzz;
mod login;
mod schema;
mod streams;
mod support;
