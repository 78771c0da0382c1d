//! What keeps an order from going on: an event of it that is a dead letter.

use chrono::{DateTime, Utc};
use contracts::{DeliveryStalled, Event, PaymentStalled};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Order, Status};

/// A service that has buried an event of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Charges and refunds.
    Payments,
    /// Couriers.
    Delivery,
}

/// A dead letter that the order waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// Who has buried the event.
    pub by: Service,
    /// The event's type.
    pub event_type: String,
    /// What it died of.
    pub code: String,
    /// Since when that is known here.
    pub since: DateTime<Utc>,
    /// Its dead letter, as `dlq-inspector` names it.
    pub dead_letter_id: Uuid,
    /// Its generation.
    pub generation: u32,
}

impl Stalled {
    /// What `event` says of a dead letter, if it is about one.
    pub(super) fn of(event: &Event, since: DateTime<Utc>) -> Option<Self> {
        let (by, event_type, code, dead_letter_id, generation) = match event {
            Event::PaymentStalled(PaymentStalled {
                event_type, code, dead_letter_id, generation, ..
            }) => (Service::Payments, event_type, code, dead_letter_id, generation),
            Event::DeliveryStalled(DeliveryStalled {
                event_type, code, dead_letter_id, generation, ..
            }) => (Service::Delivery, event_type, code, dead_letter_id, generation),
            _ => return None,
        };
        let (event_type, code) = (event_type.clone(), code.clone());
        Some(Self { by, event_type, code, since, dead_letter_id: *dead_letter_id, generation: *generation })
    }

    /// Whether nothing waits for it any more: what would have come of it is known, or not wanted.
    pub(super) fn is_moot(&self, order: &Order) -> bool {
        let Order { status, facts, owed_since, .. } = order;
        match self.by {
            Service::Delivery => {
                !matches!(status, Status::Paid | Status::Pending)
                    || facts.courier.is_some()
                    || facts.delivery_failed.is_some()
            }
            // The end of the order, or what undoes it, is an event of its own.
            Service::Payments if self.is_of_the_charge() => {
                *status != Status::Pending || facts.paid.is_some()
            }
            // Money may be held: whatever has become of the order.
            Service::Payments => owed_since.is_none(),
        }
    }

    /// Whether `event` is what the dead letter was waited for: it was put back and has succeeded.
    pub(super) fn is_over_by(&self, event: &Event) -> bool {
        match self.by {
            // What has to go back has its own sign: that nothing is owed any more.
            Service::Payments => {
                self.is_of_the_charge() && matches!(event, Event::PaymentSuccess(_) | Event::PaymentFailed(_))
            }
            Service::Delivery => matches!(event, Event::DeliveryAssigned(_) | Event::DeliveryFailed(_)),
        }
    }

    fn is_of_the_charge(&self) -> bool {
        self.event_type == "ORDER_CREATED"
    }
}
