//! JSON objects that borrow what they are made of.

use std::{borrow::Cow, net::IpAddr};

use analytics_spec::{Map, Value};
use serde::{Serialize, Serializer};

/// An object. No name stands in it twice.
#[derive(Debug, Default)]
pub(crate) struct Object<'a>(Vec<(&'a str, Field<'a>)>);

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Field<'a> {
    Text(Cow<'a, str>),
    Whole(i64),
    Float(f64),
    Address(IpAddr),
    Json(&'a Value),
    Object(Object<'a>),
}

impl<'a> Object<'a> {
    /// An object with one entry.
    pub(crate) fn of(key: &'a str, value: impl Into<Field<'a>>) -> Self {
        Self(vec![(key, value.into())])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what is not there yet, if there is something.
    pub(crate) fn set(&mut self, key: &'a str, value: Option<impl Into<Field<'a>>>) {
        if let Some(value) = value {
            self.0.push((key, value.into()));
        }
    }

    /// Adds an object, unless it is empty.
    pub(crate) fn set_filled(&mut self, key: &'a str, object: Self) {
        self.set(key, (!object.is_empty()).then_some(object));
    }

    /// Adds the entries of a dictionary, but for those of a name that is there
    /// already: they would replace it.
    pub(crate) fn fill(mut self, given: &'a Map<String, Value>) -> Self {
        let own = self.0.len();
        for (key, value) in given {
            let is_taken = self.0.iter().take(own).any(|(taken, _)| taken == key);
            if !is_taken {
                self.0.push((key, Field::Json(value)));
            }
        }
        self
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

macro_rules! fields {
    ($($Type:ty => $Field:ident,)*) => {$(
        impl<'a> From<$Type> for Field<'a> {
            fn from(value: $Type) -> Self {
                Self::$Field(value.into())
            }
        }
    )*};
}

fields! {
    &'a str => Text,
    Cow<'a, str> => Text,
    i64 => Whole,
    f64 => Float,
    IpAddr => Address,
    &'a Value => Json,
    Object<'a> => Object,
}
