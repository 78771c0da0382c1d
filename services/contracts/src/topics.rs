//! Topics and the groups that read them.

/// Partitions of every topic, unless a setting says otherwise; the same everywhere.
pub const PARTITIONS: i32 = 6;

/// What orders say: created, completed, cancelled, refund requested.
pub const ORDERS: &str = "orders";
/// What payments say: success, failed, refunded, voided, stalled.
pub const PAYMENTS: &str = "payments";
/// What delivery says: assigned, failed, stalled.
pub const DELIVERIES: &str = "deliveries";

/// The orders service's consumer group.
pub const ORDERS_GROUP: &str = "orders-service";
/// The payments service's consumer group.
pub const PAYMENTS_GROUP: &str = "payments-service";
/// The delivery service's consumer group.
pub const DELIVERY_GROUP: &str = "delivery-service";

/// Every group with the topics it reads.
pub const READERS: [(&str, &[&str]); 3] = [
    (ORDERS_GROUP, &[PAYMENTS, DELIVERIES]),
    (PAYMENTS_GROUP, &[ORDERS]),
    (DELIVERY_GROUP, &[PAYMENTS, ORDERS]),
];
