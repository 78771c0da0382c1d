//! What stands behind the question mark of a request, told of in our own words.

use std::{convert::Infallible, str::FromStr};

use axum::{
    extract::{FromRequestParts, Query},
    http::{StatusCode, request::Parts},
};

use crate::problem::Problem;

/// Characters of a parameter's name that are said again.
const MAX_NAME: usize = 64;

/// The parameters of a request, as they were sent.
#[derive(Clone, Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// There is none but these: one that is misspelt would be left out in silence.
    ///
    /// # Errors
    /// 400 for any other.
    pub fn only(&self, names: &[&str]) -> Result<(), Problem> {
        let unknown = self.0.iter().find(|(name, _)| !names.contains(&name.as_str()));
        let Some((name, _)) = unknown else { return Ok(()) };
        let shown: String = name.chars().take(MAX_NAME).collect();
        let reason = match names {
            [] => "is no parameter here: there are none".to_owned(),
            _ => format!("is no parameter here: those are {}", names.join(", ")),
        };
        Err(Problem::of_field(StatusCode::BAD_REQUEST, shown, reason))
    }

    /// What `name` says, if it is there.
    ///
    /// # Errors
    /// 400 where it is there twice, or is not what is `expected`.
    pub fn read<T: FromStr>(&self, name: &'static str, expected: &str) -> Result<Option<T>, Problem> {
        let refuse = |reason| Problem::of_field(StatusCode::BAD_REQUEST, name, reason);
        let mut said = self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value);
        match (said.next(), said.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.parse().map(Some).map_err(|_| refuse(format!("must be {expected}"))),
            _ => Err(refuse("is there more than once".to_owned())),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        // Names and values of any text: there is none that is no list of them.
        Ok(Query::try_from_uri(&parts.uri).map_or_else(|_| Self::default(), |Query(pairs)| Self(pairs)))
    }
}
