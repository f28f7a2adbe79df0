//! The seven events. Each is built by value: required fields go into `new`,
//! the rest follows.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    Kind, KindSet,
    decode::{Decode, Reader, members},
    validation::{Code, check_nesting},
};

/// The most characters that an id may have. Longer is an error, never a cut.
pub const MAX_ID_CHARS: usize = 255;

pub(crate) mod sealed {
    use crate::decode::Reader;

    pub trait Sealed {
        /// Adds what the specification's rules find wrong.
        fn check(&self, reader: &mut Reader);
    }
}

/// One of the seven events, or any of them ([`AnyEvent`]).
pub trait Event:
    sealed::Sealed + Clone + std::fmt::Debug + PartialEq + Serialize + Send + Sync + 'static
{
    /// The kinds that this type can be.
    const KINDS: KindSet;

    /// The kind of this event.
    fn kind(&self) -> Kind;

    /// This event as any of the seven.
    fn into_any(self) -> AnyEvent;

    /// This type from any of the seven; gives back what is another kind.
    ///
    /// # Errors
    ///
    /// The event itself, if it is of another kind.
    fn from_any(event: AnyEvent) -> Result<Self, AnyEvent>;
}

/// From one list: the structs with their builders and their JSON, the
/// [`Event`] implementations, and [`AnyEvent`]. A field is an *id* (optional
/// text), *required* text (an argument of `new`), or a *dictionary*; the *rule*
/// is what holds between them.
macro_rules! events {
    ($(
        $(#[$doc:meta])*
        $Event:ident {
            ids { $( $(#[$id_doc:meta])* $id:ident )* }
            required { $( $(#[$required_doc:meta])* $required:ident )* }
            dictionaries { $( $(#[$dict_doc:meta])* $dict:ident one $entry:ident )* }
            rule $rule:expr
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Serialize)]
            #[non_exhaustive]
            pub struct $Event {
                $(
                    $(#[$id_doc])*
                    #[serde(skip_serializing_if = "Option::is_none")]
                    pub $id: Option<String>,
                )*
                $( $(#[$required_doc])* pub $required: String, )*
                $(
                    $(#[$dict_doc])*
                    #[serde(skip_serializing_if = "Map::is_empty")]
                    pub $dict: Map<String, Value>,
                )*
            }

            impl $Event {
                /// The event with its required fields.
                #[must_use]
                pub fn new($($required: impl Into<String>),*) -> Self {
                    Self {
                        $($required: $required.into(),)*
                        ..Self::default()
                    }
                }

                $(
                    $(#[$id_doc])*
                    #[must_use]
                    #[inline]
                    pub fn $id(mut self, $id: impl Into<String>) -> Self {
                        self.$id = Some($id.into());
                        self
                    }
                )*
                $(
                    #[doc = concat!("Adds to [`", stringify!($dict), "`](Self::", stringify!($dict), ").")]
                    #[must_use]
                    #[inline]
                    pub fn $entry(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
                        self.$dict.insert(key.into(), value.into());
                        self
                    }

                    #[doc = concat!("Adds every entry to [`", stringify!($dict), "`](Self::", stringify!($dict), ").")]
                    #[must_use]
                    pub fn $dict<K: Into<String>, V: Into<Value>>(
                        mut self,
                        entries: impl IntoIterator<Item = (K, V)>,
                    ) -> Self {
                        self.$dict.extend(
                            entries.into_iter().map(|(key, value)| (key.into(), value.into())),
                        );
                        self
                    }
                )*
            }

            impl sealed::Sealed for $Event {
                fn check(&self, reader: &mut Reader) {
                    let rule: fn(&Self, &mut Reader) = $rule;
                    reader.at(Kind::$Event.as_str(), |reader| {
                        $( if let Some(id) = &self.$id {
                            reader.at(stringify!($id), |r| check_text(stringify!($id), id, r));
                        } )*
                        $( reader.at(stringify!($required), |r| {
                            check_text(stringify!($required), &self.$required, r);
                        }); )*
                        $( reader.at(stringify!($dict), |r| check_nesting(&self.$dict, r)); )*
                        rule(self, reader);
                    });
                }
            }

            impl Event for $Event {
                const KINDS: KindSet = KindSet::EMPTY.with(Kind::$Event);

                fn kind(&self) -> Kind {
                    Kind::$Event
                }

                fn into_any(self) -> AnyEvent {
                    AnyEvent::$Event(self)
                }

                fn from_any(event: AnyEvent) -> Result<Self, AnyEvent> {
                    match event {
                        AnyEvent::$Event(event) => Ok(event),
                        other => Err(other),
                    }
                }
            }

            impl Decode for $Event {
                fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
                    let mut event = Self::default();
                    for (key, value) in members(value, reader)? {
                        match key.as_str() {
                            $( stringify!($id) => {
                                event.$id = reader.at(stringify!($id), |r| Decode::decode(value, r));
                            } )*
                            $( stringify!($required) => {
                                event.$required = reader
                                    .at(stringify!($required), |r| Decode::decode(value, r))
                                    .unwrap_or_default();
                            } )*
                            $( stringify!($dict) => {
                                event.$dict = reader
                                    .at(stringify!($dict), |r| Decode::decode(value, r))
                                    .unwrap_or_default();
                            } )*
                            _ => reader.unknown(key, &[
                                $(stringify!($id),)* $(stringify!($required),)* $(stringify!($dict),)*
                            ]),
                        }
                    }
                    Some(event)
                }
            }

            impl From<$Event> for AnyEvent {
                fn from(event: $Event) -> Self {
                    Self::$Event(event)
                }
            }
        )*

        /// Any of the seven events.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum AnyEvent {
            $(
                #[doc = concat!("See [`", stringify!($Event), "`](struct@", stringify!($Event), ").")]
                $Event($Event),
            )*
        }

        impl sealed::Sealed for AnyEvent {
            fn check(&self, reader: &mut Reader) {
                match self {
                    $( Self::$Event(event) => event.check(reader), )*
                }
            }
        }

        impl Event for AnyEvent {
            const KINDS: KindSet = KindSet::ALL;

            fn kind(&self) -> Kind {
                match self {
                    $( Self::$Event(_) => Kind::$Event, )*
                }
            }

            fn into_any(self) -> AnyEvent {
                self
            }

            fn from_any(event: AnyEvent) -> Result<Self, AnyEvent> {
                Ok(event)
            }
        }

        impl AnyEvent {
            /// Reads the event of a kind.
            pub(crate) fn decode(kind: Kind, value: Value, reader: &mut Reader) -> Option<Self> {
                match kind {
                    $( Kind::$Event => $Event::decode(value, reader).map(Self::$Event), )*
                }
            }
        }
    };
}

events! {
    /// Who a user is: an id, and traits that are known about them.
    Identify {
        ids {
            /// The id that the user had before they were known.
            anonymous_id
            /// The user's id in your database.
            user_id
        }
        required {}
        dictionaries {
            /// What is known about the user: `email`, `first_name`, `plan`, ...
            traits one trait_
        }
        rule check_says_something
    }

    /// What a user did.
    Track {
        ids {
            /// The id that the user had before they were known.
            anonymous_id
            /// The user's id in your database.
            user_id
        }
        required {
            /// What happened, as a phrase in the past: `Order Completed`.
            event
        }
        dictionaries {
            /// What is known about what happened: `revenue`, `currency`, ...
            properties one property
            /// What is known about the user who did it.
            traits one trait_
        }
        rule |e, r| check_somebody([&e.user_id, &e.anonymous_id], r)
    }

    /// Which group (company, team, account) a user belongs to.
    Group {
        ids {
            /// The id that the user had before they were known.
            anonymous_id
            /// The user's id in your database.
            user_id
        }
        required {
            /// The group's id in your database.
            group_id
        }
        dictionaries {
            /// What is known about the group: `name`, `industry`, ...
            traits one trait_
        }
        rule |e, r| check_somebody([&e.user_id, &e.anonymous_id], r)
    }

    /// Two ids are one user.
    Alias {
        ids {}
        required {
            /// The id that the user had until now.
            previous_user_id
            /// The id that the user has from now on.
            user_id
        }
        dictionaries {
            /// What is known about the user.
            traits one trait_
        }
        rule check_connects
    }

    /// A page that a user saw.
    Page {
        ids {
            /// The id that the user had before they were known.
            anonymous_id
            /// The user's id in your database.
            user_id
        }
        required {
            /// The page's name.
            name
        }
        dictionaries {
            /// What is known about the page: `url`, `category`, ...
            properties one property
        }
        rule |e, r| check_somebody([&e.user_id, &e.anonymous_id], r)
    }

    /// A screen of an app that a user saw.
    Screen {
        ids {
            /// The id that the user had before they were known.
            anonymous_id
            /// The user's id in your database.
            user_id
        }
        required {
            /// The screen's name.
            name
        }
        dictionaries {
            /// What is known about the screen.
            properties one property
        }
        rule |e, r| check_somebody([&e.user_id, &e.anonymous_id], r)
    }

    /// Forget a user: what is known about them is to be deleted.
    Delete {
        ids {}
        required {
            /// The user's id in your database.
            user_id
        }
        dictionaries {
            /// What a vendor may need to find the user, such as `email`.
            traits one trait_
        }
        rule |_, _| {}
    }
}

/// Whose event it is: an id in one of the two spaces of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Person<'a> {
    /// A user's id.
    User(&'a str),
    /// An anonymous id.
    Anonymous(&'a str),
}

impl AnyEvent {
    /// The user's id, if the event has one.
    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        match self {
            Self::Identify(e) => e.user_id.as_deref(),
            Self::Track(e) => e.user_id.as_deref(),
            Self::Group(e) => e.user_id.as_deref(),
            Self::Alias(e) => Some(&e.user_id),
            Self::Page(e) => e.user_id.as_deref(),
            Self::Screen(e) => e.user_id.as_deref(),
            Self::Delete(e) => Some(&e.user_id),
        }
    }

    /// The anonymous id, if the event has one.
    #[must_use]
    pub fn anonymous_id(&self) -> Option<&str> {
        match self {
            Self::Identify(e) => e.anonymous_id.as_deref(),
            Self::Track(e) => e.anonymous_id.as_deref(),
            Self::Group(e) => e.anonymous_id.as_deref(),
            Self::Page(e) => e.anonymous_id.as_deref(),
            Self::Screen(e) => e.anonymous_id.as_deref(),
            Self::Alias(_) | Self::Delete(_) => None,
        }
    }

    /// The traits: the group's for [`Group`], the user's otherwise; `None` for
    /// pages and screens, which have none.
    #[must_use]
    pub fn traits(&self) -> Option<&Map<String, Value>> {
        match self {
            Self::Identify(e) => Some(&e.traits),
            Self::Track(e) => Some(&e.traits),
            Self::Group(e) => Some(&e.traits),
            Self::Alias(e) => Some(&e.traits),
            Self::Delete(e) => Some(&e.traits),
            Self::Page(_) | Self::Screen(_) => None,
        }
    }

    /// The properties; `None` for events that have traits only.
    #[must_use]
    pub fn properties(&self) -> Option<&Map<String, Value>> {
        match self {
            Self::Track(e) => Some(&e.properties),
            Self::Page(e) => Some(&e.properties),
            Self::Screen(e) => Some(&e.properties),
            Self::Identify(_) | Self::Group(_) | Self::Alias(_) | Self::Delete(_) => None,
        }
    }

    /// Every id under which this event belongs to somebody. Two events that
    /// share one must reach a vendor in the order in which they were accepted.
    ///
    /// What an alias calls the previous user may have been anonymous.
    pub fn people(&self) -> impl Iterator<Item = Person<'_>> {
        let previous = match self {
            Self::Alias(alias) => Some(alias.previous_user_id.as_str()),
            _ => None,
        };
        let previous = previous.map(|id| [Person::User(id), Person::Anonymous(id)]);
        previous
            .into_iter()
            .flatten()
            .chain(self.user_id().map(Person::User))
            .chain(self.anonymous_id().map(Person::Anonymous))
    }
}

/// Checks a text by its field's name. Ids are bounded; the names of events,
/// pages, screens are not.
fn check_text(field: &str, text: &str, reader: &mut Reader) {
    if text.trim().is_empty() {
        reader.violation(Code::Required, "must not be empty");
    } else if field.ends_with("_id") && text.len() > MAX_ID_CHARS {
        // Only where the bytes exceed can the characters.
        let chars = text.chars().count();
        if chars > MAX_ID_CHARS {
            reader.violation(
                Code::TooLong,
                format!("has {chars} characters; an id has at most {MAX_ID_CHARS}"),
            );
        }
    }
}

/// The rule of events that belong to somebody.
fn check_somebody(ids: [&Option<String>; 2], reader: &mut Reader) {
    if ids.iter().all(|id| id.is_none()) {
        reader.at("user_id", |r| {
            r.violation(
                Code::Required,
                "whose event is it? Set user_id or anonymous_id",
            );
        });
    }
}

fn check_says_something(event: &Identify, reader: &mut Reader) {
    if event.user_id.is_none() && event.anonymous_id.is_none() && event.traits.is_empty() {
        reader.violation(
            Code::Required,
            "says nothing: set user_id, anonymous_id or traits",
        );
    }
}

fn check_connects(event: &Alias, reader: &mut Reader) {
    if !event.user_id.trim().is_empty() && event.user_id == event.previous_user_id {
        reader.at("previous_user_id", |r| {
            r.violation(
                Code::Conflict,
                "is the same as user_id: an alias connects two different ids",
            );
        });
    }
}
