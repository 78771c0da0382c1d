//! What the delivery service measures, beside what the runtime does.

use metrics::{counter, describe_counter};

/// Deliveries by what became of them. Labels: result (`assigned`, `released`, `failed`, `closed`). Counted before the
/// commit: a batch that is rolled back and redone counts twice; the table is the authority.
pub const ASSIGNMENTS: &str = "backburner_assignments_total";

/// Describes all of them.
pub fn describe() {
    describe_counter!(ASSIGNMENTS, "Deliveries by what became of them");
    // A series that is born with its first event has no increase that an alert could see.
    for result in ["assigned", "released", "failed", "closed"] {
        counter!(ASSIGNMENTS, "result" => result).increment(0);
    }
}
