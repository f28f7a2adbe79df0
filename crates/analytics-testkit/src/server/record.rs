//! What a server remembers of what it heard.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::fault::Fault;
use super::request::Request;

/// How much a server remembers. [`Counts`] are always complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Everything, as a test wants it.
    #[default]
    Everything,
    /// The last so many requests, items, violations and duplicates, each.
    Last(usize),
    /// Only the counts: memory stays constant.
    Counts,
}

/// What a vendor remembers beyond its log (ids for deduplication, profiles,
/// members) when the log itself is bounded.
const BOUNDED_STATE: usize = 100_000;

impl Keep {
    fn log_length(self) -> usize {
        match self {
            Self::Everything => usize::MAX,
            Self::Last(count) => count,
            Self::Counts => 0,
        }
    }
}

/// One item that a vendor took: an event, a profile update, a deletion.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Received {
    /// What it is in the vendor's words: `track`, `import`, `members`, ...
    pub endpoint: String,
    /// The id by which the vendor tells repetitions, where it has one.
    pub id: Option<String>,
    /// Whom it is about: a user id, distinct id or email address.
    pub user: Option<String>,
    /// The item, as it was sent.
    pub body: Value,
    /// The [`RecordedRequest::number`] of the request that brought it.
    pub request: u64,
}

impl Received {
    /// An item without id or user.
    pub fn new(endpoint: impl Into<String>, body: Value) -> Self {
        Self {
            endpoint: endpoint.into(),
            id: None,
            user: None,
            body,
            request: 0,
        }
    }

    /// The same item with its id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The same item with the user whom it is about.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }
}

/// What becomes of data that breaks a vendor's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ViolationKind {
    /// The vendor refuses it, and its answer says so.
    Refused,
    /// The vendor answers success and loses it.
    Dropped,
    /// The vendor answers success and keeps something other than was meant, or
    /// can no longer keep a promise, such as that of not storing it twice.
    Altered,
}

/// One breach of a vendor's contract.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// What becomes of the data.
    pub kind: ViolationKind,
    /// A stable name of the rule, such as `message_id_too_long`.
    pub rule: &'static str,
    /// The id of the item, or its place in the request, where there is one.
    pub item: Option<String>,
    /// A sentence with the particulars.
    pub reason: String,
    /// Where it was sent: method and path.
    pub target: String,
    /// The [`RecordedRequest::number`] of the request that brought it.
    pub request: u64,
}

/// A request and what became of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// The requests of a server are numbered from 1 in the order of processing.
    pub number: u64,
    /// The request.
    pub request: Request,
    /// The status that the client was sent; `None` where it never heard one.
    pub status: Option<u16>,
    /// Whether the vendor processed it, whatever the client then heard.
    pub processed: bool,
    /// The fault that was injected, if any.
    pub fault: Option<Fault>,
}

/// How much came in, since the start of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Requests heard in full.
    pub requests: u64,
    /// Items taken, repetitions not counted.
    pub received: u64,
    /// Items that had been taken before.
    pub duplicates: u64,
    /// Breaches of the contract.
    pub violations: u64,
    /// Faults injected.
    pub faults: u64,
    /// Bytes of the bodies on the wire.
    pub encoded_bytes: u64,
    /// Bytes of the bodies, decoded.
    pub decoded_bytes: u64,
    /// The most requests that were in hand at one time.
    pub peak_in_flight: usize,
    /// How often each status was sent.
    pub statuses: BTreeMap<u16, u64>,
    /// Items taken, by [`Received::endpoint`].
    pub endpoints: BTreeMap<String, u64>,
}

/// What a server has heard so far; a [`Vendor`](super::Vendor) writes into it
/// while it answers.
#[derive(Debug, Default)]
pub struct Record {
    keep: Keep,
    received: VecDeque<Received>,
    requests: VecDeque<RecordedRequest>,
    violations: VecDeque<Violation>,
    duplicates: VecDeque<String>,
    counts: Counts,
    number: u64,
    target: String,
}

impl Record {
    /// An empty record.
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            ..Self::default()
        }
    }

    /// How many entries of each kind a vendor's own state may hold.
    pub fn capacity(&self) -> usize {
        if self.keep == Keep::Everything {
            usize::MAX
        } else {
            BOUNDED_STATE
        }
    }

    /// The vendor takes an item.
    pub fn accept(&mut self, mut item: Received) {
        item.request = self.number;
        self.counts.received += 1;
        // A count per endpoint is bounded: vendors name them, clients do not.
        *self
            .counts
            .endpoints
            .entry(item.endpoint.clone())
            .or_default() += 1;
        push(&mut self.received, item, self.keep);
    }

    /// The vendor has taken this item before.
    pub fn duplicate(&mut self, id: impl Into<String>) {
        self.counts.duplicates += 1;
        push(&mut self.duplicates, id.into(), self.keep);
    }

    /// The vendor refuses the request, or one item of it.
    pub fn refused(&mut self, rule: &'static str, item: Option<&str>, reason: impl Into<String>) {
        self.violation(ViolationKind::Refused, rule, item, reason.into());
    }

    /// The vendor answers success and loses the item.
    pub fn dropped(&mut self, rule: &'static str, item: Option<&str>, reason: impl Into<String>) {
        self.violation(ViolationKind::Dropped, rule, item, reason.into());
    }

    /// The vendor answers success and keeps something other than was meant.
    pub fn altered(&mut self, rule: &'static str, item: Option<&str>, reason: impl Into<String>) {
        self.violation(ViolationKind::Altered, rule, item, reason.into());
    }

    /// A breach of the contract.
    pub fn violation(
        &mut self,
        kind: ViolationKind,
        rule: &'static str,
        item: Option<&str>,
        reason: String,
    ) {
        self.counts.violations += 1;
        let violation = Violation {
            kind,
            rule,
            item: item.map(str::to_owned),
            reason,
            target: self.target.clone(),
            request: self.number,
        };
        push(&mut self.violations, violation, self.keep);
    }

    /// The items taken, in order.
    pub fn received(&self) -> Vec<Received> {
        self.received.iter().cloned().collect()
    }

    /// The requests heard, in order.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.requests.iter().cloned().collect()
    }

    /// The breaches of the contract, in order.
    pub fn violations(&self) -> Vec<Violation> {
        self.violations.iter().cloned().collect()
    }

    /// The ids of the items that had been taken before, once per repetition.
    pub fn duplicates(&self) -> Vec<String> {
        self.duplicates.iter().cloned().collect()
    }

    /// The totals.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Forgets the logs and the counts, not the vendor's state.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            number: self.number,
            ..Self::new(self.keep)
        };
    }

    /// From here on, everything written belongs to this request.
    pub(crate) fn begin(&mut self, request: &Request) {
        self.number += 1;
        self.target = format!("{} {}", request.method, request.path);
        self.counts.requests += 1;
        self.counts.encoded_bytes += u64::try_from(request.encoded_length).unwrap_or(u64::MAX);
        self.counts.decoded_bytes += u64::try_from(request.body.len()).unwrap_or(u64::MAX);
        self.counts.peak_in_flight = self.counts.peak_in_flight.max(request.in_flight);
    }

    /// The request is done with.
    pub(crate) fn end(
        &mut self,
        request: Request,
        status: Option<u16>,
        processed: bool,
        fault: Option<Fault>,
    ) {
        if let Some(status) = status {
            *self.counts.statuses.entry(status).or_default() += 1;
        }
        if fault.is_some() {
            self.counts.faults += 1;
        }
        let recorded = RecordedRequest {
            number: self.number,
            request,
            status,
            processed,
            fault,
        };
        push(&mut self.requests, recorded, self.keep);
    }
}

fn push<T>(log: &mut VecDeque<T>, entry: T, keep: Keep) {
    let length = keep.log_length();
    if length == 0 {
        return;
    }
    if log.len() >= length {
        log.pop_front();
    }
    log.push_back(entry);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(keep: Keep) -> Record {
        let mut record = Record::new(keep);
        for number in 0..4 {
            record.begin(&Request::new("POST", "/x"));
            record.accept(Received::new("x", json!(number)));
            record.duplicate(number.to_string());
            record.altered("rule", None, "reason");
            record.end(Request::new("POST", "/x"), Some(200), true, None);
        }
        record
    }

    #[test]
    fn the_log_is_as_long_as_asked_and_the_counts_are_whole() {
        for (keep, length) in [(Keep::Everything, 4), (Keep::Last(2), 2), (Keep::Counts, 0)] {
            let record = filled(keep);
            assert_eq!(record.received().len(), length, "{keep:?}");
            assert_eq!(record.requests().len(), length);
            assert_eq!(record.violations().len(), length);
            assert_eq!(record.duplicates().len(), length);
            assert_eq!(record.counts().received, 4);
            assert_eq!(record.counts().statuses.get(&200), Some(&4));
        }
    }

    #[test]
    fn the_last_are_kept_and_know_their_request() {
        let record = filled(Keep::Last(1));
        assert_eq!(record.received()[0].body, json!(3));
        assert_eq!(record.received()[0].request, 4);
        assert_eq!(record.violations()[0].target, "POST /x");
    }
}
