//! Requests that are sent again: a client's key, and what becomes of a request that has one.

use std::{collections::HashMap, time::Duration};

use axum::http::{HeaderMap, HeaderName, StatusCode};
use chassis::Problem;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The header with the key.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// On an answer that was given before: `true`.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// A key is known for this long after its first request.
pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Characters of a key.
const MAX_KEY: usize = 255;

/// A client's key, with what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Whose it is: the same key of two of them are two. Empty while nobody has to say who they are.
    pub subject: String,
    /// The key.
    pub key: String,
    /// SHA-256 of the body.
    pub body: [u8; 32],
}

impl Key {
    /// The key of a request of `subject`, if it has one.
    ///
    /// # Errors
    /// 400 for one that is none.
    pub fn of(headers: &HeaderMap, subject: &str, body: &[u8]) -> Result<Option<Self>, Problem> {
        let refuse = |reason: String| Problem::of_field(StatusCode::BAD_REQUEST, "Idempotency-Key", reason);
        let mut given = headers.get_all(IDEMPOTENCY_KEY).into_iter();
        let key = match (given.next(), given.next()) {
            (None, _) => return Ok(None),
            (Some(key), None) => key.as_bytes(),
            _ => return Err(refuse("is there more than once".to_owned())),
        };
        let visible = !key.is_empty() && key.iter().all(u8::is_ascii_graphic);
        match std::str::from_utf8(key) {
            Ok(key) if visible && key.len() <= MAX_KEY => Ok(Some(Self {
                subject: subject.to_owned(),
                key: key.to_owned(),
                body: Sha256::digest(body).into(),
            })),
            _ => Err(refuse(format!(
                "must have 1 to {MAX_KEY} visible ASCII characters and no space, such as a UUID"
            ))),
        }
    }

    /// What names it.
    pub fn name(&self) -> (&str, &str) {
        (&self.subject, &self.key)
    }
}

/// What a key stands for, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The order that it has placed.
    pub order_id: Uuid,
    /// SHA-256 of the body it came with.
    pub body: Vec<u8>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It places an order.
    New,
    /// It is another one's that is in the same batch, at this place.
    Like(usize),
    /// It was sent before, and has placed this order.
    Before(Uuid),
    /// Its key has come with another body: that of the request at this place in the batch, which may yet come to nothing, or of one
    /// that was there.
    Reused(Option<usize>),
}

/// What becomes of each request, given with the id its order would have and its key: `held` has what every key stands for now,
/// be it since a moment ago.
pub fn claims(requests: &[(Uuid, Option<&Key>)], held: &HashMap<(String, String), Held>) -> Vec<Claimed> {
    let places: HashMap<Uuid, usize> = requests.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
    let claim = |(id, key): &(Uuid, Option<&Key>)| {
        let held = key.and_then(|key| Some((key, held.get(&(key.subject.clone(), key.key.clone()))?)));
        match held {
            None => Claimed::New,
            Some((key, held)) if held.body != key.body => {
                Claimed::Reused(places.get(&held.order_id).copied())
            }
            Some((_, held)) if held.order_id == *id => Claimed::New,
            Some((_, held)) => match places.get(&held.order_id) {
                Some(at) => Claimed::Like(*at),
                None => Claimed::Before(held.order_id),
            },
        }
    };
    requests.iter().map(claim).collect()
}

#[cfg(test)]
mod tests;
