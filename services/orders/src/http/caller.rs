//! Who asks, as the gateway says it.
//!
//! The gateway checks who somebody is; what they may see is decided here, where the orders are. Without a log-in at the gateway
//! nobody is named, and everybody may see everything.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, request::Parts},
};
use chassis::{
    Problem,
    identity::{OPERATOR, SUBJECT},
};

/// Whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Nobody has to say who they are.
    Anyone,
    /// A customer: their own orders are all there are.
    Customer(String),
    /// Somebody who sees to all of them.
    Operator(String),
}

impl Caller {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut said = headers.get_all(SUBJECT).iter();
        let subject = match (said.next(), said.next()) {
            (None, _) if headers.contains_key(OPERATOR) => None,
            (None, _) => return Ok(Self::Anyone),
            (Some(subject), None) => std::str::from_utf8(subject.as_bytes()).ok(),
            _ => None,
        };
        // Of the gateway's making, so never seen; but never to be taken for nobody either.
        let unclear = || Problem::new(StatusCode::BAD_REQUEST, "it is not clear who asks");
        let subject = subject.filter(|subject| !subject.is_empty()).ok_or_else(unclear)?.to_owned();
        Ok(if headers.contains_key(OPERATOR) { Self::Operator(subject) } else { Self::Customer(subject) })
    }

    /// Whose orders are all that this caller may see; `None` where that is everybody's.
    pub(super) fn only(&self) -> Option<&str> {
        match self {
            Self::Anyone | Self::Operator(_) => None,
            Self::Customer(subject) => Some(subject),
        }
    }

    /// Whose keys this caller's are; empty where nobody has to say who they are.
    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Anyone => "",
            Self::Customer(subject) | Self::Operator(subject) => subject,
        }
    }

    /// Whether an order of `customer_id` is there for this caller.
    pub(super) fn sees(&self, customer_id: &str) -> bool {
        self.only().is_none_or(|own| own == customer_id)
    }

    /// For whom an order is placed or looked for, where the request names `customer_id`, or nobody.
    ///
    /// # Errors
    /// 403 where a customer names somebody else.
    pub(super) fn on_behalf_of(&self, customer_id: Option<String>) -> Result<Option<String>, Problem> {
        match (self, customer_id) {
            (Self::Customer(own), Some(other)) if *own != other => {
                let detail = "customer_id: must be your own, which is the `sub` of your token, or left out";
                Err(Problem::new(StatusCode::FORBIDDEN, detail).coded("not-yours"))
            }
            (Self::Customer(own), _) => Ok(Some(own.clone())),
            (_, given) => Ok(given),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Self::of(&parts.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(headers: &[(&axum::http::HeaderName, &str)]) -> Result<Caller, u16> {
        let headers = headers.iter().map(|(name, value)| ((*name).clone(), value.parse().expect("a value")));
        Caller::of(&headers.collect()).map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn who_asks_is_nobody_only_where_nothing_is_said() {
        assert_eq!(caller(&[]), Ok(Caller::Anyone));
        assert_eq!(caller(&[(&SUBJECT, "zoë")]), Ok(Caller::Customer("zoë".into())));
        assert_eq!(caller(&[(&SUBJECT, "kim"), (&OPERATOR, "1")]), Ok(Caller::Operator("kim".into())));
        assert_eq!(caller(&[(&SUBJECT, "")]), Err(400));
        assert_eq!(caller(&[(&OPERATOR, "1")]), Err(400));
        let mut twice = HeaderMap::new();
        for subject in ["a", "b"] {
            twice.append(SUBJECT, subject.parse().expect("a value"));
        }
        assert!(Caller::of(&twice).is_err());
    }

    #[test]
    fn a_customer_acts_for_nobody_else() {
        let kim = Caller::Customer("kim".into());
        assert_eq!(kim.on_behalf_of(None), Ok(Some("kim".into())));
        assert_eq!(kim.on_behalf_of(Some("kim".into())), Ok(Some("kim".into())));
        assert_eq!(kim.on_behalf_of(Some("lou".into())).map_err(|problem| problem.code), Err("not-yours"));
        for free in [Caller::Anyone, Caller::Operator("op".into())] {
            assert_eq!(free.on_behalf_of(Some("lou".into())), Ok(Some("lou".into())));
            assert_eq!(free.on_behalf_of(None), Ok(None));
            assert!(free.sees("anybody"));
        }
        assert!(kim.sees("kim") && !kim.sees("lou"));
    }
}
