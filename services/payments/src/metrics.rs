//! What the payments service measures, beside what the runtime does.

use metrics::{counter, describe_counter};

/// Charges that were decided. Labels: result (`success`, `failed`). Counted before the commit: a batch that is rolled
/// back and redone counts twice; the ledger is the authority.
pub const PAYMENTS: &str = "backburner_payments_total";
/// Refunds, counted likewise.
pub const REFUNDS: &str = "backburner_refunds_total";

/// Describes all of them.
pub fn describe() {
    describe_counter!(PAYMENTS, "Charges that were decided, by result");
    describe_counter!(REFUNDS, "Charges that were given back");
    // A series that is born with its first event has no increase that an alert could see.
    for result in ["success", "failed"] {
        counter!(PAYMENTS, "result" => result).increment(0);
    }
    counter!(REFUNDS).increment(0);
}
