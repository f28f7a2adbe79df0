//! A page is an event called after it, as Amplitude documents for those that come
//! through Segment.
//!
//! <https://amplitude.com/docs/data/source-catalog/segment#mappings-between-segment-and-amplitude-sdk-functions>

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Page};

use crate::{Route, context, event};

pub(crate) fn steps(input: &AnyInput, page: &Page) -> Result<Vec<Step<Route>>, Error> {
    let mut own = context::page(&input.context);
    own.set("name", Some(page.name.as_str()));
    let event = event::full(input, event::viewed(&page.name), own, &page.properties);
    Ok(vec![event::step(&event)?])
}
