//! What a vendor reached over HTTP implements: a mapping and a reading.

use std::fmt::{self, Debug};

use analytics_spec::{
    AnyInput, Error, HttpResponse, KindSet, Map, Policies, Secret, Timestamp, ValidationError,
    Value, integration::Batching,
};
use bytes::Bytes;
use http::Request;

use crate::classify::Verdict;

/// A vendor's mapping and reading. No method does I/O or reads a clock, so
/// that all of them are tested without a network.
pub trait HttpVendor: Debug + Send + Sync + 'static {
    /// Where a request goes. Steps on equal routes may share a request.
    type Route: Clone + PartialEq + Debug + Send + Sync + 'static;

    /// The vendor's name, in lower case: `segment`.
    const VENDOR: &'static str;

    /// Whether a 2xx that is a web page may be the vendor's answer. Else it is
    /// something else's on the way, such as a network that wants one to sign in:
    /// the events are sent again, and [`read`](Self::read) does not see it.
    const MAY_ANSWER_WITH_PAGES: bool = false;

    /// The kinds that this configuration can deliver. Of others, no method below is
    /// asked for [steps](Self::steps).
    fn supports(&self) -> KindSet;

    /// The vendor's own rules for what an event says; see
    /// [`Integration::validate`](analytics_spec::Integration::validate).
    ///
    /// # Errors
    ///
    /// Every violation.
    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError>;

    /// The vendor's rules for what is sent of it: how large that may be.
    ///
    /// # Errors
    ///
    /// Every violation.
    fn validate_steps(
        &self,
        input: &AnyInput,
        steps: &[Step<Self::Route>],
    ) -> Result<(), ValidationError> {
        let _ = (input, steps);
        Ok(())
    }

    /// The mapping: what an event says, as steps to be taken in their order.
    ///
    /// - The same input gives the same steps, in every attempt.
    /// - A step is taken when the vendor has accepted the one before.
    ///
    /// # Errors
    ///
    /// The event cannot be mapped. What [`validate`](Self::validate) accepts,
    /// can.
    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<Self::Route>>, Error>;

    /// How much one request on a route may carry.
    fn limits(&self, route: &Self::Route) -> Limits;

    /// One request that carries the bodies of one or more steps.
    ///
    /// Headers with credentials are marked as
    /// [sensitive](http::HeaderValue::set_sensitive).
    ///
    /// # Errors
    ///
    /// The request cannot be built.
    fn request(
        &self,
        route: &Self::Route,
        bodies: &[&Bytes],
        sending: Sending,
    ) -> Result<Request<Bytes>, Error>;

    /// The reading: what the vendor's answer says of the `items` steps that a
    /// request carried. A 2xx is not success until the body says so.
    ///
    /// It is read as it came. If there is a secret in it, it is read once more
    /// without, and refusals have the words of that.
    fn read(&self, route: &Self::Route, response: &HttpResponse, items: usize) -> Reading;

    /// Every credential, so that an answer that repeats one is redacted.
    fn secrets(&self) -> Vec<&Secret>;

    /// How many events to hand over at once, and how many requests may be
    /// under way at the same time.
    fn batching(&self) -> Batching;

    /// The time-outs and retries that the vendor recommends.
    fn policies(&self) -> Policies {
        Policies::new()
    }

    /// The configuration, for people to read. No secret is in it.
    fn configuration(&self) -> Map<String, Value>;
}

/// A [configuration](HttpVendor::configuration) to show, without what is not set.
#[must_use]
pub fn shown<const N: usize>(keys: [(&str, Value); N]) -> Map<String, Value> {
    let keys = keys.into_iter().filter(|(_, value)| !value.is_null());
    keys.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A part of an event's mapping: this body, on this route.
///
/// `Debug` has the body's length and no more: it is people's data.
#[derive(Clone, PartialEq)]
pub struct Step<R> {
    /// Where it goes.
    pub route: R,
    /// The event's share of the request's body.
    pub body: Bytes,
}

impl<R: Debug> Debug for Step<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("route", &self.route)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

impl<R> Step<R> {
    /// A step with a serialised body.
    pub fn new(route: R, body: impl Into<Bytes>) -> Self {
        Self {
            route,
            body: body.into(),
        }
    }

    /// A step whose body is JSON.
    ///
    /// # Errors
    ///
    /// The body cannot be serialised.
    pub fn json(route: R, body: &impl serde::Serialize) -> Result<Self, Error> {
        Ok(Self::new(route, crate::request::to_json(body)?))
    }
}

/// When a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The time.
    pub at: Timestamp,
    /// 0 in the first attempt, then 1, 2, ...
    pub retry: u32,
}

/// How much one request may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most steps.
    pub max_items: usize,
    /// The most bytes of body, before compression.
    pub max_bytes: usize,
    /// What the body has besides the steps and the commas between them.
    pub envelope_bytes: usize,
    /// Whether the body may be compressed with gzip.
    pub gzip: bool,
    /// Whether a request has at most one event of each person.
    ///
    /// This is for an answer that may take a later event of a request while an
    /// earlier one is to be sent again: the later would arrive first.
    pub one_per_person: bool,
}

impl Limits {
    /// One step a request, of any size, not compressed.
    pub const SINGLE: Self = Self {
        max_items: 1,
        max_bytes: usize::MAX,
        envelope_bytes: 0,
        gzip: false,
        one_per_person: false,
    };
}

/// What an answer says of the steps that its request carried.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// The same of all.
    All(Verdict),
    /// One verdict for each, in their order. Where one may be accepted after
    /// another has been refused for now, the route's limits are
    /// [`one_per_person`](Limits::one_per_person).
    ///
    /// `items` is how many steps the request carried:
    ///
    /// ```
    /// use analytics_http::{Reading, Refusal, classify};
    /// use analytics_spec::{ErrorKind, HttpResponse, Value};
    ///
    /// fn read(response: &HttpResponse, items: usize) -> Reading {
    ///     if let Err(refusal) = classify(response) {
    ///         return Reading::All(Err(refusal));
    ///     }
    ///     // `status_code` is a number, and `body` an `Option<Value>`: JSON, or a text.
    ///     let body = response.body.as_ref();
    ///     let errors = body.and_then(|body| body.get("errors")).and_then(Value::as_array);
    ///     // The vendor always says which it did not take, if only that it is none.
    ///     let Some(errors) = errors else {
    ///         return Reading::All(Err(Refusal::foreign("Acme", response)));
    ///     };
    ///     let mut verdicts = vec![Ok(()); items];
    ///     for error in errors {
    ///         let words = error.get("message").and_then(Value::as_str);
    ///         let refusal = Refusal::permanent(ErrorKind::RequestRejected, words.unwrap_or_default());
    ///         let index = error.get("batch_index").and_then(Value::as_u64);
    ///         match index.and_then(|index| verdicts.get_mut(index as usize)) {
    ///             Some(verdict) => *verdict = Err(refusal),
    ///             // Which event it is about is not known: it is looked for in halves.
    ///             None => return Reading::All(Err(refusal.split())),
    ///         }
    ///     }
    ///     Reading::Each(verdicts)
    /// }
    ///
    /// # let answer = HttpResponse::new(207).body(serde_json::json!({"errors": [{"batch_index": 1}]}));
    /// # let Reading::Each(verdicts) = read(&answer, 3) else { panic!("one for each") };
    /// # assert_eq!(verdicts.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    /// # let other = HttpResponse::new(200).body(serde_json::json!({"status": "ok"}));
    /// # assert!(matches!(read(&other, 3), Reading::All(Err(_))));
    /// ```
    Each(Vec<Verdict>),
}
