//! What no client can be faster than: our bodies, made beforehand, are posted
//! and nothing else. As many events to a request as ours, as many requests at
//! once, and not compressed.

use analytics_http::{BaseUrl, HttpVendor, Sending};
use analytics_segment::{Config, Route, SegmentVendor};
use analytics_spec::{AnyInput, Timestamp};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    Outcome,
    measure::{Cost, Stopwatch},
    order::Order,
};

/// An order as the engine has it when it delivers.
///
/// # Errors
///
/// The time is none.
pub fn stamped(number: u64) -> Outcome<AnyInput> {
    let mut input = Order::new(number).into_input().into_any();
    input.stamp(Timestamp::from_millisecond(1_772_366_400_123)?);
    Ok(input)
}

/// The requests that deliver orders.
///
/// # Errors
///
/// They cannot be made.
pub fn requests(sink: &str, events: u64) -> Outcome<Vec<http::Request<Bytes>>> {
    let vendor = SegmentVendor::new(Config::new("key").base_url(BaseUrl::new(sink)?))?;
    let batch = u64::try_from(vendor.batching().max_items)?.max(1);
    let sending = Sending {
        at: Timestamp::now(),
        retry: 0,
    };
    let mut requests = Vec::new();
    let mut from = 0;
    while from < events {
        let to = events.min(from + batch);
        let mut bodies = Vec::new();
        for number in from..to {
            let steps = vendor.steps(&stamped(number)?)?;
            bodies.extend(steps.into_iter().map(|step| step.body));
        }
        requests.push(vendor.request(
            &Route::Batch,
            &bodies.iter().collect::<Vec<_>>(),
            sending,
        )?);
        from = to;
    }
    Ok(requests)
}

pub(super) fn run(sink: &str, events: u64) -> Outcome<Cost> {
    let requests = requests(sink, events)?;
    super::runtime()?.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let stopwatch = Stopwatch::start()?;
        stream::iter(requests)
            .map(|request| async {
                let request = reqwest::Request::try_from(request)?;
                let answer = client.execute(request).await?.error_for_status()?;
                answer.bytes().await
            })
            .buffer_unordered(4)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        stopwatch.stop()
    })
}
