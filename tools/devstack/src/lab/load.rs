//! Customers, who send an order again with its key until they are told that it is there.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tokio::{sync::watch, time::MissedTickBehavior};
use uuid::Uuid;

use crate::clients::gateway::{Gateway, Order};

/// A customer waits so long for an answer.
const TRY: Duration = Duration::from_secs(3);
/// And sends again after so long, doubled each time, up to a second.
const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(1);
/// Customers that wait at the same time, at most.
const WAITING: usize = 2_000;

/// How an order is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    Cancelled,
    /// As it comes: the provider tosses, or a cancel meets a delivery.
    Either,
}

impl End {
    /// Whether `state` is such an end.
    pub(super) fn is(self, state: &str) -> bool {
        match self {
            Self::Completed => state == "COMPLETED",
            Self::Cancelled => state == "CANCELLED",
            Self::Either => true,
        }
    }
}

/// Of so many of a hundred orders: what they are paid with, how they end.
const MIX: [(u32, &str, End); 7] = [
    (47, "tok_ok", End::Completed),
    (20, "card", End::Either),
    (10, "tok_flaky_1", End::Completed),
    (5, "tok_flaky_2", End::Completed),
    (9, "tok_declined", End::Cancelled),
    (8, "tok_no_courier", End::Cancelled),
    (1, "tok_crash_once", End::Completed),
];
/// Of so many of a hundred with `tok_ok` the customer thinks better of it.
const CANCELS: u32 = 8;

/// An order to place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    token: &'static str,
    end: End,
    /// When it is cancelled, after it was accepted.
    cancelled: Option<Duration>,
}

fn wish(random: &mut StdRng) -> Wish {
    let mut left = random.random_range(0..100);
    let (cancels, after) = (random.random_range(0..100) < CANCELS, random.random_range(0..500));
    for (share, token, end) in MIX {
        if left < share {
            let cancelled = (cancels && token == "tok_ok").then(|| Duration::from_millis(after));
            return Wish { token, end: if cancelled.is_some() { End::Either } else { end }, cancelled };
        }
        left -= share;
    }
    unreachable!("the shares are a hundred")
}

/// What customers know of their orders.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Wishes of customers.
    pub(super) placed: AtomicU64,
    /// Requests sent again.
    pub(super) repeated: AtomicU64,
    /// Those that were accepted, and how they are to end.
    accepted: Mutex<BTreeMap<Uuid, End>>,
    /// Answers that no repetition would change, and orders that were never accepted.
    refused: Mutex<Vec<String>>,
}

impl Orders {
    /// Those that were accepted.
    pub(super) fn accepted(&self) -> MutexGuard<'_, BTreeMap<Uuid, End>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was refused, or never accepted.
    pub(super) fn refused(&self) -> MutexGuard<'_, Vec<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The order that was accepted last, by its id.
    pub(super) fn latest(&self) -> Option<Uuid> {
        self.accepted().last_key_value().map(|(order, _)| *order)
    }

    /// Notes an order by which a recovery is seen.
    pub(super) fn probe(&self, order: Uuid) {
        self.placed.fetch_add(1, Ordering::Relaxed);
        self.accepted().insert(order, End::Completed);
    }
}

/// Places so many orders a second for `duration`, unless it is to end before, and waits until each was answered for good, or until
/// `patience` is over after that. Which ones they are depends on the seed alone.
pub(super) async fn run(
    gateway: &Gateway,
    orders: &Orders,
    seed: u64,
    (rate, duration, patience): (f64, Duration, Duration),
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let start = Instant::now();
    let until = start + duration + patience;
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut customers = FuturesUnordered::new();
    while start.elapsed() < duration {
        tokio::select! {
            _ = ticks.tick(), if customers.len() < WAITING => {
                orders.placed.fetch_add(1, Ordering::Relaxed);
                customers.push(customer(gateway, orders, wish(&mut random), until));
            }
            Some(()) = customers.next() => {}
            Ok(_) = stop.wait_for(|stop| *stop) => break,
        }
    }
    while let Some(()) = customers.next().await {}
    Ok(())
}

/// Places an order, however often it has to be sent, and maybe cancels it.
async fn customer(gateway: &Gateway, orders: &Orders, wish: Wish, until: Instant) {
    let key = Uuid::new_v4().to_string();
    let body = json!({ "item": "Margherita pizza", "payment_token": wish.token }).to_string();
    let mut pause = FIRST;
    let order = loop {
        let asked = async {
            let answer = gateway.post_as(body.clone().into_bytes(), &key, Some(&key)).await?;
            anyhow::Ok((answer.status().as_u16(), answer.text().await?))
        };
        let said = match tokio::time::timeout(TRY, asked).await {
            Ok(Ok((202, text))) => match serde_json::from_str::<Order>(&text) {
                Ok(order) => break order.order_id,
                Err(error) => return orders.refused().push(format!("202, and no order ({error}): {text}")),
            },
            // Timed out, in hand already, too many: those may be asked again.
            Ok(Ok((status @ 400..500, text))) if ![408, 409, 429].contains(&status) => {
                return orders.refused().push(format!("{status}: {text}"));
            }
            Ok(Ok((status, text))) => format!("{status}: {text}"),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no answer within {TRY:?}"),
        };
        if Instant::now() > until {
            return orders.refused().push(format!("never accepted; at last: {said}"));
        }
        orders.repeated.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pause).await;
        pause = LAST.min(pause * 2);
    };
    orders.accepted().insert(order, wish.end);
    if let Some(after) = wish.cancelled {
        tokio::time::sleep(after).await;
        // 409: it was delivered before. An order that cannot be cancelled now ends as it would have.
        let mut pause = FIRST;
        while !matches!(tokio::time::timeout(TRY, gateway.cancel(order)).await, Ok(Ok((200..=202 | 409, _))))
        {
            if Instant::now() > until {
                return orders.refused().push(format!("the cancel of {order} was never answered"));
            }
            orders.repeated.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            pause = LAST.min(pause * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_a_hundred_and_a_seed_wishes_the_same_again() {
        assert_eq!(MIX.iter().map(|(share, ..)| share).sum::<u32>(), 100);
        let drawn = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            (0..1_000).map(|_| wish(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        for (_, token, _) in MIX {
            assert!(drawn(1).iter().any(|wish| wish.token == token), "{token}");
        }
        let cancels = drawn(1).iter().filter(|wish| wish.cancelled.is_some()).count();
        assert!((10..100).contains(&cancels), "{cancels}");
    }
}
