//! What the payments service measures, beside what the runtime does.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::money::Difference;

/// Charges that were decided. Labels: result (`success`, `failed`). Counted before the commit: a batch that is rolled
/// back and redone counts twice; the ledger is the authority.
pub const PAYMENTS: &str = "backburner_payments_total";
/// Refunds, counted likewise.
pub const REFUNDS: &str = "backburner_refunds_total";

/// Orders of the last day over which the ledger and the provider's list of charges differ. Label: difference.
pub const MONEY_DIFFERENCES: &str = "backburner_money_differences";
/// When the two were last compared, seconds since the Unix epoch; 0 before the first time, and for ever where the provider has no list.
pub const MONEY_COMPARED: &str = "backburner_money_compared_timestamp_seconds";

/// Describes all of them.
pub fn describe() {
    describe_counter!(PAYMENTS, "Charges that were decided, by result");
    describe_counter!(REFUNDS, "Charges that were given back");
    // A series that is born with its first event has no increase that an alert could see.
    for result in ["success", "failed"] {
        counter!(PAYMENTS, "result" => result).increment(0);
    }
    counter!(REFUNDS).increment(0);
    describe_gauge!(
        MONEY_DIFFERENCES,
        "Orders of the last day over which ledger and provider differ, by how"
    );
    describe_gauge!(
        MONEY_COMPARED,
        "When ledger and provider were last compared, seconds since the Unix epoch"
    );
    gauge!(MONEY_COMPARED).set(0.0);
    for difference in Difference::ALL {
        gauge!(MONEY_DIFFERENCES, "difference" => difference.as_str()).set(0.0);
    }
}
