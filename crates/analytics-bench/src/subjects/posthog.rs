//! The crate `posthog-rs`: `capture`, which hands an event to a background
//! thread, and `flush`.
//!
//! It does not wait for room: what does not fit into its queue (of 10,000, if
//! nothing is said) is dropped with a line in the log. So the queue gets the
//! size of our store here, and is flushed whenever it may be full. Its thread
//! sends one request at a time, uncompressed; of 100 events, if nothing is
//! said, and of as many as ours here. `flush` returns when it has tried: it
//! does not say whether it has succeeded, but the sink's count does.

use posthog_rs::{ClientOptionsBuilder, Event};

use super::BATCH;
use crate::{
    Outcome,
    measure::{Cost, Stopwatch},
    order::{EVENT, Order},
};

/// How many events our store keeps, if nothing is said.
const QUEUE: u64 = 100_000;

pub(super) fn run(sink: &str, events: u64) -> Outcome<Cost> {
    super::runtime()?.block_on(async {
        let options = ClientOptionsBuilder::default()
            .api_key("key".to_owned())
            .host(sink)
            .max_queue_size(usize::try_from(QUEUE)?)
            .flush_at(BATCH)
            .max_batch_size(BATCH)
            .build()?;
        let client = posthog_rs::client(options).await;
        let stopwatch = Stopwatch::start()?;
        for number in 0..events {
            if number > 0 && number.is_multiple_of(QUEUE) {
                client.flush().await;
            }
            client.capture(event(Order::new(number))?);
        }
        client.flush().await;
        let cost = stopwatch.stop()?;
        client.shutdown().await;
        Ok(cost)
    })
}

/// PostHog has no context: it stands among the properties.
fn event(order: Order) -> Outcome<Event> {
    let mut event = Event::new(EVENT.to_owned(), order.user_id);
    event.insert_prop("order_id", order.order_id)?;
    event.insert_prop("revenue", order.revenue)?;
    event.insert_prop("currency", order.currency)?;
    event.insert_prop("quantity", order.quantity)?;
    event.insert_prop("is_first", order.is_first)?;
    event.insert_prop("skus", order.skus)?;
    event.insert_prop("coupon", order.coupon)?;
    event.insert_prop("$ip", order.ip)?;
    event.insert_prop("locale", order.locale)?;
    event.insert_prop("$raw_user_agent", order.user_agent)?;
    Ok(event)
}
