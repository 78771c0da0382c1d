//! The events, version 1.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    read::{Misfit, check, explain},
    topics,
};

/// Longest text of an event, in bytes; names and references are a good deal shorter.
const MAX_TEXT: usize = 16 << 10;

/// A field of an event: texts are bounded and storable.
trait Field {
    fn check(&self, _name: &'static str) -> Result<(), Misfit> {
        Ok(())
    }
}

impl Field for Uuid {}
impl Field for u32 {}
impl Field for i32 {}
impl Field for i64 {}

impl Field for String {
    fn check(&self, name: &'static str) -> Result<(), Misfit> {
        check(name, self, MAX_TEXT)
    }
}

impl Field for Option<String> {
    fn check(&self, name: &'static str) -> Result<(), Misfit> {
        self.as_ref().map_or(Ok(()), |text| text.check(name))
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $wire:literal on $topic:path { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name {
                /// The order this is about; also the record's key.
                pub order_id: Uuid,
                /// The order's version as the writer knew it: across topics there is no order, so consumers keep the highest.
                pub order_version: i64,
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl $name {
                fn checked(self) -> Result<Self, Misfit> {
                    $(self.$field.check(stringify!($field))?;)*
                    Ok(self)
                }
            }

            impl From<$name> for Event {
                fn from(event: $name) -> Self {
                    Self::$name(event)
                }
            }
        )*

        /// Any event of the platform.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum Event {
            $($(#[$doc])* $name($name),)*
        }

        impl Event {
            /// The wire name, such as `ORDER_CREATED`.
            pub fn event_type(&self) -> &'static str {
                match self { $(Self::$name(_) => $wire,)* }
            }

            /// The topic it is published to.
            pub fn topic(&self) -> &'static str {
                match self { $(Self::$name(_) => $topic,)* }
            }

            /// The order it is about.
            pub fn order_id(&self) -> Uuid {
                match self { $(Self::$name(event) => event.order_id,)* }
            }

            /// The order's version as the writer knew it.
            pub fn order_version(&self) -> i64 {
                match self { $(Self::$name(event) => event.order_version,)* }
            }

            /// Reads the payload of `event_type`; `None` for a type this version does not know.
            pub(crate) fn read(event_type: &str, payload: &str) -> Option<Result<Self, Misfit>> {
                match event_type {
                    $($wire => Some(match serde_json::from_str::<$name>(payload) {
                        Ok(event) => event.checked().map(Self::$name),
                        Err(_) => Err(explain::<$name>(payload.as_bytes())),
                    }),)*
                    _ => None,
                }
            }
        }
    };
}

events! {
    /// An order was accepted and waits for payment.
    OrderCreated = "ORDER_CREATED" on topics::ORDERS {
        /// Who ordered.
        customer_id: String,
        /// What.
        item: String,
        /// How many, at least 1.
        quantity: u32,
        /// The whole price in cents.
        amount_cents: i64,
        /// How to pay; test tokens force a path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payment_token: Option<String>,
    }
    /// The order was charged.
    PaymentSuccess = "PAYMENT_SUCCESS" on topics::PAYMENTS {
        /// What was charged, in cents.
        amount_cents: i64,
        /// The provider's name for the charge.
        provider_reference: String,
        /// The order's token, for the test tokens that concern later steps.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payment_token: Option<String>,
    }
    /// The order cannot be charged.
    PaymentFailed = "PAYMENT_FAILED" on topics::PAYMENTS {
        /// Why, for people.
        reason: String,
    }
    /// The charge was given back.
    PaymentRefunded = "PAYMENT_REFUNDED" on topics::PAYMENTS {
        /// What was given back, in cents.
        amount_cents: i64,
        /// The provider's name for the refund.
        provider_reference: String,
    }
    /// The order is closed to charges: it ended before there was one, and the provider holds nothing of it.
    PaymentVoided = "PAYMENT_VOIDED" on topics::PAYMENTS {}
    /// An event of the order is a dead letter of the payments service: until it is put back, nothing more comes of it.
    PaymentStalled = "PAYMENT_STALLED" on topics::PAYMENTS {
        /// The dead letter, as `dlq-inspector` names it.
        dead_letter_id: Uuid,
        /// The type of the event that died.
        event_type: String,
        /// What it died of: a code of docs/codes.md.
        code: String,
        /// 1 for its first death; one that was put back n times dies in generation n + 1.
        generation: u32,
    }
    /// A courier took the order.
    DeliveryAssigned = "DELIVERY_ASSIGNED" on topics::DELIVERIES {
        /// Who.
        courier_id: i32,
        /// Their name.
        courier: String,
    }
    /// Nobody could take the order.
    DeliveryFailed = "DELIVERY_FAILED" on topics::DELIVERIES {
        /// Why, for people.
        reason: String,
    }
    /// The order's payment is a dead letter of the delivery service: until it is put back, nobody is sent.
    DeliveryStalled = "DELIVERY_STALLED" on topics::DELIVERIES {
        /// The dead letter, as `dlq-inspector` names it.
        dead_letter_id: Uuid,
        /// The type of the event that died.
        event_type: String,
        /// What it died of: a code of docs/codes.md.
        code: String,
        /// 1 for its first death; one that was put back n times dies in generation n + 1.
        generation: u32,
    }
    /// Paid and assigned: done.
    OrderCompleted = "ORDER_COMPLETED" on topics::ORDERS {
        /// Who delivers.
        courier_id: i32,
    }
    /// Ended without delivery; what was paid has been given back, or is to be.
    OrderCancelled = "ORDER_CANCELLED" on topics::ORDERS {
        /// Why, for people.
        reason: String,
    }
    /// Paid, and then not delivered, cancelled or timed out: give the money back.
    RefundRequested = "REFUND_REQUESTED" on topics::ORDERS {
        /// What was charged, in cents.
        amount_cents: i64,
        /// Why, for people.
        reason: String,
    }
}
