//! Who asks: JSON Web Tokens (RFC 7519), where a key to check them by is set.
//!
//! The algorithm is the setting's, never the token's own choice. Issuer, audience, expiry and subject have to be there. Nothing of a
//! token is logged or said again.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use axum::http::{HeaderMap, StatusCode};
use chassis::{Problem, identity::bearer, shutdown::Listener};
use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation, decode, decode_header,
    errors::{Error, ErrorKind},
    jwk::{JwkSet, KeyAlgorithm, PublicKeyUse},
};
use parking_lot::RwLock;
use serde::Deserialize;
use thiserror::Error as ThisError;
use tokio::time::sleep;

use crate::settings::{AuthArgs, AuthKey};

/// Bytes of a token; what is longer is none of ours.
const MAX_TOKEN: usize = 8 << 10;
/// Characters of a subject: it is the customer of their orders.
const MAX_SUBJECT: usize = 100;
/// Clocks may differ by this, seconds.
const LEEWAY: u64 = 30;
/// Bytes of a secret for HS256 (RFC 7518, 3.2: as long as the hash).
const MIN_SECRET: usize = 32;
/// How often the file of keys is read again.
const REFRESH: Duration = Duration::from_secs(30);

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `sub`: 1 to 100 characters.
    pub subject: String,
    /// Sees to all orders.
    pub operator: bool,
}

/// The settings do not make a check.
#[derive(Debug, ThisError)]
pub enum AuthError {
    /// A file cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// Too short to be safe.
    #[error(
        "the secret for HS256 has {0} bytes, and must have {MIN_SECRET}: `openssl rand -base64 32` makes one"
    )]
    Short(usize),
    /// No JSON Web Key Set.
    #[error("{} is no JSON Web Key Set (RFC 7517)", .0.display())]
    Malformed(PathBuf, #[source] serde_json::Error),
    /// No key of it can be used.
    #[error("{} has no key for {algorithm:?} with a `kid` of its own", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The setting's.
        algorithm: Algorithm,
    },
}

/// Checks tokens. Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    keys: Arc<RwLock<Keys>>,
    algorithm: Algorithm,
    validation: Arc<Validation>,
    operator: Arc<str>,
    file: Option<PathBuf>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("algorithm", &self.algorithm)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// One secret for all, or keys by their `kid`.
enum Keys {
    One(DecodingKey),
    ById(Vec<(String, DecodingKey)>),
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
}

impl Auth {
    /// What the settings ask for; `None` where they ask for no token.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub fn new(args: &AuthArgs) -> Result<Option<Self>, AuthError> {
        let Some(key) = args.key() else { return Ok(None) };
        let (keys, algorithm, file) = match key {
            AuthKey::Secret(secret) => (secret_key(secret.as_bytes())?, Algorithm::HS256, None),
            AuthKey::SecretFile(path) => {
                let secret = std::fs::read(path).map_err(|source| AuthError::Read(path.clone(), source))?;
                (secret_key(secret.trim_ascii())?, Algorithm::HS256, None)
            }
            AuthKey::Jwks(path, algorithm) => (key_set(path, algorithm)?, algorithm, Some(path.clone())),
        };
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&args.jwt_issuer.as_deref().unwrap_or_default()]);
        validation.set_audience(&[&args.jwt_audience.as_deref().unwrap_or_default()]);
        Ok(Some(Self {
            keys: Arc::new(RwLock::new(keys)),
            algorithm,
            validation: Arc::new(validation),
            operator: args.jwt_operator_role.as_str().into(),
            file,
        }))
    }

    /// Who a request is from.
    ///
    /// # Errors
    /// 401 for a token that is missing, or none that can be taken.
    pub fn check(&self, headers: &HeaderMap) -> Result<Identity, Problem> {
        let Some(token) = bearer(headers) else {
            return Err(refused("send the header Authorization: Bearer TOKEN, once").coded("token-missing"));
        };
        let token = std::str::from_utf8(token).ok().filter(|token| token.len() <= MAX_TOKEN);
        let Some(token) = token else { return Err(explain(&ErrorKind::InvalidToken.into())) };
        let claims = self.claims(token).map_err(|error| explain(&error))?;
        let length = claims.sub.chars().count();
        if !(1..=MAX_SUBJECT).contains(&length)
            || claims.sub.trim() != claims.sub
            || claims.sub.chars().any(char::is_control)
        {
            let why = format!(
                "the token's `sub` must have 1 to {MAX_SUBJECT} characters, none of them a control character, and no space around them"
            );
            return Err(refused(why));
        }
        let mut roles = claims.roles.iter().chain(&claims.role);
        let operator = roles.any(|role| **role == *self.operator);
        Ok(Identity { subject: claims.sub, operator })
    }

    fn claims(&self, token: &str) -> Result<Claims, Error> {
        let header = decode_header(token)?;
        // Looked at before any key is: a public key is no secret that somebody may sign with.
        if header.alg != self.algorithm {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        let keys = self.keys.read();
        let key = keys.of(&header).ok_or(ErrorKind::InvalidSignature)?;
        Ok(decode(token, key, &self.validation)?.claims)
    }

    /// Reads the file of keys again from time to time, until `stop`: keys are replaced while the gateway runs.
    pub async fn refresh(self, stop: Listener) {
        let Some(file) = &self.file else { return stop.fired().await };
        while stop.clone().unless_fired(sleep(REFRESH)).await.is_some() {
            let (path, algorithm) = (file.clone(), self.algorithm);
            match tokio::task::spawn_blocking(move || key_set(&path, algorithm)).await {
                Ok(Ok(keys)) => *self.keys.write() = keys,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the keys of tokens cannot be read again; those that were read are kept");
                }
                Err(error) => tracing::error!(%error, "the keys of tokens were not read again"),
            }
        }
    }
}

impl Keys {
    fn of(&self, header: &Header) -> Option<&DecodingKey> {
        match self {
            Self::One(key) => Some(key),
            Self::ById(keys) => {
                let wanted = header.kid.as_deref()?;
                keys.iter().find(|(kid, _)| kid == wanted).map(|(_, key)| key)
            }
        }
    }
}

fn secret_key(secret: &[u8]) -> Result<Keys, AuthError> {
    if secret.len() < MIN_SECRET {
        return Err(AuthError::Short(secret.len()));
    }
    Ok(Keys::One(DecodingKey::from_secret(secret)))
}

/// The keys for signatures by `algorithm`. A set may hold others, which are nothing to us; secrets are never taken from it.
fn key_set(path: &PathBuf, algorithm: Algorithm) -> Result<Keys, AuthError> {
    let text = std::fs::read(path).map_err(|source| AuthError::Read(path.clone(), source))?;
    let set: JwkSet =
        serde_json::from_slice(&text).map_err(|source| AuthError::Malformed(path.clone(), source))?;
    let fits =
        |named: Option<KeyAlgorithm>| named.is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
    let mut keys: Vec<(String, DecodingKey)> = Vec::new();
    for jwk in &set.keys {
        let signs = jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
        let Some(kid) = jwk.common.key_id.clone().filter(|_| signs && fits(jwk.common.key_algorithm)) else {
            continue;
        };
        let Ok(key) = DecodingKey::from_jwk(jwk) else { continue };
        if key_family(jwk) == Some(family(algorithm)) && keys.iter().all(|(other, _)| *other != kid) {
            keys.push((kid, key));
        }
    }
    if keys.is_empty() {
        return Err(AuthError::NoKey { path: path.clone(), algorithm });
    }
    Ok(Keys::ById(keys))
}

/// What a key has to be for an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Rsa,
    Curve,
    Edwards,
    Secret,
}

fn family(algorithm: Algorithm) -> Family {
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => Family::Curve,
        Algorithm::EdDSA => Family::Edwards,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Family::Secret,
        _ => Family::Rsa,
    }
}

fn key_family(jwk: &jsonwebtoken::jwk::Jwk) -> Option<Family> {
    use jsonwebtoken::jwk::AlgorithmParameters;
    match jwk.algorithm {
        AlgorithmParameters::RSA(_) => Some(Family::Rsa),
        AlgorithmParameters::EllipticCurve(_) => Some(Family::Curve),
        AlgorithmParameters::OctetKeyPair(_) => Some(Family::Edwards),
        AlgorithmParameters::OctetKey(_) => None,
    }
}

fn refused(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail).coded("token-invalid")
}

/// What is wrong with a token, in our own words.
fn explain(error: &Error) -> Problem {
    refused(match error.kind() {
        ErrorKind::ExpiredSignature => {
            return refused("the token has expired: get a new one").coded("token-expired");
        }
        ErrorKind::ImmatureSignature => "the token is not valid yet (`nbf`)",
        ErrorKind::InvalidIssuer => "the token is of an issuer (`iss`) that is not known here",
        ErrorKind::InvalidAudience => "the token is for somebody else (`aud`)",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "the token is not signed with the algorithm that is asked for here"
        }
        ErrorKind::InvalidSignature => "the token's signature is not by a key that is known here",
        ErrorKind::MissingRequiredClaim(_) => "the token must have `sub`, `iss`, `aud` and `exp`",
        _ => "the token is no JSON Web Token with `sub`, `iss`, `aud` and `exp`",
    })
}

#[cfg(test)]
mod tests;
