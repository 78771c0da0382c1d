//! What the admin port shows of a consumer group, and asks of it.

use actors::{Cause, Condition, Group, OperateError, ParkedStatus, PartitionStatus, metrics::Sample};
use futures_util::future::{BoxFuture, FutureExt};

use super::operation::Operation;

/// What the admin port shows of a consumer group.
pub trait Lanes: Send + Sync + 'static {
    /// Why it cannot work yet; `None` when it can.
    fn not_ready(&self) -> Option<String>;
    /// What of it does not work, its lanes among it.
    fn degraded(&self) -> Vec<Condition>;
    /// Its lanes, by topic and partition.
    fn partitions(&self) -> Vec<PartitionStatus>;
    /// Its gauges as they are now.
    fn samples(&self) -> Vec<Sample> {
        Vec::new()
    }
    /// What of it has ended that never should.
    fn dead(&self) -> Option<String> {
        None
    }
    /// Its waiting records, oldest first, at most `limit`.
    fn parked(&self, limit: i64) -> BoxFuture<'_, Result<Vec<ParkedStatus>, Cause>>;
    /// Does what an operator asks for; what was done, in words.
    fn operate(&self, operation: Operation) -> BoxFuture<'_, Result<String, OperateError>>;
}

impl Lanes for Group {
    fn not_ready(&self) -> Option<String> {
        Self::not_ready(self)
    }

    fn degraded(&self) -> Vec<Condition> {
        Self::degraded(self)
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        Self::partitions(self)
    }

    fn samples(&self) -> Vec<Sample> {
        Self::samples(self)
    }

    fn dead(&self) -> Option<String> {
        Self::dead(self)
    }

    fn parked(&self, limit: i64) -> BoxFuture<'_, Result<Vec<ParkedStatus>, Cause>> {
        Self::parked(self, limit).boxed()
    }

    fn operate(&self, operation: Operation) -> BoxFuture<'_, Result<String, OperateError>> {
        operation.carry_out(self).boxed()
    }
}
