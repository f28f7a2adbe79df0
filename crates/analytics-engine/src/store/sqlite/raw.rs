//! Who and what an event's JSON speaks of, also where this version cannot read
//! it as an event.

use analytics_spec::{AnyInput, Kind, event::Person};
use serde_json::Value;

use super::super::People;
use super::hash::Hasher;

/// What is told of an event without reading all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) kind: Option<Kind>,
    pub(super) message_id: String,
    pub(super) user_id: Option<String>,
    pub(super) anonymous_id: Option<String>,
    /// An alias's.
    pub(super) previous_user_id: Option<String>,
}

impl Ids {
    pub(super) fn read(json: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(json) else {
            return Self::default();
        };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let message_id = value.get("context").and_then(|c| c.get("message_id"));
        let of_kind = |kind: Kind| Some((kind, value.get(kind.as_str())?));
        let event = Kind::ALL.into_iter().find_map(of_kind);
        let id = |name| text(event.and_then(|(_, event)| event.get(name)));
        Self {
            kind: event.map(|(kind, _)| kind),
            message_id: text(message_id).unwrap_or_default(),
            user_id: id("user_id"),
            anonymous_id: id("anonymous_id"),
            previous_user_id: id("previous_user_id"),
        }
    }

    pub(super) fn is_of(&self, user_id: &str) -> bool {
        self.user_id.as_deref() == Some(user_id)
            || self.previous_user_id.as_deref() == Some(user_id)
    }
}

/// The people of an event's JSON.
pub(super) fn people(json: &[u8], hasher: &Hasher) -> People {
    if let Ok(input) = AnyInput::from_json(json) {
        return hasher.people(&input);
    }
    let ids = Ids::read(json);
    let previous = ids.previous_user_id.as_deref();
    let people = [
        previous.map(Person::User),
        previous.map(Person::Anonymous),
        ids.user_id.as_deref().map(Person::User),
        ids.anonymous_id.as_deref().map(Person::Anonymous),
    ];
    people
        .into_iter()
        .flatten()
        .map(|p| hasher.person(p))
        .collect()
}

#[cfg(test)]
mod tests {
    use analytics_spec::{Alias, AnyEvent, Context, Identify, Input, Track};

    use super::*;

    #[test]
    fn ids_are_those_of_the_event() {
        let events: [AnyEvent; 3] = [
            Track::new("e")
                .user_id("u")
                .anonymous_id("a")
                .property("user_id", "x")
                .into(),
            Alias::new("p", "u").into(),
            Identify::new().anonymous_id("a").into(),
        ];
        let hasher = Hasher::new([7; 16]);
        for event in events {
            let input = Input::new(event).context(Context::new().message_id("m"));
            let json = serde_json::to_vec(&input).unwrap();
            let ids = Ids::read(&json);
            assert_eq!(ids.kind, Some(input.event.kind()));
            assert_eq!(ids.message_id, "m");
            assert_eq!(ids.user_id.as_deref(), input.event.user_id());
            assert_eq!(ids.anonymous_id.as_deref(), input.event.anonymous_id());
            assert_eq!(people(&json, &hasher), hasher.people(&input));
            // What a later version added does not hide whose it is.
            let mut value: Value = serde_json::from_slice(&json).unwrap();
            value["new"] = true.into();
            let json = serde_json::to_vec(&value).unwrap();
            assert!(AnyInput::from_json(&json).is_err());
            assert_eq!(people(&json, &hasher), hasher.people(&input));
        }
        assert!(
            Ids::read(&serde_json::to_vec(&Input::new(Alias::new("p", "u"))).unwrap()).is_of("p")
        );
        assert_eq!(Ids::read(b"{"), Ids::default());
    }

    use analytics_spec::Event as _;
}
