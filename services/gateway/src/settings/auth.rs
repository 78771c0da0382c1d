//! By what callers have to say who they are.

use std::{fmt, path::PathBuf};

use clap::{Args, ValueEnum};
use jsonwebtoken::Algorithm;

/// Whether, and how, callers have to say who they are.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Log-in")]
pub struct AuthArgs {
    /// Secret by which tokens are signed (HS256), at least 32 bytes. Without it, and without JWT_JWKS_FILE, nobody has to have a token.
    #[arg(long, env, hide_env_values = true, conflicts_with_all = ["jwt_hs256_secret_file", "jwt_jwks_file"], requires_all = ["jwt_issuer", "jwt_audience"])]
    pub jwt_hs256_secret: Option<String>,
    /// File with that secret.
    #[arg(long, env, conflicts_with = "jwt_jwks_file", requires_all = ["jwt_issuer", "jwt_audience"])]
    pub jwt_hs256_secret_file: Option<PathBuf>,
    /// File with the public keys of whoever signs tokens, a JSON Web Key Set; read again every 30 seconds.
    #[arg(long, env, requires_all = ["jwt_issuer", "jwt_audience"])]
    pub jwt_jwks_file: Option<PathBuf>,
    /// The one algorithm of tokens that those keys check.
    #[arg(long, env, value_enum, default_value_t = JwksAlgorithm::Rs256)]
    pub jwt_algorithm: JwksAlgorithm,
    /// `iss` of the tokens that are taken.
    #[arg(long, env)]
    pub jwt_issuer: Option<String>,
    /// `aud` of the tokens that are taken.
    #[arg(long, env)]
    pub jwt_audience: Option<String>,
    /// What the claim `role`, or one of `roles`, is of those who see all orders; others see their own, whose customer is the `sub`.
    #[arg(long, env, default_value = "operator")]
    pub jwt_operator_role: String,
}

impl fmt::Debug for AuthArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthArgs")
            .field("jwt_jwks_file", &self.jwt_jwks_file)
            .field("jwt_issuer", &self.jwt_issuer)
            .field("jwt_audience", &self.jwt_audience)
            .finish_non_exhaustive()
    }
}

/// Algorithms that have a public key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum JwksAlgorithm {
    /// RSA with SHA-256.
    #[default]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    #[value(name = "EdDSA")]
    EdDsa,
}

/// What tokens are checked by.
#[derive(Clone, Copy, Debug)]
pub enum AuthKey<'a> {
    /// A secret.
    Secret(&'a str),
    /// The file of a secret.
    SecretFile(&'a PathBuf),
    /// The file of a JSON Web Key Set, and the algorithm of its keys.
    Jwks(&'a PathBuf, Algorithm),
}

impl AuthArgs {
    /// What tokens are checked by, if they are.
    pub fn key(&self) -> Option<AuthKey<'_>> {
        let algorithm = match self.jwt_algorithm {
            JwksAlgorithm::Rs256 => Algorithm::RS256,
            JwksAlgorithm::Es256 => Algorithm::ES256,
            JwksAlgorithm::EdDsa => Algorithm::EdDSA,
        };
        match (&self.jwt_hs256_secret, &self.jwt_hs256_secret_file, &self.jwt_jwks_file) {
            (Some(secret), ..) => Some(AuthKey::Secret(secret)),
            (None, Some(file), _) => Some(AuthKey::SecretFile(file)),
            (None, None, Some(file)) => Some(AuthKey::Jwks(file, algorithm)),
            (None, None, None) => None,
        }
    }
}
