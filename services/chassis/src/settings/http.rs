//! What those who call over HTTP may take, and who may use the admin port.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, value_parser};
use thiserror::Error;

use super::values::positive;
use crate::{admin::Guard, http::Limits, identity::Secret};

/// What callers may take, on every port of the process.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct HttpArgs {
    /// Time a caller has to send the head of a request, milliseconds; also how long a connection is kept without one.
    #[arg(long, env, default_value_t = 10_000, value_parser = value_parser!(u64).range(1..))]
    pub http_head_timeout_ms: u64,
    /// Time a caller has to send the body of a request, milliseconds.
    #[arg(long, env, default_value_t = 15_000, value_parser = value_parser!(u64).range(1..))]
    pub http_body_timeout_ms: u64,
    /// Time after which a caller that does not read its answer is left, milliseconds.
    #[arg(long, env, default_value_t = 15_000, value_parser = value_parser!(u64).range(1..))]
    pub http_write_timeout_ms: u64,
    /// Connections at a time; further ones wait. Never more than leave 320 of the process's file descriptors to Kafka,
    /// PostgreSQL and the admin port.
    #[arg(long, env, default_value = "4096", value_parser = positive)]
    pub http_max_connections: usize,
}

impl HttpArgs {
    /// For a listener.
    pub fn limits(&self) -> Limits {
        Limits {
            head: Duration::from_millis(self.http_head_timeout_ms),
            body: Duration::from_millis(self.http_body_timeout_ms),
            write: Duration::from_millis(self.http_write_timeout_ms),
            connections: self.http_max_connections,
        }
    }
}

/// Who may use the admin port.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "HTTP")]
pub struct AdminArgs {
    /// Token that every POST to the admin port must carry, as `Authorization: Bearer TOKEN`; none is asked for if unset.
    #[arg(long, env, hide_env_values = true, conflicts_with = "admin_token_file")]
    pub admin_token: Option<String>,
    /// File with that token.
    #[arg(long, env)]
    pub admin_token_file: Option<PathBuf>,
}

impl fmt::Debug for AdminArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminArgs").field("admin_token_file", &self.admin_token_file).finish_non_exhaustive()
    }
}

/// The token cannot be used.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read {variable} at {}", path.display())]
    Read {
        /// The setting that names it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// Nothing, or what no header can hold.
    #[error("what {variable} is or names must be visible ASCII characters, at least one and without spaces")]
    Unusable {
        /// The setting.
        variable: &'static str,
    },
}

impl AdminArgs {
    /// For the admin port.
    ///
    /// # Errors
    /// When the file cannot be read or the token cannot be sent in a header.
    pub fn guard(&self) -> Result<Guard, TokenError> {
        let token = token(self.admin_token.as_deref(), self.admin_token_file.as_deref(), ADMIN)?;
        Ok(token.map_or_else(Guard::default, |token| Guard::with_token(&token)))
    }
}

/// Settings that hold a token, or name a file with one.
type Names = [&'static str; 2];
const ADMIN: Names = ["ADMIN_TOKEN", "ADMIN_TOKEN_FILE"];
const GATEWAY: Names = ["GATEWAY_TOKEN", "GATEWAY_TOKEN_FILE"];

/// A token, itself or out of its file; `None` where neither is set.
fn token(
    itself: Option<&str>,
    file: Option<&Path>,
    [value, name]: Names,
) -> Result<Option<String>, TokenError> {
    let (token, variable) = match (itself, file) {
        (None, None) => return Ok(None),
        (Some(token), _) => (token.to_owned(), value),
        (None, Some(path)) => {
            let read = fs::read_to_string(path);
            let refuse = |source| TokenError::Read { variable: name, path: path.to_owned(), source };
            (read.map_err(refuse)?.trim().to_owned(), name)
        }
    };
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::Unusable { variable });
    }
    Ok(Some(token))
}

/// By what the services behind the gateway know it.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "HTTP")]
pub struct GatewayTokenArgs {
    /// Token that the gateway's requests carry, and without which the services behind it take none; none is asked for if unset.
    #[arg(long, env, hide_env_values = true, conflicts_with = "gateway_token_file")]
    pub gateway_token: Option<String>,
    /// File with that token.
    #[arg(long, env)]
    pub gateway_token_file: Option<PathBuf>,
}

impl fmt::Debug for GatewayTokenArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayTokenArgs")
            .field("gateway_token_file", &self.gateway_token_file)
            .finish_non_exhaustive()
    }
}

impl GatewayTokenArgs {
    /// The token itself, for whoever sends it.
    ///
    /// # Errors
    /// As of [`AdminArgs::guard`].
    pub fn token(&self) -> Result<Option<String>, TokenError> {
        token(self.gateway_token.as_deref(), self.gateway_token_file.as_deref(), GATEWAY)
    }

    /// For whoever asks for it.
    ///
    /// # Errors
    /// As of [`AdminArgs::guard`].
    pub fn secret(&self) -> Result<Option<Secret>, TokenError> {
        Ok(self.token()?.as_deref().map(Secret::new))
    }
}

#[cfg(test)]
mod tests;
