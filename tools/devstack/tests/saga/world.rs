//! One order with all who have to do with it, and what can happen next.

use std::time::Duration;

use chrono::{DateTime, Utc};
use contracts::{DeliveryStalled, Event, OrderCreated, PaymentStalled};
use delivery::domain::{self as delivery_domain, Assignment, Courier, Couriers, Try};
use orders::domain::{self as orders_domain, Close, Order, Status};
use payments::{
    domain::{self as payments_domain, Answer, Call, Kind, Payment},
    provider::{ChargeAnswer, Reference, VoidAnswer},
};
use uuid::Uuid;

const ORDER: Uuid = Uuid::from_u128(7);
const CENTS: i64 = 900;
const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// How much of what may go wrong does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowed {
    /// Cancels and time-outs, besides the one that ends an order which would wait for ever.
    pub(crate) closes: u8,
    /// Events that are heard once more, at any later moment.
    pub(crate) repeats: u8,
    /// Events that die, and may be put back.
    pub(crate) deaths: u8,
    /// Charges whose answers are lost.
    pub(crate) lost_answers: u8,
}

/// What the provider has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Provider {
    pub(crate) charges: u8,
    pub(crate) refunds: u8,
    voided: bool,
}

/// The topics, each with what was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    Orders,
    Payments,
    Deliveries,
}

/// Who reads which topic: an index of `heard`.
const READERS: [(Reader, Topic); 5] = [
    (Reader::Payments, Topic::Orders),
    (Reader::Delivery, Topic::Orders),
    (Reader::Orders, Topic::Payments),
    (Reader::Delivery, Topic::Payments),
    (Reader::Orders, Topic::Deliveries),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Orders,
    Payments,
    Delivery,
}

/// Who writes to `orders`, each in an order of its own: the intake, who ends orders, and the lanes of the two topics that orders reads.
const INTAKE: usize = 0;
const CLOSING: usize = 1;
const LANES: [(Topic, usize); 2] = [(Topic::Payments, 2), (Topic::Deliveries, 3)];

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) order: Order,
    pub(crate) payment: Option<Payment>,
    assignment: Option<Assignment>,
    couriers: Couriers,
    pub(crate) provider: Provider,
    /// Written with an order, and not published yet.
    outboxes: [Vec<Event>; 4],
    logs: [Vec<Event>; 3],
    /// How many of its topic each reader has heard.
    heard: [usize; 5],
    /// Dead letters that nobody has put back.
    dead: Vec<(usize, Event)>,
    /// Dead letters that came to nothing when they were put back.
    pub(crate) moot: u8,
    /// What provider and couriers have said.
    pub(crate) answers: Vec<&'static str>,
    left: Allowed,
}

impl World {
    pub(crate) fn new(allowed: Allowed) -> Self {
        let created = OrderCreated {
            order_id: ORDER,
            order_version: 1,
            customer_id: "c".into(),
            item: "soup".into(),
            quantity: 1,
            amount_cents: CENTS,
            payment_token: None,
        };
        let courier = Courier { id: 1, name: "Ada".into(), capacity: 1, load: 0 };
        Self {
            order: Order::new(NOW),
            payment: None,
            assignment: None,
            couriers: Couriers::new(vec![courier]),
            provider: Provider::default(),
            outboxes: [vec![created.into()], Vec::new(), Vec::new(), Vec::new()],
            logs: Default::default(),
            heard: [0; 5],
            dead: Vec::new(),
            moot: 0,
            answers: Vec::new(),
            left: allowed,
        }
    }

    /// Every world that one step leads to: those that will happen if nothing else does, and those that somebody may bring about or not.
    pub(crate) fn steps(&self) -> (Vec<Self>, Vec<Self>) {
        let (mut next, mut wishes) = (Vec::new(), Vec::new());
        for writer in [INTAKE, CLOSING, LANES[0].1, LANES[1].1] {
            next.extend(self.with(|world| {
                if world.outboxes[writer].is_empty() {
                    return false;
                }
                let event = world.outboxes[writer].remove(0);
                world.log(Topic::Orders).push(event);
                true
            }));
        }
        for (at, (_, topic)) in READERS.iter().enumerate() {
            let log = &self.logs[*topic as usize];
            if let Some(event) = log.get(self.heard[at]) {
                let mut passed = self.clone();
                passed.heard[at] += 1;
                next.extend(passed.hear(at, event));
                next.extend(passed.bury(at, event));
            }
            if self.left.repeats > 0 {
                let mut again = self.clone();
                again.left.repeats -= 1;
                log[..self.heard[at]].iter().for_each(|event| wishes.extend(again.hear(at, event)));
            }
        }
        for letter in 0..self.dead.len() {
            let mut back = self.clone();
            let (at, event) = back.dead.remove(letter);
            wishes.extend(back.hear(at, &event));
        }
        if self.left.closes > 0 {
            wishes.extend(self.with(|world| {
                world.left.closes -= 1;
                world.close()
            }));
        }
        if next.is_empty() && !self.order.status.is_final() {
            // Nothing moves any more: its time will be over.
            next.extend(self.with(Self::close));
        }
        (next, wishes)
    }

    fn with(&self, change: impl FnOnce(&mut Self) -> bool) -> Option<Self> {
        let mut world = self.clone();
        change(&mut world).then_some(world)
    }

    fn log(&mut self, topic: Topic) -> &mut Vec<Event> {
        &mut self.logs[topic as usize]
    }

    fn close(&mut self) -> bool {
        match orders_domain::close(ORDER, &self.order, Close::ByCustomer, NOW) {
            Ok(outcome) => {
                self.order = outcome.order;
                self.outboxes[CLOSING].extend(outcome.event);
                true
            }
            Err(_too_late) => false,
        }
    }

    /// What comes of an event that a reader hears.
    fn hear(&self, at: usize, event: &Event) -> Vec<Self> {
        match READERS[at] {
            (Reader::Orders, topic) => vec![self.orders(topic, event)],
            (Reader::Payments, _) => self.payments(event),
            (Reader::Delivery, _) => self.delivery(event),
        }
    }

    fn orders(&self, topic: Topic, event: &Event) -> Self {
        let mut world = self.clone();
        let outcome = orders_domain::decide(event, Some(&self.order), NOW).expect("it exists");
        world.order = outcome.order;
        let lane = LANES.iter().find(|(other, _)| *other == topic).map_or(INTAKE, |(_, lane)| *lane);
        world.outboxes[lane].extend(outcome.event);
        world
    }

    /// Asks the provider what has to be asked, with everything that it may answer.
    fn payments(&self, event: &Event) -> Vec<Self> {
        if !matches!(event, Event::OrderCreated(_) | Event::RefundRequested(_) | Event::OrderCancelled(_)) {
            return vec![self.clone()];
        }
        let (charge, refund) = (Reference::new("ch"), Reference::new("re"));
        let decided = |mut world: Self, answer: Answer| {
            let outcome =
                payments_domain::decide(event, world.payment.as_ref(), answer, NOW).expect("it fits");
            world.payment = outcome.payment.or(world.payment);
            world.log(Topic::Payments).extend(outcome.event);
            world
        };
        match payments_domain::call(event, self.payment.as_ref()).expect("it makes sense") {
            Call::Nothing => {
                let mut world = self.clone();
                let late = payments_domain::moot(event, self.payment.as_ref()).is_some();
                world.moot += u8::from(late && matches!(event, Event::OrderCreated(_)));
                vec![decided(world, Answer::NotAsked)]
            }
            // A charge that was voided before is refused for ever: one more dead letter.
            Call::Charge { .. } if self.provider.voided => Vec::from_iter(self.bury(0, event)),
            Call::Charge { .. } => {
                let mut charged = self.clone();
                charged.provider.charges = 1;
                let mut worlds = Vec::new();
                if self.left.lost_answers > 0 {
                    let mut lost = charged.clone();
                    lost.left.lost_answers -= 1;
                    // Tried again at once, or later as a dead letter.
                    worlds.extend(lost.payments(event));
                    worlds.extend(lost.bury(0, event));
                }
                // Asked again, a provider says what it said before.
                if self.provider.charges == 0 {
                    let mut declined = self.clone();
                    declined.answers.push("declined");
                    worlds.push(decided(
                        declined,
                        Answer::Charge(ChargeAnswer::Declined { reason: "no".into() }),
                    ));
                }
                charged.answers.push("charged");
                worlds.push(decided(charged, Answer::Charge(ChargeAnswer::Approved(charge))));
                worlds
            }
            Call::Refund(_) => {
                let mut world = self.clone();
                world.provider.refunds += 1;
                vec![decided(world, Answer::Refund(refund))]
            }
            Call::Void => {
                let mut world = self.clone();
                world.provider.voided = true;
                if world.provider.charges == 0 {
                    return vec![decided(world, Answer::Void(VoidAnswer::Nothing))];
                }
                world.provider.refunds += 1;
                let answer = VoidAnswer::Returned { amount_cents: CENTS, charge, refund };
                vec![decided(world, Answer::Void(answer))]
            }
        }
    }

    /// With somebody who is free, and with nobody who will be in time.
    fn delivery(&self, event: &Event) -> Vec<Self> {
        let decided = |nobody: bool| {
            let mut world = self.clone();
            let mut couriers = if nobody { Couriers::new(Vec::new()) } else { self.couriers.clone() };
            let this_try = Try { age: Duration::MAX, patience: Duration::ZERO, now: NOW, test_tokens: false };
            let outcome = delivery_domain::decide(event, self.assignment.as_ref(), &mut couriers, this_try)
                .expect("its patience is over");
            if !nobody {
                world.couriers = couriers;
            }
            if let Some(said) = &outcome.event {
                world.answers.push(said.event_type());
            }
            world.assignment = outcome.assignment.or(world.assignment);
            world.log(Topic::Deliveries).extend(outcome.event);
            world
        };
        match event {
            Event::PaymentSuccess(_) if self.assignment.is_none() => vec![decided(false), decided(true)],
            _ => vec![decided(false)],
        }
    }

    /// The event is a dead letter, if it may be one.
    fn bury(&self, at: usize, event: &Event) -> Option<Self> {
        let (order_version, dead_letter_id, code) =
            (event.order_version(), Uuid::from_u128(1), "dead".to_owned());
        let (event_type, generation) = (event.event_type().to_owned(), 1);
        let (topic, stalled): (Topic, Event) = match (READERS[at].0, event) {
            (
                Reader::Payments,
                Event::OrderCreated(_) | Event::RefundRequested(_) | Event::OrderCancelled(_),
            ) => {
                let order_id = ORDER;
                let stalled =
                    PaymentStalled { order_id, order_version, dead_letter_id, event_type, code, generation };
                (Topic::Payments, stalled.into())
            }
            (Reader::Delivery, Event::PaymentSuccess(_)) => {
                let order_id = ORDER;
                let stalled =
                    DeliveryStalled { order_id, order_version, dead_letter_id, event_type, code, generation };
                (Topic::Deliveries, stalled.into())
            }
            _ => return None,
        };
        if self.left.deaths == 0 {
            return None;
        }
        let mut world = self.clone();
        world.left.deaths -= 1;
        world.dead.push((at, event.clone()));
        world.log(topic).push(stalled);
        Some(world)
    }

    /// What must hold in every world.
    pub(crate) fn check(&self) {
        let Provider { charges, refunds, .. } = self.provider;
        assert!(refunds <= charges && charges <= 1, "money moved more than once: {self:#?}");
        assert!(
            self.order.status != Status::Completed || refunds == 0,
            "delivered and given back: {self:#?}"
        );
    }

    /// What must hold when nothing happens any more, whether or not its dead letters are put back.
    pub(crate) fn check_end(&self) {
        let Provider { charges, refunds, .. } = self.provider;
        let held = charges - refunds;
        let expected = u8::from(self.order.status == Status::Completed);
        let undoing = |event: &Event| matches!(event, Event::RefundRequested(_) | Event::OrderCancelled(_));
        let undone_is_dead = self.dead.iter().any(|(at, event)| *at == 0 && undoing(event));
        if undone_is_dead {
            // Nobody can do it now; but it is to be seen, until somebody has put the letter back.
            let shown = self.order.owed_since.is_some() || held == expected;
            assert!(shown, "money is held, and nobody sees it: {self:#?}");
            return;
        }
        assert!(self.order.status.is_final(), "it waits for ever: {self:#?}");
        assert_eq!(held, expected, "held by the provider: {self:#?}");
        assert_eq!(self.order.owed_since, None, "something seems to be owed: {self:#?}");
        let entries = self.payment.as_ref().map_or(&[][..], |payment| &payment.unsaved);
        let booked = |kind| entries.iter().filter(|entry| entry.kind == kind).count();
        let ledger = (booked(Kind::Charge), booked(Kind::Refund));
        assert_eq!(ledger, (charges.into(), refunds.into()), "the ledger: {self:#?}");
        let carried: i32 = self.couriers.changes().map(|(_, by)| by).sum();
        assert_eq!(carried, 0, "a courier carries it: {self:#?}");
        assert_eq!(self.order.stalled, None, "it waits for a dead letter: {self:#?}");
    }
}
