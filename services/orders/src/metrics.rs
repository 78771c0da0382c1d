//! What the orders service measures, beside what the runtime does.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use uuid::Uuid;

use crate::{domain::Order, store::Standing};

/// Orders accepted.
pub const CREATED: &str = "backburner_orders_created_total";
/// Orders that reached an end. Label: state. Counted before the commit: a batch that is rolled back and redone counts
/// twice; the table is the authority.
pub const TERMINAL: &str = "backburner_orders_terminal_total";
/// Time from acceptance to the end, seconds, counted likewise. Label: state.
pub const PROCESSING: &str = "backburner_order_processing_seconds";
/// Transactions in which orders were accepted: orders divided by this is the size of a batch.
pub const INTAKE_BATCHES: &str = "backburner_orders_intake_batches_total";

/// Orders that wait for a dead letter. As all of these, of the whole table: every instance shows the same.
pub const STALLED: &str = "backburner_orders_stalled";
/// Since when the oldest PENDING or PAID order was placed, seconds; 0 without one. Label: state.
pub const OLDEST: &str = "backburner_orders_oldest_seconds";

/// For how long money may have to go back already, of the order of which that has been so for longest, seconds; 0 without one.
pub const OWED: &str = "backburner_orders_owed_oldest_seconds";
/// How long an order may take, seconds.
pub const TIMEOUT: &str = "backburner_orders_timeout_seconds";
/// When those were last counted, seconds since the Unix epoch; 0 before the first time.
pub const COUNTED: &str = "backburner_orders_counted_timestamp_seconds";

/// Describes all of them.
pub fn describe() {
    describe_counter!(CREATED, "Orders accepted");
    describe_counter!(TERMINAL, "Orders that reached an end, by state");
    describe_histogram!(PROCESSING, Unit::Seconds, "Time from acceptance to the end, by state");
    describe_counter!(INTAKE_BATCHES, "Transactions in which orders were accepted");
    describe_gauge!(STALLED, "Orders that wait for a dead letter");
    describe_gauge!(OLDEST, Unit::Seconds, "Since when the oldest order has not ended, by state");
    describe_gauge!(OWED, Unit::Seconds, "For how long money may have to go back already");
    describe_gauge!(TIMEOUT, Unit::Seconds, "How long an order may take");
    describe_gauge!(COUNTED, "When orders that wait were last counted, seconds since the Unix epoch");
    for gauge in [TIMEOUT, COUNTED] {
        gauge!(gauge).set(0.0);
    }
    show(Standing::default());
    // A series that is born with its first event has no increase that an alert could see.
    for counter in [CREATED, INTAKE_BATCHES] {
        counter!(counter).increment(0);
    }
    for state in ["COMPLETED", "CANCELLED"] {
        counter!(TERMINAL, "state" => state).increment(0);
    }
}

/// Shows the orders that wait.
pub fn show(standing: Standing) {
    let Standing { stalled, pending, paid, owed } = standing;
    gauge!(STALLED).set(stalled as f64);
    gauge!(OWED).set(owed);
    for (state, seconds) in [("PENDING", pending), ("PAID", paid)] {
        gauge!(OLDEST, "state" => state).set(seconds);
    }
}

/// Counts those of the changed orders that have ended.
pub fn ended(changed: &[(Uuid, Order)]) {
    for (_, order) in changed.iter().filter(|(_, order)| order.ended) {
        let status = order.status.as_str();
        let ended_at = order.unsaved.last().map_or(order.created_at, |entry| entry.recorded_at);
        let took = (ended_at - order.created_at).to_std().unwrap_or_default();
        counter!(TERMINAL, "state" => status).increment(1);
        histogram!(PROCESSING, "state" => status).record(took.as_secs_f64());
    }
}
