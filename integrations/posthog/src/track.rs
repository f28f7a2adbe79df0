//! What the user did.
//!
//! <https://posthog.com/docs/api/capture#single-event>

use analytics_spec::{AnyInput, Code, Track, Violation};

use crate::{capture::Capture, config::PersonProfiles};

/// PostHog cuts an event's name after so many characters: `sanitizeEventName`
/// of its ingestion, <https://github.com/PostHog/posthog>.
const MAX_NAME_CHARS: usize = 200;

pub(crate) fn capture<'a>(
    input: &'a AnyInput,
    event: &'a Track,
    profiles: PersonProfiles,
) -> Capture<'a> {
    Capture::new(input, &event.event)
        .traits(&event.traits)
        .own(&event.properties)
        .profiled(input, profiles)
}

/// Events that change whose events are whose, or what a person or a group is: they
/// are what `identify`, `alias` and `group` are for, with their rules.
///
/// <https://posthog.com/docs/api/capture>
const RESERVED: [&str; 4] = [
    "$identify",
    "$create_alias",
    "$merge_dangerously",
    "$groupidentify",
];

/// A name that PostHog would read as an instruction, or cut.
pub(crate) fn check(event: &Track) -> Option<Violation> {
    if RESERVED.contains(&event.event.as_str()) {
        return Some(Violation::new(
            "track.event",
            Code::Reserved,
            format!(
                "is {:?}, by which PostHog changes persons or groups: use identify, alias or group",
                event.event
            ),
        ));
    }
    let chars = event.event.chars().count();
    (chars > MAX_NAME_CHARS).then(|| {
        Violation::new(
            "track.event",
            Code::TooLong,
            format!(
                "has {chars} characters; PostHog takes at most {MAX_NAME_CHARS}, and cuts the rest"
            ),
        )
    })
}
