//! Integrations with one classic mistake each, and what has to find it.

use analytics_testkit::conformance::Check;

/// From one list: each mistake, the checks that find it, what the first of them
/// says, and the file that it says to open.
macro_rules! mistakes {
    ($( $(#[doc = $mistake:literal])* $Defect:ident: [$($check:ident),+] $says:literal $file:literal, )*) => {
        /// What is wrong with an integration.
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub(crate) enum Defect {
            #[default]
            None,
            $( $(#[doc = $mistake])* $Defect, )*
        }

        pub(crate) const TABLE: &[Mistake] = &[$(
            Mistake {
                defect: Defect::$Defect,
                checks: &[$(Check::$check),+],
                says: $says,
                file: $file,
            },
        )*];
    };
}

/// A mistake, and what a contributor is told of it.
pub(crate) struct Mistake {
    pub(crate) defect: Defect,
    pub(crate) checks: &'static [Check],
    pub(crate) says: &'static str,
    pub(crate) file: &'static str,
}

impl Defect {
    /// Whether it is in an integration that does not leave everything to the
    /// client.
    pub(crate) fn is_of_the_integration(self) -> bool {
        self as u8 >= Self::OtherName as u8 && (self as u8) < Self::PromisesAlias as u8
    }
}

mistakes! {
    // The mapping.

    /// The anonymous id stands where the user id belongs.
    SwapsIds: [Names, Snapshot] "its anonymousid" "src/identify.rs",
    /// One property stands where another one belongs.
    SwapsProperties: [Snapshot] "became" "src/track.rs",
    /// An event has no id by which the vendor tells repetitions.
    OmitsMessageId: [MessageId] "another request for another message id" "src/identify.rs",
    /// Each attempt has an id of its own: a retry counts twice.
    NewMessageId: [StableRetries, StableReplay]
        "the same request in the second attempt" "src/identify.rs",
    /// Two items of one event have the same id: the vendor keeps one.
    OneIdForTwo: [MessageId] "an id of its own for each item" "src/identify.rs",
    /// An event happened when it was sent.
    TimeOfSending: [Timestamp, StableRetries]
        "another request for another timestamp" "src/identify.rs",
    /// A property called `user_id` replaces whose event it is.
    PropertiesWin: [ReservedNames] "replace nothing there" "src/track.rs",
    /// Ids are written in lower case: two people become one.
    LowersIds: [Verbatim] "arrives as it is" "src/track.rs",
    /// Names lose the spaces around them.
    TrimsNames: [Verbatim] "arrives as it is" "src/track.rs",
    /// Values end after so many characters, and nobody is told.
    CutsValues: [Verbatim] "the longest text that `validate` accepts" "src/track.rs",
    /// Nothing is a word of four letters.
    WritesNull: [Verbatim] "null is null" "src/track.rs",
    /// Numbers have 53 bits.
    RoundsNumbers: [Verbatim] "9007199254740993 arrives wherever" "src/track.rs",
    /// Who is to be forgotten stays, and who stays is forgotten.
    AliasSwapped: [Names] "its previoususerid" "src/alias.rs",
    /// A screen is a page.
    ScreenAsPage: [Screens] "than for a page" "src/screen.rs",
    /// Everybody's groups are one user's.
    ForgetsWhom: [Person] "another request for another person" "src/group.rs",
    /// Who has no user id, has an empty one: all visitors are one person.
    AnonymousAreOne: [Person] "where there is no user_id" "src/track.rs",
    /// A group has a name and no member.
    GroupOfNobody: [Person] "another user_id and anonymous_id" "src/group.rs",
    /// The device stands for the person, although the user is known.
    DeviceFirst: [Names] "its anonymousid" "src/track.rs",
    /// Ids end after so many characters: two people become one.
    CutsIds: [Cut] "the last of 255 characters" "src/track.rs",
    /// A delete tells the vendor all that it is to forget.
    TellsAllOnDelete: [Delete] "whom it is about, and nothing else" "src/delete.rs",
    /// A text is cut at a byte, within a character.
    CutsBytes: [Panics] "no panic when" "src/track.rs",
    /// An id stands in a URL as it is.
    RawIdInUrl: [Hostile] "encode ids in URLs" "src/group.rs",
    /// What validation accepts, the mapping refuses.
    RefusesInSteps: [Hostile, Prepared] "what validation accepts is delivered" "src/track.rs",
    /// What is traced says who somebody is.
    TracesUsers: [Traces] "in a trace" "src/vendor.rs",

    // Requests, limits and policies.

    /// The body is no JSON.
    BadJson: [Requests] "a body that is what the headers say" "src/vendor.rs",
    /// Credentials travel in the clear.
    PlainHttp: [Requests] "https" "src/vendor.rs",
    /// A header with a credential is not marked as sensitive.
    PlainHeader: [Secrets] "marked as sensitive" "src/vendor.rs",
    /// A derived `Debug` shows the key.
    KeyInDebug: [Secrets] "an instance's Debug shows" "src/vendor.rs",
    /// What people read of the configuration has the key in it.
    KeyInConfiguration: [Secrets] "`configuration` shows" "src/vendor.rs",
    /// A credential is not named: an answer that repeats it is shown.
    ForgetsSecret: [Secrets] "shows a credential" "src/vendor.rs",
    /// An instance keeps state in a static.
    SharesState: [Isolation] "while another one has to wait" "src/vendor.rs",
    /// The same input is valid now, and not valid then.
    FickleValidation: [Validation] "the same answer for the same input" "src/vendor.rs",
    /// What the vendor refuses is sent.
    AcceptsTheInvalid: [Invalid] "a validation error with its violations" "src/vendor.rs",
    /// An event that is as large as the vendor allows is refused when it is
    /// sent.
    OffByOne: [Limits] "what validation just accepts is delivered" "src/vendor.rs",
    /// A full request is larger than the vendor takes: what is around its events
    /// was not counted.
    NoEnvelope: [Limits] "`envelope_bytes`" "src/vendor.rs",
    /// Of two events of one name, one is sent.
    MergesRepeats: [Batch] "as when it is alone" "src/vendor.rs",
    /// A credential stands where proxies and logs keep it.
    KeyInUrl: [Secrets] "`credentials_in_url()`" "src/vendor.rs",
    /// What is too large is said to be missing.
    WrongCode: [Limits] "too_large or too_long" "src/vendor.rs",
    /// A failure that would pass is final.
    OneAttemptOnly: [Policies] "more than one attempt" "src/vendor.rs",

    // The reading.

    /// A 2xx is success, whatever its body says.
    Believes2xx: [RefusalIn2xx, ForeignAnswer] "for the body says so" "src/outcome.rs",
    /// A proxy's page is the vendor's refusal: the event is given up.
    RefusesForeign: [ForeignAnswer] "that is something else on the way" "src/outcome.rs",
    /// Whatever says nothing is success.
    TakesEmpty: [ForeignAnswer] "for a 204 with no body" "src/outcome.rs",
    /// Whatever is JSON is success.
    TakesAnyJson: [ForeignAnswer] "for a 200 with {}" "src/outcome.rs",
    /// A path that is wrong is taken for a person who is gone.
    GoneIs404: [AlreadyGone] "a 404 with a web page" "src/outcome.rs",
    /// One bad event is tried again and again, and its person waits.
    Retries400: [Rejected] "400 is a permanent failure" "src/outcome.rs",
    /// What is gone is asked for again and again.
    Retries410: [Rejected] "410 is a permanent failure" "src/outcome.rs",
    /// One bad event takes those of its request with it.
    LosesInnocents: [BadEvent] "the 400 to 7 events" "src/outcome.rs",
    /// One bad event takes those of its request with it, behind a 2xx.
    LosesInnocentsIn2xx: [BadEvent] "the 2xx that says failure" "src/outcome.rs",
    /// A wrong key is tried again and again.
    Retries401: [Unauthorized] "401 is permanent" "src/outcome.rs",
    /// A request that is too large is not made smaller.
    Keeps413: [TooLarge, Splits] "413 is permanent, and" "src/outcome.rs",
    /// An outage is final.
    Drops500: [ServerError] "two pauses by the policy" "src/outcome.rs",
    /// A gateway's outage is final.
    Drops502: [ServerError] "retryable: 502 with the vendor's error" "src/outcome.rs",
    /// What a gateway says of an outage cannot be read, and is final.
    DropsGatewayPages: [ServerError] "retryable: 502 with a web page" "src/outcome.rs",
    /// A pause is made up that the vendor did not ask for.
    DawdlesOn429: [RateLimited] "17 s later" "src/outcome.rs",
    /// A redirect is success.
    TakesRedirects: [Redirect] "is a permanent failure" "src/outcome.rs",
    /// An outage is called a refusal.
    Rejects500: [GivesUp] "Unavailable and retryable" "src/outcome.rs",
    /// The vendor takes a person's later event, and the earlier when it is sent
    /// again.
    TakesTheLater: [Order] "set `one_per_person`" "src/vendor.rs",
    /// The verdict on one event is taken for its neighbour's.
    MissesIndex: [PartialRefusal] "for the event that the vendor refused" "src/outcome.rs",
    /// The verdict on the last event of a request is lost.
    MissesTheLast: [PartialRefusal] "for the event that the vendor refused" "src/outcome.rs",
    /// The verdict on an event that is not in the request is nobody's.
    IgnoresStrangers: [PartialRefusal]
        "an event that the request does not have" "src/outcome.rs",

    // An integration that does not leave everything to the client.

    /// It calls itself after the vendor, whatever its name is.
    OtherName: [Builds] "makes \"acme\" of" "src/config.rs",
    /// What is not declared is sent all the same.
    MapsUndeclared: [Unsupported] "no request for a kind that is not declared" "src/group.rs",
    /// It takes no event at once.
    NoLimits: [Batching] "at least one event" "src/vendor.rs",
    /// A batch has an outcome too few.
    LosesOutcome: [Batch] "one outcome for each event" "src/vendor.rs",
    /// The outcomes of a batch stand in another order.
    ReversesOutcomes: [Splits, PartialRefusal]
        "for the event that is too large alone" "src/outcome.rs",
    /// It retries by itself: retries multiply.
    RetriesInside: [OneAttempt] "one request in one attempt" "src/vendor.rs",
    /// It retries for ever.
    NeverEnds: [Ends] "an end when" "src/vendor.rs",
    /// A retry begins anew, and repeats what was accepted.
    ForgetsProgress: [Resumes] "again, then those after it" "src/vendor.rs",
    /// Its errors name another instance.
    NamesAnother: [NamedErrors] "the instance's name in every error" "src/vendor.rs",
    /// An error's source shows the key.
    KeyInError: [Secrets] "an error's source shows" "src/vendor.rs",
    /// One person's events overtake each other.
    ForgetsOrder: [Order] "person" "src/vendor.rs",
    /// More requests are under way than it says.
    TooManyAtOnce: [InFlight] "at most 1 requests under way" "src/vendor.rs",
    /// What is not answered in time is given up.
    DropsTimeouts: [Network] "is retryable" "src/vendor.rs",
    /// What the vendor answered is lost.
    LosesAnswer: [Delivers] "the vendor's answer in the delivery" "src/identify.rs",
    /// A dry run shows nothing.
    NoPreview: [Preview] "a preview of each request" "src/vendor.rs",
    /// A dry run shows the key.
    KeyInPreview: [Secrets] "a preview shows" "src/vendor.rs",
    /// What is mapped ahead is not what is sent otherwise.
    PreparesAnother: [Prepared] "the requests of an event that was not prepared" "src/vendor.rs",
    /// An event fits before it has an id, and does not fit with one.
    ForgetsStamp: [Limits] "without a message id and a time" "src/vendor.rs",

    // The configuration.

    /// A kind is promised that no instance delivers.
    PromisesAlias: [Support] "declared by every instance" "src/config.rs",
    /// A region is chosen, and everything goes to the other one.
    IgnoresRegion: [Also] "the configuration \"in the EU\" supports other kinds" "src/config.rs",
    /// In one of the regions, nothing is mapped.
    RefusesInEu: [Delivers] "by the configuration \"in the EU\"" "src/identify.rs",
    /// In one of the regions, credentials travel in the clear.
    PlainHttpInEu: [Requests, Snapshot] "https" "src/vendor.rs",
    /// Without a key, it is found out when the first event is sent.
    NeedsNoKey: [MissingCredentials] "without any key" "src/config.rs",

    // The suite's settings, and the package.

    /// No credential is named: nothing looks for one.
    NoSecretsNamed: [Setup] "named with `secrets`" "tests/conformance.rs",
    /// Nobody says how the vendor accepts: nothing else can be told from it.
    NoAnswers: [Setup] "given with `answers`" "tests/conformance.rs",
    /// The vendor's words are none.
    BlankAnswer: [Setup] "the vendor's own words from `answers`" "tests/conformance.rs",
    /// Nobody says what the vendor refuses in a 2xx.
    NoRefusal: [Setup] "given with `refusal`" "tests/conformance.rs",
    /// Nobody says what the vendor refuses of a request.
    NoItems: [Setup] "say `takes_all_or_nothing()`" "tests/conformance.rs",
    /// Nobody says what the vendor leaves for later.
    NoDelays: [Setup] "given with `delays_item`" "tests/conformance.rs",
    /// Nobody says what the vendor's rules refuse.
    NoInvalid: [Setup] "say `accepts_whatever()`" "tests/conformance.rs",
    /// A URL is said to have a credential that it has not.
    NeedlessUrl: [Setup] "as `credentials_in_url` says" "tests/conformance.rs",
    /// A status is said to be for now that is not.
    NeedlessRetries: [Rejected] "says so with `retries`" "src/outcome.rs",
    /// A key is said to differ between attempts that does not.
    NeedlessVolatile: [Setup] "is volatile" "tests/conformance.rs",
    /// A 2xx is said to be a failure, and is that of no request.
    NeedlessRefusal: [Setup] "`refusal` answers some request" "tests/conformance.rs",
    /// Something is said of two configurations of one name.
    NamesTwice: [Setup] "another name for each configuration" "tests/conformance.rs",
    /// A vendor is said to leave one event of a request, and of which does it do so?
    NeedlessDelays: [Setup] "`delays_item` answers a request" "tests/conformance.rs",
    /// It is said to do so, and never to do so.
    DelaysAndDoesNot: [Setup] "either `delays_no_item` or `delays_item`" "tests/conformance.rs",
    /// It is said to refuse single events, and never to do so.
    TakesAllAndDoesNot: [Setup]
        "either `takes_all_or_nothing` or `refuses_item`" "tests/conformance.rs",
    /// It is said to have rules, and to have none.
    AcceptsAndDoesNot: [Setup] "either `accepts_whatever` or `invalid`" "tests/conformance.rs",
    /// It is said to refuse in a 2xx, and never to do so.
    RefusesAndDoesNot: [Setup] "either `refuses_by_status` or `refusal`" "tests/conformance.rs",
    /// A person is said to be gone, and no answer says it.
    NeedlessGone: [Setup] "`already_gone` answers some request" "tests/conformance.rs",
    /// A status is said to say everything, and that of no request does.
    NeedlessSilence: [Setup] "`says_nothing` is true of some" "tests/conformance.rs",
    /// Names are said to be cut that are not.
    NeedlessCuts: [Setup] "some name that is cut" "tests/conformance.rs",
    /// Screens are said to be pages, and there are none.
    NeedlessScreens: [Setup] "as `screens_are_pages` says" "tests/conformance.rs",
    /// A delete is said to have traits, and has none.
    NeedlessTraits: [Setup] "as `delete_has_traits` says" "tests/conformance.rs",
    /// Some statuses are said to be for now, and none is.
    NeedlessPatience: [Setup] "`retries` names some status" "tests/conformance.rs",
    /// An event is given that is never sent.
    NeedlessFixture: [Setup] "`fixture` has events of kinds" "tests/conformance.rs",
    /// What is given for the vendor's rules breaks those of the specification.
    InvalidForAll: [Setup] "only the vendor's own rules refuse" "tests/conformance.rs",
    /// What is given for the vendor's rules is of a kind that is not delivered.
    InvalidForNobody: [Setup] "`invalid` has events of kinds" "tests/conformance.rs",
    /// Nobody says which of an alias's ids is which.
    AliasUnsaid: [Setup] "said with `means`" "tests/conformance.rs",
    /// Something is said of a key that there is not.
    MeansNothing: [Setup] "a key of the requests" "tests/conformance.rs",
    /// Something is said to be a field that there is not.
    MeansNoField: [Setup] "a field of the event" "tests/conformance.rs",
    /// Something is still to be filled in.
    LeavesOpen: [Unwritten] "the page" "README.md",
}
