//! What every step of the demo stands on: the running stack and its clients, and how a step is shown.

use std::time::Duration;

use anyhow::Result;

use super::evidence::Evidence;
use crate::{
    clients::{
        gateway::{Gateway, Order},
        inspector::Inspector,
    },
    stack::Stack,
    topology::{KAFKA_BROKERS, Role},
};

/// Time an order is given to end, and a log line to appear.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// A running demo.
pub(super) struct Demo {
    pub(super) stack: Stack,
    pub(super) gateway: Gateway,
    pub(super) inspector: Inspector,
    pub(super) payments: Evidence,
    pub(super) brokers: String,
    steps: u32,
}

impl Demo {
    /// On a stack that serves.
    pub(super) fn new(stack: Stack) -> Result<Self> {
        Ok(Self {
            gateway: Gateway::new(stack.gateway_url()?, 8)?,
            inspector: Inspector::new(&stack)?,
            payments: Evidence::new(stack.log(Role::Payments, 1)),
            brokers: stack.url(KAFKA_BROKERS)?.to_owned(),
            stack,
            steps: 0,
        })
    }

    /// Begins a step.
    pub(super) fn heading(&mut self, title: &str) {
        self.steps += 1;
        println!("\n── {}. {title}", self.steps);
    }
}

/// A line about something that was checked and held.
pub(super) fn proved(what: &str) {
    println!("   ✓ {what}");
}

/// Prints what happened to an order, and when.
pub(super) fn timeline(order: &Order) {
    println!("   order {} is {}", order.order_id, order.status);
    let Some(first) = order.timeline.first() else { return };
    for moment in &order.timeline {
        let after = (moment.recorded_at - first.recorded_at).num_milliseconds();
        println!("     {after:>6} ms  {:9} {}", moment.service, moment.event_type);
    }
}
