//! The crate `segment`: its `AutoBatcher`, as its README has it.
//!
//! It sends a batch of up to 512,000 bytes when the next event does not fit,
//! uncompressed, and waits for the answer before it takes that event: one
//! request at a time. It retries nothing, does not read the answer's body, and
//! makes no message ids.

use std::time::Duration;

use segment::{
    AutoBatcher, Batcher, HttpClient,
    message::{Track, User},
};
use serde_json::json;

use crate::{
    Outcome,
    measure::{Cost, Stopwatch},
    order::{EVENT, Order},
};

pub(super) fn run(sink: &str, events: u64) -> Outcome<Cost> {
    super::runtime()?.block_on(async {
        // As its own default, but for the host.
        let client = reqwest_segment::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .build()?;
        let client = HttpClient::new(client, sink.to_owned());
        let mut batcher = AutoBatcher::new(client, Batcher::new(None), "key".to_owned());
        let stopwatch = Stopwatch::start()?;
        for number in 0..events {
            batcher.push(track(Order::new(number))).await?;
        }
        batcher.flush().await?;
        stopwatch.stop()
    })
}

fn track(order: Order) -> Track {
    Track {
        user: User::UserId {
            user_id: order.user_id,
        },
        event: EVENT.to_owned(),
        properties: json!({
            "order_id": order.order_id,
            "revenue": order.revenue,
            "currency": order.currency,
            "quantity": order.quantity,
            "is_first": order.is_first,
            "skus": order.skus,
            "coupon": order.coupon,
        }),
        context: Some(json!({
            "ip": order.ip,
            "locale": order.locale,
            "userAgent": order.user_agent,
        })),
        ..Track::default()
    }
}
