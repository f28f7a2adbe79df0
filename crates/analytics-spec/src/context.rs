//! Everything that is known around an event.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    Timestamp,
    decode::{Decode, Inherit, Reader, members},
    validation::{Code, check_nesting},
};

/// The most characters that a message id may have.
pub const MAX_MESSAGE_ID_CHARS: usize = 100;

/// A field's key on the wire: its name, unless another one is given.
macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// An object of the context, every field of which may be absent: the struct
/// with its builder, its JSON in both directions, and its merging, from one
/// list of fields. Keys that it does not know are kept and passed on.
macro_rules! objects {
    ($(
        $(#[$doc:meta])*
        $Name:ident { $( $(#[$field_doc:meta])* $field:ident $(as $key:literal)?: $Type:ty, )* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
        #[non_exhaustive]
        pub struct $Name {
            $(
                $(#[$field_doc])*
                #[serde(skip_serializing_if = "Option::is_none" $(, rename = $key)?)]
                pub $field: Option<$Type>,
            )*
            /// Whatever else stands here: kept and passed on.
            #[serde(flatten)]
            pub extra: Map<String, Value>,
        }

        impl $Name {
            /// The object with nothing in it.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            $(
                $(#[$field_doc])*
                #[must_use]
                pub fn $field(mut self, $field: impl Into<$Type>) -> Self {
                    self.$field = Some($field.into());
                    self
                }
            )*

            /// Whether nothing is known.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                $(self.$field.is_none() &&)* self.extra.is_empty()
            }
        }

        impl Decode for $Name {
            fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
                let mut object = Self::default();
                for (key, value) in members(value, reader)? {
                    match key.as_str() {
                        $( key!($field $($key)?) => {
                            object.$field =
                                reader.at(key!($field $($key)?), |r| Decode::decode(value, r));
                        } )*
                        _ => {
                            object.extra.insert(key, value);
                        }
                    }
                }
                Some(object)
            }
        }

        impl Check for $Name {
            fn check(&self, reader: &mut Reader) {
                $( if let Some(value) = &self.$field {
                    reader.at(key!($field $($key)?), |r| value.check(r));
                } )*
                if self.extra.is_empty() {
                    return;
                }
                self.extra.check(reader);
                for key in [$(key!($field $($key)?)),*] {
                    if self.extra.contains_key(key) {
                        reader.at(key, |r| r.violation(
                            Code::Conflict,
                            "has a field of its own: set that, not `extra`",
                        ));
                    }
                }
            }
        }

        impl Inherit for $Name {
            fn inherit(&mut self, base: &Self) {
                $( self.$field.inherit(&base.$field); )*
                self.extra.inherit(&base.extra);
            }
        }
    )*};
}

objects! {
    /// Everything that is known around an event.
    Context {
        /// Unique per event, at most 100 characters, the same over every
        /// retry; a UUIDv7 made when the event is accepted, if absent.
        message_id: String,
        /// When it happened; when the event was accepted, if absent.
        timestamp: Timestamp,
        /// The user's address.
        ip: IpAddr,
        /// The user's browser or client, as it introduces itself.
        user_agent: String,
        /// The user's language and region: `en-GB`.
        locale: String,
        /// The user's time zone: `Europe/Paris`.
        timezone: String,
        /// A free dictionary.
        meta: Map<String, Value>,
        /// Feature flags by name.
        flags: BTreeMap<String, bool>,
        /// Parameters by name, such as those of a URL.
        params: BTreeMap<String, Vec<String>>,
        /// The library that made the event.
        library: Box<Library>,
        /// The source code of the project that the event comes from.
        git: Box<Git>,
        /// The application that the event comes from.
        app: Box<App>,
        /// The campaign that brought the user.
        campaign: Box<Campaign>,
        /// The cloud that the project runs on.
        cloud: Box<Cloud>,
        /// The user's device.
        device: Box<Device>,
        /// Where the user is.
        location: Box<Location>,
        /// The network that the user is on.
        network: Box<Network>,
        /// The device's operating system.
        os: Box<Os>,
        /// The page that the user is on.
        page: Box<PageContext>,
        /// What led the user here.
        referrer: Box<Referrer>,
        /// The device's screen.
        screen: Box<ScreenContext>,
        /// The subscription that the event is about.
        subscription: Box<Subscription>,
    }

    /// The library that made the event.
    Library {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    }

    /// The source code of the project that the event comes from.
    Git {
        /// Where the code is.
        repository: String,
        /// The branch.
        branch: String,
        /// The commit.
        commit: String,
        /// The commit's author.
        author: String,
        /// The tag.
        tag: String,
    }

    /// The application that the event comes from.
    App {
        /// Its name.
        name: String,
        /// Its version, as people see it.
        version: String,
        /// Its build.
        build_id: String,
    }

    /// The campaign that brought the user, as UTM parameters name it.
    Campaign {
        /// `utm_campaign`
        name: String,
        /// `utm_source`
        source: String,
        /// `utm_medium`
        medium: String,
        /// `utm_term`
        term: String,
        /// `utm_content`
        content: String,
    }

    /// The cloud that the project runs on.
    Cloud {
        /// Whose cloud.
        provider: String,
        /// Which of its services.
        service: String,
        /// Where.
        region: String,
        /// The project there.
        project_id: String,
        /// The account there.
        account_id: String,
    }

    /// The user's device.
    Device {
        /// Its id.
        id: String,
        /// Who made it.
        manufacturer: String,
        /// Its model.
        model: String,
        /// The name that the user gave it.
        name: String,
        /// Its type: `ios`, `android`, ...
        type_ as "type": String,
        /// Its version.
        version: String,
        /// Its id for advertisers.
        advertising_id: String,
    }

    /// Where the user is.
    Location {
        /// The city.
        city: String,
        /// The country.
        country: String,
        /// The region or state.
        region: String,
        /// Degrees, north positive.
        latitude: f64,
        /// Degrees, east positive.
        longitude: f64,
        /// Metres per second.
        speed: f64,
    }

    /// The network that the user is on.
    Network {
        /// Bluetooth is on.
        bluetooth: bool,
        /// The connection is cellular.
        cellular: bool,
        /// The connection is wifi.
        wifi: bool,
        /// The carrier's name.
        carrier: String,
    }

    /// The device's operating system.
    Os {
        /// Its name.
        name: String,
        /// The processor's architecture.
        arch: String,
        /// Its version.
        version: String,
    }

    /// The page that the user is on.
    PageContext {
        /// The URL's path.
        path: String,
        /// The URL of the page before.
        referrer: String,
        /// The URL's query.
        search: String,
        /// The page's title.
        title: String,
        /// The whole URL.
        url: String,
    }

    /// What led the user here.
    Referrer {
        /// What kind of thing.
        type_ as "type": String,
        /// Its name.
        name: String,
        /// Its URL.
        url: String,
        /// The link that was followed.
        link: String,
    }

    /// The device's screen.
    ScreenContext {
        /// Pixels per point.
        density: f64,
        /// In points.
        width: u32,
        /// In points.
        height: u32,
    }

    /// The subscription that the event is about.
    Subscription {
        /// The account that pays.
        account_id: String,
        /// The subscription.
        subscription_id: String,
        /// What happened to it.
        event: String,
        /// What it is worth.
        value: f64,
        /// By how much that changed.
        increment_by: f64,
    }
}

impl Context {
    /// Sets one feature flag.
    #[must_use]
    pub fn flag(mut self, name: impl Into<String>, on: bool) -> Self {
        self.flags.get_or_insert_default().insert(name.into(), on);
        self
    }

    /// Adds a value to a parameter.
    #[must_use]
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params
            .get_or_insert_default()
            .entry(name.into())
            .or_default()
            .push(value.into());
        self
    }

    /// Completes this context from one that holds for many events, object by
    /// object and field by field: what stands here wins. The base's message id
    /// and timestamp are not taken, for they belong to one event.
    pub fn inherit(&mut self, base: &Self) {
        let (message_id, timestamp) = (self.message_id.take(), self.timestamp.take());
        Inherit::inherit(self, base);
        self.message_id = message_id;
        self.timestamp = timestamp;
    }

    /// Fixes the event's identity: makes the message id and the timestamp,
    /// unless they are there. Vendors recognise a repeated event by both, so
    /// this happens once, when the event is accepted.
    pub fn stamp(&mut self, now: Timestamp) {
        if self.message_id.is_none() {
            let id = Uuid::now_v7().hyphenated();
            let mut text = Uuid::encode_buffer();
            self.message_id = Some(id.encode_lower(&mut text).to_owned());
        }
        if self.timestamp.is_none() {
            self.timestamp = Some(now);
        }
    }

    /// Adds what the specification's rules find wrong.
    pub(crate) fn check(&self, reader: &mut Reader) {
        reader.at("context", |reader| {
            Check::check(self, reader);
            if let Some(id) = &self.message_id {
                reader.at("message_id", |r| check_message_id(id, r));
            }
            if self.timestamp.is_some_and(|t| t.as_second() < YEAR_ZERO) {
                reader.at("timestamp", |r| {
                    r.violation(Code::OutOfRange, "RFC 3339 has no years before 0");
                });
            }
            if let Some(location) = &self.location {
                reader.at("location", |r| check_degrees(location, r));
            }
        });
    }
}

/// 0000-01-01T00:00:00Z
const YEAR_ZERO: i64 = -62_167_219_200;

fn check_message_id(id: &str, reader: &mut Reader) {
    let chars = id.chars().count();
    if id.trim().is_empty() {
        reader.violation(
            Code::Required,
            "must not be empty; leave it out to have one made",
        );
    } else if chars > MAX_MESSAGE_ID_CHARS {
        reader.violation(
            Code::TooLong,
            format!("has {chars} characters; a message id has at most {MAX_MESSAGE_ID_CHARS}"),
        );
    }
}

fn check_degrees(location: &Location, reader: &mut Reader) {
    let degrees = [
        ("latitude", location.latitude, 90.0),
        ("longitude", location.longitude, 180.0),
    ];
    for (field, value, limit) in degrees {
        if value.is_some_and(|v| v.is_finite() && v.abs() > limit) {
            reader.at(field, |r| {
                r.violation(
                    Code::OutOfRange,
                    format!("must be from -{limit} to {limit} degrees"),
                );
            });
        }
    }
}

/// What every value of a type has to satisfy so that it can be read back from
/// its JSON. Decoded values do, except for their depth; built ones may not.
trait Check {
    fn check(&self, reader: &mut Reader);
}

macro_rules! always_fits {
    ($($Type:ty),*) => {$(
        impl Check for $Type {
            fn check(&self, _: &mut Reader) {}
        }
    )*};
}
always_fits!(
    String,
    bool,
    u32,
    IpAddr,
    Timestamp,
    BTreeMap<String, bool>,
    BTreeMap<String, Vec<String>>
);

impl Check for f64 {
    fn check(&self, reader: &mut Reader) {
        if !self.is_finite() {
            reader.violation(Code::OutOfRange, "must be a finite number");
        }
    }
}

impl Check for Map<String, Value> {
    fn check(&self, reader: &mut Reader) {
        check_nesting(self, reader);
    }
}

impl<T: Check> Check for Box<T> {
    fn check(&self, reader: &mut Reader) {
        self.as_ref().check(reader);
    }
}
