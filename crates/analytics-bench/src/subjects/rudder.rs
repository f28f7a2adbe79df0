//! The crate `rudderanalytics`: its blocking client, with `Message::Batch`.
//!
//! It has a batcher, but in a file that is not part of the crate, so the
//! program puts events together itself: as many as ours here. A batch is
//! posted uncompressed, and its answer waited for: one request at a time. It
//! retries 429, 5xx and broken connections, makes no message ids, and gives
//! every event the time of its batch.

use rudderanalytics::{
    client::RudderAnalytics,
    message::{Batch, BatchMessage, Message, Track},
};
use serde_json::json;

use super::BATCH;
use crate::{
    Outcome,
    measure::{Cost, Stopwatch},
    order::{EVENT, Order},
};

pub(super) fn run(sink: &str, events: u64) -> Outcome<Cost> {
    let client = RudderAnalytics::load("key".to_owned(), sink.to_owned());
    let stopwatch = Stopwatch::start()?;
    let mut batch = Vec::with_capacity(BATCH);
    for number in 0..events {
        batch.push(BatchMessage::Track(track(Order::new(number))));
        if batch.len() == BATCH {
            send(&client, std::mem::take(&mut batch))?;
        }
    }
    if !batch.is_empty() {
        send(&client, batch)?;
    }
    stopwatch.stop()
}

fn send(client: &RudderAnalytics, batch: Vec<BatchMessage>) -> Outcome<()> {
    let batch = Batch {
        batch,
        context: None,
        integrations: None,
        original_timestamp: None,
    };
    let sent = client.send(&Message::Batch(batch));
    sent.map_err(|error| error.to_string().into())
}

fn track(order: Order) -> Track {
    Track {
        user_id: Some(order.user_id),
        event: EVENT.to_owned(),
        properties: Some(json!({
            "order_id": order.order_id,
            "revenue": order.revenue,
            "currency": order.currency,
            "quantity": order.quantity,
            "is_first": order.is_first,
            "skus": order.skus,
            "coupon": order.coupon,
        })),
        context: Some(json!({
            "ip": order.ip,
            "locale": order.locale,
            "userAgent": order.user_agent,
        })),
        ..Track::default()
    }
}
