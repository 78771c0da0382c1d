//! What can be asked of the gateway. The router is made of these, and so is the description of the interface: neither knows a route that
//! the other does not.

use axum::http::Method;

/// One thing that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Places an order.
    PlaceOrder,
    /// A page of orders.
    ListOrders,
    /// One order.
    ShowOrder,
    /// One order as it changes.
    FollowOrder,
    /// Cancels one.
    CancelOrder,
    /// The description of the interface.
    OpenApi,
    /// The same to be read.
    Docs,
}

impl Operation {
    /// All of them, each under a path of its own.
    pub const ALL: [Self; 7] = [
        Self::PlaceOrder,
        Self::ListOrders,
        Self::ShowOrder,
        Self::FollowOrder,
        Self::CancelOrder,
        Self::OpenApi,
        Self::Docs,
    ];

    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::PlaceOrder => "/place-order",
            Self::ListOrders => "/orders",
            Self::ShowOrder => "/orders/{id}",
            Self::FollowOrder => "/orders/{id}/events",
            Self::CancelOrder => "/orders/{id}/cancel",
            Self::OpenApi => "/openapi.json",
            Self::Docs => "/docs",
        }
    }

    /// Its method.
    pub fn method(self) -> Method {
        match self {
            Self::PlaceOrder | Self::CancelOrder => Method::POST,
            _ => Method::GET,
        }
    }

    /// Whether a token may be asked for, and requests are counted.
    pub fn is_guarded(self) -> bool {
        !matches!(self, Self::OpenApi | Self::Docs)
    }

    /// Every status it may answer with. What is wrong before a route is found (400, 404, 405, 431) is nobody's.
    pub fn statuses(self) -> &'static [u16] {
        match self {
            Self::PlaceOrder => &[202, 400, 401, 403, 408, 413, 415, 422, 429, 500, 503, 504],
            Self::ListOrders => &[200, 400, 401, 403, 422, 429, 503, 504],
            Self::ShowOrder => &[200, 400, 401, 404, 429, 503, 504],
            Self::FollowOrder => &[200, 204, 400, 401, 404, 429, 503, 504],
            Self::CancelOrder => &[200, 400, 401, 404, 408, 409, 413, 422, 429, 500, 503, 504],
            Self::OpenApi | Self::Docs => &[200],
        }
    }
}
