//! The language the services share: envelope, events, topics. No I/O.
//!
//! A record's body is an [`Envelope`] in JSON; its key is the order's id. [`Envelope::parse`] tells apart what a consumer
//! must treat differently: an event it knows, a type it does not (to be ignored), and bytes nobody can read.

mod envelope;
mod event;
mod read;
pub mod topics;

pub use self::{
    envelope::{CONTENT_TYPE, Envelope, Known, MAX_CORRELATION_ID, ParseError, Parsed, VERSION},
    event::{
        DeliveryAssigned, DeliveryFailed, DeliveryStalled, Event, OrderCancelled, OrderCompleted,
        OrderCreated, PaymentFailed, PaymentRefunded, PaymentStalled, PaymentSuccess, PaymentVoided,
        RefundRequested,
    },
    read::{Misfit, TextPosition, read},
};
