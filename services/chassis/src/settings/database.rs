//! How to reach the database, beside its URL: that one is named after its service.

use std::path::PathBuf;

use clap::Args;

use super::values::positive;
use crate::database::TlsFiles;

/// How to reach the database, beside its URL.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "PostgreSQL")]
pub struct DatabaseArgs {
    /// Most connections to the database: a quarter for requests that read, 3 for those that write, 3 for housekeeping, the rest
    /// for batches and claims, BATCH_TRANSACTIONS + 2 at the least.
    #[arg(long, env, default_value = "16", value_parser = positive)]
    pub database_pool: usize,
    /// File with the authorities to trust for the database in place of the system's, PEM. `?sslmode=` in its URL says how
    /// connections are protected, as in libpq: disable, prefer, require, verify-ca or verify-full; without it they are
    /// plain, or as by verify-full if a file is given here or below.
    #[arg(long, env)]
    pub database_tls_root_cert: Option<PathBuf>,
    /// File with the certificate to show to the database, PEM.
    #[arg(long, env, requires = "database_tls_client_key")]
    pub database_tls_client_cert: Option<PathBuf>,
    /// File with the private key of that certificate, PEM.
    #[arg(long, env, requires = "database_tls_client_cert")]
    pub database_tls_client_key: Option<PathBuf>,
}

impl DatabaseArgs {
    /// For the connections.
    pub fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            root_cert: self.database_tls_root_cert.clone(),
            client_cert: self.database_tls_client_cert.clone(),
            client_key: self.database_tls_client_key.clone(),
        }
    }
}
