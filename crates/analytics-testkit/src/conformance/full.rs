//! Requests that are as full as a route's limits allow.

use analytics_http::{HttpVendor, Sending};
use analytics_spec::{AnyInput, Timestamp};
use bytes::Bytes;

use crate::server::media_type;

/// What an input's requests are when they are full; `None` if there is no
/// instance.
pub(crate) type Fill = Box<dyn Fn(&AnyInput) -> Option<Vec<Full>>>;

/// One request that is full.
pub(crate) struct Full {
    /// The route, for people.
    pub(crate) route: String,
    pub(crate) items: usize,
    /// What the limits say: the most bytes, and how many of them are not the
    /// items' and the commas'.
    pub(crate) max_bytes: usize,
    pub(crate) envelope_bytes: usize,
    /// What the body has of both.
    pub(crate) bytes: usize,
    pub(crate) besides: usize,
}

/// How long a body is. Of a form, what is in it: how much its encoding adds, hangs
/// on what people write.
fn decoded(request: &http::Request<Bytes>) -> usize {
    let media = request.headers().get(http::header::CONTENT_TYPE);
    let media = media.and_then(|media| media.to_str().ok()).map(media_type);
    let is_form = media.as_deref() == Some("application/x-www-form-urlencoded");
    let body = request.body();
    if !is_form {
        return body.len();
    }
    let fields = url::form_urlencoded::parse(body);
    let bytes: usize = fields.map(|(key, value)| key.len() + value.len() + 2).sum();
    bytes.saturating_sub(1)
}

/// A request for each step of an input that shares requests, with as many of it
/// as fit.
pub(crate) fn requests<V: HttpVendor>(vendor: &V, input: &AnyInput) -> Vec<Full> {
    let mut full: Vec<Full> = Vec::new();
    for step in vendor.steps(input).unwrap_or_default() {
        let limits = vendor.limits(&step.route);
        if limits.max_items < 2 || limits.max_bytes == usize::MAX {
            continue;
        }
        let room = limits.max_bytes.saturating_sub(limits.envelope_bytes) + 1;
        let fit = room / (step.body.len() + 1);
        let items = fit.clamp(1, limits.max_items);
        let bodies = vec![&step.body; items];
        // A time with as many digits as one can have.
        let at = Timestamp::new(1_772_366_400, 123_456_789).unwrap_or_default();
        let sending = Sending { at, retry: 0 };
        let Ok(request) = vendor.request(&step.route, &bodies, sending) else {
            continue;
        };
        let carried: usize = bodies.iter().map(|body| body.len()).sum::<usize>() + items - 1;
        let bytes = decoded(&request);
        full.push(Full {
            route: format!("{:?}", step.route),
            items,
            max_bytes: limits.max_bytes,
            envelope_bytes: limits.envelope_bytes,
            bytes,
            besides: bytes.saturating_sub(carried),
        });
    }
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_measured_by_what_is_in_it_whatever_else_its_header_says() {
        for media in [
            "application/x-www-form-urlencoded",
            "application/x-www-form-urlencoded; charset=utf-8",
            "Application/X-WWW-Form-Urlencoded;charset=UTF-8",
        ] {
            let request = http::Request::builder().header("content-type", media);
            let request = request.body(Bytes::from_static(b"key=%5B%5D&b=c"));
            assert_eq!(decoded(&request.unwrap()), "key=[]&b=c".len(), "{media}");
        }
    }
}
