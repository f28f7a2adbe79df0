//! What a suite found.

use std::{fmt, path::Path};

use analytics_spec::{Kind, KindSet};

/// A part of an integration, and the files in which it stands where the crate
/// is laid out as those here are.
#[derive(Clone, Copy)]
enum Part {
    Test,
    Config,
    Vendor,
    Mapping,
    Reading,
}

impl Part {
    fn files(self, kinds: KindSet) -> Vec<String> {
        let mut files = match self {
            Self::Test => return vec!["tests/conformance.rs".to_owned()],
            Self::Config => vec!["src/config.rs".to_owned()],
            Self::Vendor => Vec::new(),
            Self::Mapping => kinds.iter().map(|kind| format!("src/{kind}.rs")).collect(),
            Self::Reading => vec!["src/outcome.rs".to_owned()],
        };
        files.push("src/vendor.rs".to_owned());
        files
    }
}

/// From one list: the checks, their names, what they prove, the part that they
/// look at, and what to do when one fails.
macro_rules! checks {
    ($( $(#[$doc:meta])* $Check:ident $name:literal $Part:ident $hint:literal )*) => {
        /// What a suite checks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Check {
            $( $(#[$doc])* $Check, )*
        }

        impl Check {
            /// All of them, in the order in which they are made.
            pub const ALL: &[Self] = &[$(Self::$Check,)*];

            /// The check's name, as reports have it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$Check => $name, )* }
            }

            /// Where to look when it fails.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self { $( Self::$Check => $hint, )* }
            }

            /// The part of an integration that is looked at when it fails.
            const fn part(self) -> Part {
                match self { $( Self::$Check => Part::$Part, )* }
            }
        }
    };
}

checks! {
    /// What the scaffold left open is filled in.
    Unwritten "unwritten" Test
        "see docs/new-integration.md; take the comment away with what it asks for"
    /// What the suite was told fits what it finds.
    Setup "setup" Test
        "this is about the suite's own settings in the test"
    /// Every configuration makes an instance with the name that it is given,
    /// which begins and ends its life without a request.
    Builds "builds" Config
        "`build_as` checks the configuration and passes the instance on"
    /// Without its credentials, a configuration is refused when it is built.
    MissingCredentials "missing-credentials" Config
        "let credentials default to blank, and return `config::missing` for them in `build_as`"
    /// `VendorConfig::support` says what the instances do, both ways.
    Support "support" Config
        "compare `VendorConfig::support` with `supports`; give a configuration without a condition with `also`"
    /// A kind that is not declared is refused, and nothing is sent.
    Unsupported "unsupported" Mapping
        "what `supports` leaves out, `steps` refuses with `Error::unsupported`"
    /// Time-outs and retries are sane, the instance's win, and the time-out
    /// reaches the transport.
    Policies "policies" Vendor
        "let `policies` complete the instance's own with the vendor's; retry more than once"
    /// The numbers for batches are sane.
    Batching "batching" Vendor
        "`batching` is at least one of everything"
    /// Validation is pure, and what it accepts is mapped.
    Validation "validation" Vendor
        "`validate` neither keeps state nor sends; what it accepts, `steps` maps without an error"
    /// Nothing is sent for an invalid input.
    Invalid "invalid-input" Vendor
        "refuse it in `validate`, with the path and a code"
    /// Every declared kind causes a request, and a 2xx is a delivery whose
    /// answer is kept.
    Delivers "delivers" Mapping
        "look at the mapping of this kind, and at the reading of a plain 2xx"
    /// Requests are sound: https, a body that is what its header says, nothing
    /// redacted in them.
    Requests "requests" Vendor
        "look at how the request is built"
    /// Requests are those that were reviewed.
    Snapshot "snapshot" Mapping
        "if the change is meant, run the test with UPDATE_CONFORMANCE=1 and review the diff"
    /// A configuration that was given with `also` shows in what is supported or sent.
    Also "also" Config
        "a key of this configuration changes nothing: it is not looked at; give with `also` only what changes kinds or requests"
    /// No id or name stands under another one's name.
    Names "names" Mapping
        "two fields are swapped in the mapping of this kind; where the vendor's key holds another field than its name says, tell the suite with `means`"
    /// An entry of traits, properties or context under a name that the request
    /// has already, replaces nothing.
    ReservedNames "reserved-names" Mapping
        "set what is the request's own after the entries, or leave out entries of such names"
    /// Another person is another request.
    Person "person" Mapping
        "take the ids from the event: here, they change nothing"
    /// Ids and names arrive whole: what is cut tells people and events apart no
    /// more.
    Cut "cut" Mapping
        "send ids and names whole; what is longer than the vendor takes, refuse in `validate`"
    /// What people wrote arrives as they wrote it: no text is trimmed, cut or
    /// written otherwise, and no number rounded.
    Verbatim "verbatim" Mapping
        "send what people wrote as it is; what the vendor does not take, refuse in `validate`"
    /// A screen is not sent as a page.
    Screens "screens" Mapping
        "send a screen as what the vendor shows as one, or say `Support::No`"
    /// A delete says whom it is about, and nothing else of them.
    Delete "delete" Mapping
        "send the id or the address by which the vendor knows the person, and leave out the rest"
    /// Kinds that say so carry the message id, and no others; and each item
    /// that an event becomes has one of its own.
    MessageId "message-id" Mapping
        "take `message_id` from the input, or correct `message_id_in` in the test"
    /// Kinds that say so carry the timestamp, and no others.
    Timestamp "timestamp" Mapping
        "take `timestamp` from the input's context, not from a clock, or correct `timestamp_in` in the test"
    /// The request of another attempt is that of the first one.
    StableRetries "stable-retries" Mapping
        "make nothing up: ids and times come from the input; what has to differ is named with `volatile`"
    /// The same input causes the same requests later, and elsewhere.
    StableReplay "stable-replay" Mapping
        "make nothing up, and keep nothing between events: requests depend on the input alone"
    /// After a failure that may pass, an event goes on where it stopped.
    Resumes "resumes" Vendor
        "begin at the attempt's `progress`, and return it in the error"
    /// A 2xx whose body says failure is one.
    RefusalIn2xx "refusal-in-2xx" Reading
        "a 2xx is not success until the body says so: look at `read`"
    /// A 2xx of something else on the way is no success.
    ForeignAnswer "foreign-answer" Reading
        "what lacks the words of the vendor's own answer is retryable and `Unavailable`: the event did not arrive"
    /// 401 is final, and the vendor's words are kept.
    Unauthorized "unauthorized" Reading
        "401 is permanent and `Unauthorized`; keep the vendor's message and the answer in the error"
    /// Any other 4xx is final, unless the suite says that it is for now.
    Rejected "rejected" Reading
        "a 4xx is permanent: retried, one bad event holds up its person's others; name with `retries` in the test what the vendor documents as for now"
    /// A delete of somebody who is not there succeeds by the vendor's own words
    /// alone.
    AlreadyGone "already-gone" Reading
        "only the vendor's own words say that nobody is left to delete: compare the body; give them with `already_gone` in the test"
    /// 413 for one event is final.
    TooLarge "too-large" Reading
        "413 is `TooLarge`, and permanent for one event"
    /// Redirects are failures, and not followed.
    Redirect "redirect" Reading
        "a 3xx is permanent: following it would carry the credentials elsewhere"
    /// 429 waits as long as the vendor asks.
    RateLimited "rate-limited" Reading
        "429 is retryable; leave `retry_after` to the answer's header"
    /// 408 and 5xx are retried, with pauses that grow.
    ServerError "server-error" Reading
        "408 and any 5xx are retryable by their status, also with a gateway's page; leave the pause to the policy"
    /// A connection that breaks, and an answer that does not come, are
    /// retried.
    Network "network" Vendor
        "an error of the transport is retryable"
    /// Retries come to an end.
    GivesUp "gives-up" Reading
        "obey `maximum_attempts`; a failure that stays keeps its kind"
    /// One attempt is one attempt: whoever asks for it retries.
    OneAttempt "one-attempt" Vendor
        "`deliver` sends each request once, and does not wait"
    /// Errors name the instance.
    NamedErrors "named-errors" Vendor
        "use `Error::with_integration(self.name())`"
    /// A batch has one outcome for each event, in order.
    Batch "batch" Vendor
        "return one outcome per attempt, in the order of the attempts"
    /// A batch that is too large is sent in parts, and one event that is too
    /// large fails alone.
    Splits "splits" Reading
        "413 for several events halves the request; nothing that was accepted is sent again"
    /// One event that is wrong fails alone, also where the vendor refuses the
    /// request for it.
    BadEvent "bad-event" Reading
        "what may be about one of several events is `Refusal::split`: the request is sent again in halves until that one is alone"
    /// What the vendor says of one event of a request, is said of that one.
    PartialRefusal "partial-refusal" Reading
        "match the vendor's verdicts to the events by index or id: look at `read`, and keep the order of `bodies` in `request`"
    /// One person's events keep their order, also after a failure, and nothing
    /// is sent twice or lost.
    Order "order" Vendor
        "after a retryable failure the person's later events are `Deferred`, unsent; where an answer may leave one event, `limits` say `one_per_person`"
    /// No more requests are under way than `batching` allows.
    InFlight "in-flight" Vendor
        "hold back what exceeds `max_in_flight`"
    /// Any text, any number, any depth: no panic, one outcome, no other URL.
    Hostile "hostile" Mapping
        "encode ids in URLs with `request::encode`; cut texts at characters, not bytes"
    /// What fits the vendor's limits just so is delivered; what is larger by
    /// one is refused before anything is sent.
    Limits "limits" Vendor
        "count as the vendor does, in `validate` or `validate_steps`, and with what stamping adds"
    /// What is mapped ahead of its delivery is what is delivered otherwise.
    Prepared "prepared" Vendor
        "`prepare` accepts what `validate` accepts, and `deliver_prepared` sends what `deliver` sends"
    /// Credentials are nowhere but in requests.
    Secrets "secrets" Vendor
        "keep credentials as `Secret`, list them in `secrets`, mark headers as sensitive"
    /// Traces have nothing of credentials and events.
    Traces "traces" Mapping
        "trace kinds, counts and statuses; never values"
    /// A preview shows the requests that would be sent, and sends none.
    Preview "preview" Vendor
        "build previews from the same mapping as requests"
    /// Instances share no state.
    Isolation "isolation" Vendor
        "keep state in the instance, never in a static"
    /// No panic.
    Panics "panics" Mapping
        "no input and no answer may panic"
    /// Everything ends.
    Ends "ends" Vendor
        "something loops or waits for ever"
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// Which check.
    pub check: Check,
    /// For which kinds; none if it is not about kinds.
    pub kinds: KindSet,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub seen: String,
    /// The files to open, from the package's directory: as far as they are
    /// there.
    pub open: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.check)?;
        if !self.kinds.is_empty() {
            write!(f, " ({})", self.kinds)?;
        }
        write!(
            f,
            "\n   expected: {}\n   seen:     {}\n   hint:     {}",
            self.expected,
            self.seen,
            self.check.hint()
        )?;
        if !self.open.is_empty() {
            write!(f, "\n   open:     {}", self.open.join(", "))?;
        }
        Ok(())
    }
}

/// What a suite found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The vendor's name.
    pub vendor: String,
    /// Every failure, in the order of the checks.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty()
    }

    /// Whether a check failed.
    #[must_use]
    pub fn has(&self, check: Check) -> bool {
        self.failures.iter().any(|failure| failure.check == check)
    }

    /// Adds a failure; the same one of another kind joins it.
    pub(crate) fn add(&mut self, check: Check, kind: Option<Kind>, expected: String, seen: String) {
        let kinds: KindSet = kind.into_iter().collect();
        let same = self
            .failures
            .iter_mut()
            .find(|f| f.check == check && f.expected == expected && f.seen == seen);
        match same {
            Some(same) => same.kinds = same.kinds.iter().chain(kinds.iter()).collect(),
            None => self.failures.push(Failure {
                check,
                kinds,
                expected,
                seen,
                open: Vec::new(),
            }),
        }
    }

    /// Adds a failure that is about one file.
    pub(crate) fn add_of(&mut self, check: Check, file: String, expected: String, seen: String) {
        self.failures.push(Failure {
            check,
            kinds: KindSet::EMPTY,
            expected,
            seen,
            open: vec![file],
        });
    }

    /// In the order of the checks, each with the files to open.
    pub(crate) fn finish(&mut self, vendor: &str, package: &Path) {
        vendor.clone_into(&mut self.vendor);
        self.failures.sort_by_key(|failure| failure.check);
        for failure in &mut self.failures {
            if failure.open.is_empty() {
                failure.open = failure.check.part().files(failure.kinds);
                failure.open.retain(|file| package.join(file).is_file());
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return write!(f, "{} conforms", self.vendor);
        }
        writeln!(f, "{} does not conform:", self.vendor)?;
        for (index, failure) in self.failures.iter().enumerate() {
            write!(f, "\n{}. {failure}\n", index + 1)?;
        }
        Ok(())
    }
}

impl Check {
    /// Whether the check is about requests and answers, and so not made for an
    /// integration that is not reached over HTTP.
    #[must_use]
    pub const fn needs_requests(self) -> bool {
        !matches!(
            self,
            Self::Unwritten
                | Self::Setup
                | Self::Builds
                | Self::MissingCredentials
                | Self::Support
                | Self::Unsupported
                | Self::Policies
                | Self::Batching
                | Self::Validation
                | Self::Invalid
                | Self::Delivers
                | Self::NamedErrors
                | Self::Limits
                | Self::Batch
                | Self::Hostile
                | Self::Secrets
                | Self::Traces
                | Self::Panics
                | Self::Ends
        )
    }
}
