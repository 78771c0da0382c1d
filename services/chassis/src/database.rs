//! Connections to PostgreSQL, what it has to keep to, TLS, and migrations.
//!
//! - `reach`: where it is, and connections to it. `tls`: how they are protected. `pools`: connections by what they are for.
//! - `fitness`: whether it keeps to what the delivery protocol rests on. `migrate`: its tables. `error`: what can be wrong.

mod error;
mod fitness;
mod migrate;
mod pools;
mod reach;
mod tls;

pub use self::{
    error::DatabaseError,
    pools::Pools,
    reach::Database,
    tls::{TlsError, TlsFiles},
};
