//! What the six messages of the tracking API have in common.

use std::fmt;

use analytics_spec::{AnyEvent, AnyInput, Map, Timestamp, Value};
use serde::{Serialize, Serializer};

use crate::{alias, context::SegmentContext, delete, group, identify, page, screen, track};

/// What an event is in the body of its request.
pub(crate) struct Body<'a>(pub(crate) &'a AnyInput);

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let input = self.0;
        match &input.event {
            AnyEvent::Identify(event) => identify::message(input, event).serialize(serializer),
            AnyEvent::Track(event) => track::message(input, event).serialize(serializer),
            AnyEvent::Group(event) => group::message(input, event).serialize(serializer),
            AnyEvent::Alias(event) => alias::message(input, event).serialize(serializer),
            AnyEvent::Page(event) => page::message(input, event).serialize(serializer),
            AnyEvent::Screen(event) => screen::message(input, event).serialize(serializer),
            AnyEvent::Delete(event) => delete::subject(event).serialize(serializer),
        }
    }
}

/// A message of the tracking API: the common fields around the call's own.
///
/// <https://segment.com/docs/connections/spec/common/>
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message<'a, C> {
    r#type: &'static str,
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Iso8601>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anonymous_id: Option<&'a str>,
    #[serde(flatten)]
    call: C,
    context: SegmentContext<'a>,
}

impl<'a, C> Message<'a, C> {
    /// A call's message; `traits` are the user's, where the call itself has no
    /// place for them.
    pub(crate) fn new(
        input: &'a AnyInput,
        call: C,
        traits: Option<&'a Map<String, Value>>,
    ) -> Self {
        Self {
            r#type: input.kind().as_str(),
            message_id: input.message_id(),
            timestamp: input.context.timestamp.map(Iso8601),
            user_id: input.event.user_id(),
            anonymous_id: input.event.anonymous_id(),
            call,
            context: SegmentContext {
                context: &input.context,
                traits: traits.filter(|traits| !traits.is_empty()),
            },
        }
    }
}

/// What stamping adds to an input that is not stamped yet.
pub(crate) fn unstamped_bytes(input: &AnyInput) -> usize {
    const MESSAGE_ID: usize = "01890a5d-ac96-774b-bcce-b302099a8057".len();
    const TIMESTAMP: usize = r#""timestamp":"2026-03-01T12:00:00.000Z","#.len();
    let missing = |is_missing, bytes| if is_missing { bytes } else { 0 };
    missing(input.context.message_id.is_none(), MESSAGE_ID)
        + missing(input.context.timestamp.is_none(), TIMESTAMP)
}

/// ISO 8601 in UTC with milliseconds, as Segment's own libraries write it.
pub(crate) struct Iso8601(pub(crate) Timestamp);

impl Iso8601 {
    /// The digits, as of every time since 1970: each event has one, which is
    /// written and counted several times.
    fn digits(&self) -> Option<[u8; 24]> {
        if self.0 < Timestamp::UNIX_EPOCH {
            return None;
        }
        let millis = u64::try_from(self.0.as_millisecond()).ok()?;
        let (days, millis) = (millis / 86_400_000, millis % 86_400_000);
        let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
        let (seconds, millis) = (millis / 1000 % 60, millis % 1000);
        // Days since the 1st of March of the year 0, in eras of 400 years:
        // leap days then stand at the end of their years.
        let days = days + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, is_next) = if month < 10 {
            (month + 3, 0)
        } else {
            (month - 9, 1)
        };
        let year = era * 400 + year + is_next;
        let digit = |number: u64| b"0123456789".get((number % 10) as usize).copied();
        Some([
            digit(year / 1000)?,
            digit(year / 100)?,
            digit(year / 10)?,
            digit(year)?,
            b'-',
            digit(month / 10)?,
            digit(month)?,
            b'-',
            digit(day / 10)?,
            digit(day)?,
            b'T',
            digit(hours / 10)?,
            digit(hours)?,
            b':',
            digit(minutes / 10)?,
            digit(minutes)?,
            b':',
            digit(seconds / 10)?,
            digit(seconds)?,
            b'.',
            digit(millis / 100)?,
            digit(millis / 10)?,
            digit(millis)?,
            b'Z',
        ])
    }
}

impl fmt::Display for Iso8601 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl Serialize for Iso8601 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = self.digits();
        match digits.as_ref().map(|digits| std::str::from_utf8(digits)) {
            Some(Ok(text)) => serializer.serialize_str(text),
            _ => serializer.collect_str(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_calendar() {
        let day = 86_400_000;
        let last = Timestamp::MAX.as_second() * 1000;
        // Every day of two eras, each at another time of it, and some of all;
        // and before 1970.
        let days = (0..=2 * 146_097).chain((0..last / day).step_by(97));
        let times = days.map(|n| n * day + n * 7_919 % day);
        for millis in times.chain([0, 1, day - 1, day, last, -1, -day]) {
            let at = Timestamp::from_millisecond(millis).unwrap();
            let written = serde_json::to_string(&Iso8601(at)).unwrap();
            assert_eq!(written, format!("\"{}\"", Iso8601(at)));
        }
        let nanos = Timestamp::new(1, 999_999_999).unwrap();
        for at in [
            nanos,
            Timestamp::UNIX_EPOCH - std::time::Duration::from_nanos(1),
        ] {
            let written = serde_json::to_string(&Iso8601(at)).unwrap();
            assert_eq!(written, format!("\"{}\"", Iso8601(at)));
        }
    }
}
