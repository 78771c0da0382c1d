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
    jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse},
};
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error as ThisError;
use tokio::time::sleep;

use crate::settings::{AuthArgs, AuthKey};

/// Bytes of a token; what is longer is none of ours.
const MAX_TOKEN: usize = 8 << 10;
/// Characters of a subject: it is the customer of their orders.
const MAX_SUBJECT: usize = 100;
/// The customer of orders that nobody has said to be theirs: no token makes somebody that.
const NOBODY: &str = "guest";
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
    /// Until when that holds, seconds since the Unix epoch.
    pub expires: u64,
}

/// The settings do not make a check.
#[derive(Debug, ThisError)]
pub enum AuthError {
    /// Whose tokens are taken is said, and by which key they are checked is not: that was forgotten, or got lost.
    #[error(
        "JWT_ISSUER or JWT_AUDIENCE is set and no key: set JWT_HS256_SECRET, JWT_HS256_SECRET_FILE or JWT_JWKS_FILE too"
    )]
    KeyForgotten,
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
    /// Why the file could not be read again.
    stale: Arc<Mutex<Option<String>>>,
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
    exp: f64,
    /// Checked with the rest; here so that one that is no time is refused, and not left out.
    #[serde(default, rename = "nbf")]
    _nbf: Option<f64>,
    #[serde(default)]
    role: Value,
    #[serde(default)]
    roles: Value,
}

impl Claims {
    /// Whether a claim is this role, or a list with it. What is neither is no role.
    fn has_role(&self, role: &str) -> bool {
        let is = |claim: &Value| match claim {
            Value::String(one) => one == role,
            Value::Array(many) => many.iter().any(|one| one == role),
            _ => false,
        };
        is(&self.role) || is(&self.roles)
    }
}

impl Auth {
    /// What the settings ask for; `None` where they ask for no token.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub fn new(args: &AuthArgs) -> Result<Option<Self>, AuthError> {
        let Some(key) = args.key() else {
            let forgotten = args.jwt_issuer.is_some() || args.jwt_audience.is_some();
            return if forgotten { Err(AuthError::KeyForgotten) } else { Ok(None) };
        };
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
            stale: Arc::default(),
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
        if claims.sub == NOBODY {
            return Err(refused("the token's `sub` stands for those who have not said who they are"));
        }
        let operator = claims.has_role(&self.operator);
        // Later than any clock shows is for ever.
        let expires = if claims.exp < 1e15 { claims.exp as u64 } else { u64::MAX };
        Ok(Identity { subject: claims.sub, operator, expires: expires.saturating_add(LEEWAY) })
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
            let read = tokio::task::spawn_blocking(move || key_set(&path, algorithm)).await;
            let read = read.map_err(anyhow::Error::from).and_then(|read| read.map_err(anyhow::Error::from));
            let failed = match read {
                Ok(keys) => {
                    *self.keys.write() = keys;
                    None
                }
                Err(error) => Some(format!("{error:#}")),
            };
            let before = std::mem::replace(&mut *self.stale.lock(), failed.clone());
            if let Some(error) = failed.filter(|_| before.is_none()) {
                tracing::error!(
                    error,
                    "the keys of tokens cannot be read again; those that were read are kept"
                );
            }
        }
    }

    /// For a health check.
    ///
    /// # Errors
    /// In words, when the file of keys could not be read again: those that were read may have been withdrawn.
    pub fn is_fresh(&self) -> Result<(), String> {
        self.stale.lock().as_ref().map_or(Ok(()), |why| Err(format!("tokens are checked by old keys: {why}")))
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

/// A JSON Web Key Set, key by key.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
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
    let set: KeySet =
        serde_json::from_slice(&text).map_err(|source| AuthError::Malformed(path.clone(), source))?;
    let fits =
        |named: Option<KeyAlgorithm>| named.is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
    let mut keys: Vec<(String, DecodingKey)> = Vec::new();
    // Each for itself: of a kind that is not known here there may be any.
    for jwk in set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()) {
        let signs = jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
        let Some(kid) = jwk.common.key_id.clone().filter(|_| signs && fits(jwk.common.key_algorithm)) else {
            continue;
        };
        let Ok(key) = DecodingKey::from_jwk(&jwk) else { continue };
        if key_family(&jwk) == Some(family(algorithm)) && keys.iter().all(|(other, _)| *other != kid) {
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

fn key_family(jwk: &Jwk) -> Option<Family> {
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
