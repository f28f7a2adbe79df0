//! JSON read strictly: a key that stands twice in one object is a violation.
//! Elsewhere the last one wins, and what the first one said is lost.

use std::{cell::RefCell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, map::Entry};

use crate::validation::{Code, ValidationError, Violation};

/// A JSON value, and what stands twice in it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Strict {
    /// The value; of a key that stands twice, what it says first.
    pub value: Value,
    /// Each key that stands twice, with its path from the value's top.
    pub duplicates: Vec<Violation>,
}

/// Reads one JSON value from `bytes`.
///
/// # Errors
///
/// It is not JSON.
pub fn from_slice(bytes: &[u8]) -> Result<Strict, ValidationError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ValidationError::new("$", Code::Malformed, error.to_string()))
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let duplicates = RefCell::default();
        let seed = Seed {
            place: None,
            duplicates: &duplicates,
        };
        let value = seed.deserialize(deserializer)?;
        Ok(Self {
            value,
            duplicates: duplicates.into_inner(),
        })
    }
}

/// Where a value stands: a list through the stack, so that only a duplicate
/// costs an allocation.
#[derive(Clone, Copy)]
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    key: Key<'a>,
}

#[derive(Clone, Copy)]
enum Key<'a> {
    Name(&'a str),
    Index(usize),
}

impl Place<'_> {
    fn path(&self) -> String {
        let key = match self.key {
            Key::Name(name) => name.to_owned(),
            Key::Index(index) => index.to_string(),
        };
        match self.parent {
            Some(parent) => format!("{}.{key}", parent.path()),
            None => key,
        }
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    place: Option<&'a Place<'a>>,
    duplicates: &'a RefCell<Vec<Violation>>,
}

impl<'a> Seed<'a> {
    fn place(self, key: Key<'a>) -> Place<'a> {
        Place {
            parent: self.place,
            key,
        }
    }

    fn below<'b>(self, place: &'b Place<'b>) -> Seed<'b>
    where
        'a: 'b,
    {
        Seed {
            place: Some(place),
            ..self
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let place = self.place(Key::Index(values.len()));
            match seq.next_element_seed(self.below(&place))? {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if key == NUMBER && map.is_empty() && numbers_are_texts() {
                let text = access.next_value::<String>()?;
                let number = text.parse().map_err(de::Error::custom)?;
                return Ok(Value::Number(number));
            }
            let place = self.place(Key::Name(&key));
            let value = access.next_value_seed(self.below(&place))?;
            match map.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(entry) => {
                    let path = self.place(Key::Name(entry.key())).path();
                    let message = "stands twice: which one is meant?";
                    let violation = Violation::new(path, Code::DuplicateKey, message);
                    self.duplicates.borrow_mut().push(violation);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

/// How `serde_json` hands out a number under its feature
/// `arbitrary_precision`: as an object with this one key.
const NUMBER: &str = "$serde_json::private::Number";

/// Whether that feature is on. Any crate of a program can turn it on for all
/// of them; only then is there a number that no `f64` holds.
fn numbers_are_texts() -> bool {
    serde_json::from_str::<Value>("1e999").is_ok()
}
