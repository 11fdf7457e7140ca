//! What the connections of one loop share: the plan, the order in force, and the recorder.

use super::Plan;
use super::orders::{Order, Orders};
use crate::tally::{Fault, Interval};
use polyloop::ConnRef;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// See the module's documentation. It lives on one loop and never leaves it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Arc<Plan>,
    orders: Arc<Orders>,
    known_order: Cell<u64>,
    order: Cell<Order>,
    /// Connections of this loop that are open.
    pub(crate) open: Cell<u64>,
    /// Requests sent and not answered, whatever their stage.
    pub(crate) outstanding: Cell<u64>,
    /// Whom the clerk tells of a new order.
    pub(crate) clients: RefCell<Vec<ConnRef>>,
    recorder: RefCell<Interval>,
}

impl Shared {
    pub(crate) fn new(
        plan: Arc<Plan>,
        orders: Arc<Orders>,
        loop_index: usize,
        now_ns: u64,
    ) -> Self {
        Self {
            plan,
            orders,
            known_order: Cell::new(0),
            order: Cell::new(Order::SILENCE),
            open: Cell::new(0),
            outstanding: Cell::new(0),
            clients: RefCell::default(),
            recorder: RefCell::new(Interval::new(0, loop_index, now_ns)),
        }
    }

    #[inline]
    pub(crate) const fn order(&self) -> Order {
        self.order.get()
    }

    /// The order that has come since this was asked last.
    pub(crate) fn news(&self) -> Option<Order> {
        let (number, order) = self.orders.news(self.known_order.get())?;
        self.known_order.set(number);
        Some(order)
    }

    pub(crate) fn obey(&self, order: Order) {
        self.order.set(order);
    }

    /// Writes into the recorder. One borrow for each request, by those who hold no other.
    #[inline]
    pub(crate) fn record(&self, write: impl FnOnce(&mut Interval)) {
        write(&mut self.recorder.borrow_mut());
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.record(|interval| interval.counts.fault(fault));
    }

    /// Takes what was recorded, and goes on with `next`.
    pub(crate) fn swap(&self, next: Interval) -> Interval {
        self.recorder.replace(next)
    }

    pub(crate) fn opened(&self) {
        self.open.set(self.open.get() + 1);
    }

    pub(crate) fn closed(&self) {
        self.open.set(self.open.get().saturating_sub(1));
    }
}
