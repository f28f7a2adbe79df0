//! A batch as it was given.

use std::{borrow::Cow, collections::HashMap, fmt};

use analytics_spec::{
    AnyInput, BatchInput, Code, Error, Handler, ValidationError, Value, Violation,
    batch::Outcome,
    json::{self, Strict},
};
use serde::{
    Deserialize, Deserializer, Serializer as _,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue as Json;
use temporalio_common::data_converters::RawValue;

use super::{check_count, failed};
use crate::{
    limits::{self, MAX_EVENT_DEPTH},
    payload,
};

/// What cannot be read in an input, or stands there twice, by its place.
type Broken = HashMap<usize, Vec<Violation>>;

/// A batch as it was given, its inputs unread.
pub(super) struct Batch {
    pub(super) batch: BatchInput<Value>,
    broken: Broken,
}

impl Batch {
    pub(super) fn read(input: RawValue) -> Result<Self, Error> {
        let (value, broken) = read_json(input)?;
        let batch = BatchInput::<Value>::from_value(value)?;
        check_count(batch.inputs.len())?;
        Ok(Self { batch, broken })
    }

    /// Takes the inputs out: each read, or how its event ended. A workflow does so
    /// again when it is replayed, and has to come to the same: events are read, and
    /// their levels counted, alike by all versions between which a batch may be
    /// on its way. How large an event is when it is written is for an activity to
    /// say.
    pub(super) fn take_inputs(
        &mut self,
        handler: &Handler,
        mut stamp: impl FnMut(usize, &mut AnyInput),
    ) -> Vec<Result<AnyInput, Box<Outcome>>> {
        let values = std::mem::take(&mut self.batch.inputs);
        let bytes = limits::outcome_bytes(values.len());
        let mut accept = |(index, value): (usize, Value)| -> Result<AnyInput, Error> {
            ValidationError::check(self.broken.remove(&index).unwrap_or_default())?;
            check_depth(&value)?;
            let mut input = AnyInput::accept(value, None)?;
            stamp(index, &mut input);
            Ok(input)
        };
        let accepted = values.into_iter().enumerate().map(|input| {
            accept(input).map_err(|error: Error| {
                let error = error.with_integration(handler.name());
                Box::new(failed("", &error, bytes))
            })
        });
        accepted.collect()
    }
}

/// What lies deeper could not be read within what it is handed on in.
fn check_depth(value: &Value) -> Result<(), ValidationError> {
    let levels = limits::depth(value);
    if levels <= MAX_EVENT_DEPTH {
        return Ok(());
    }
    let message = format!(
        "has {levels} levels of arrays and objects; at most {MAX_EVENT_DEPTH} can be handed on"
    );
    Err(ValidationError::new("$", Code::TooLarge, message))
}

/// The JSON of a batch. What is wrong within an input is that input's.
fn read_json(input: RawValue) -> Result<(Value, Broken), Error> {
    let payload = payload::one(input)?;
    let json = payload::json(&payload)?;
    let (read, mut broken) = match json::from_slice(json) {
        Ok(read) => (read, Broken::new()),
        // Only now: it is read once more for that.
        Err(error) => parted(json).ok_or(error)?,
    };
    let Strict {
        value, duplicates, ..
    } = read;
    let mut shared = Vec::new();
    for mut violation in duplicates {
        let of_input = violation.path.strip_prefix("inputs.");
        let of_input = of_input.and_then(|path| path.split_once('.'));
        match of_input.and_then(|(index, path)| Some((index.parse().ok()?, path.to_owned()))) {
            Some((index, path)) => {
                violation.path = path;
                broken.entry(index).or_default().push(violation);
            }
            None => shared.push(violation),
        }
    }
    ValidationError::check(shared)?;
    Ok((value, broken))
}

/// A batch without what cannot be read in its inputs; none if something is wrong
/// around them.
fn parted(json: &[u8]) -> Option<(Strict, Broken)> {
    let fields: Fields<'_> = serde_json::from_slice(json).ok()?;
    let (json, broken) = fields.without_broken_inputs().ok()?;
    Some((json::from_slice(&json).ok()?, broken))
}

/// The fields of an object as they stand in it, also those that stand there twice;
/// what is in them is not read.
struct Fields<'a>(Vec<(String, Cow<'a, Json>)>);

impl Fields<'_> {
    /// The object with `null` for each input that cannot be read, and what is wrong
    /// with those.
    fn without_broken_inputs(mut self) -> serde_json::Result<(Vec<u8>, Broken)> {
        let mut broken = Broken::new();
        for (_, inputs) in self.0.iter_mut().filter(|(key, _)| key == "inputs") {
            let Ok(each) = serde_json::from_str::<Vec<&Json>>(inputs.get()) else {
                continue;
            };
            let each = each.into_iter().enumerate().map(|(index, input)| {
                let read = json::from_slice(input.get().as_bytes());
                match read.and_then(|read| check_depth(&read.value)) {
                    Ok(()) => input,
                    Err(error) => {
                        broken.insert(index, error.violations().to_vec());
                        Json::NULL
                    }
                }
            });
            let each: Vec<_> = each.collect();
            let whole = serde_json::value::to_raw_value(&each)?;
            *inputs = Cow::Owned(whole);
        }
        let mut json = Vec::new();
        let fields = self.0.iter().map(|(key, value)| (key, value));
        serde_json::Serializer::new(&mut json).collect_map(fields)?;
        Ok((json, broken))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<_, &Json>()? {
                    fields.push((key, Cow::Borrowed(value)));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

#[cfg(test)]
mod tests {
    use temporalio_common::protos::temporal::api::common::v1::Payload;

    use super::*;

    fn read(json: &str) -> Result<(Value, Broken), Error> {
        read_as("json/plain", json)
    }

    fn read_as(encoding: &str, json: &str) -> Result<(Value, Broken), Error> {
        let metadata = HashMap::from([("encoding".to_owned(), encoding.into())]);
        read_json(RawValue::new(vec![Payload {
            metadata,
            data: json.into(),
            ..Payload::default()
        }]))
    }

    #[test]
    fn an_input_that_is_broken_is_its_own_failure() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let json = format!(
            r#"{{"context":{{"locale":"en"}},"inputs":[{{"a":1}},{{"a":"\ud800"}},{{"a":{deep}}},
               {{"a":1,"a":2}},{{"a":2}}]}}"#
        );
        let (value, broken) = read(&json).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "context": {"locale": "en"},
                "inputs": [{"a": 1}, null, null, {"a": 1}, {"a": 2}],
            })
        );
        let mut places: Vec<_> = broken.keys().copied().collect();
        places.sort_unstable();
        assert_eq!(places, [1, 2, 3]);
        assert!(broken[&1][0].message.contains("hex escape"), "{broken:?}");
        assert!(broken[&2][0].message.contains("recursion"), "{broken:?}");
        assert_eq!(broken[&3][0].path, "a");
    }

    /// What all inputs share, or which of them are meant, nobody could guess.
    #[test]
    fn what_is_wrong_around_the_inputs_is_wrong_with_all_of_them() {
        for (json, path) in [
            (r#"{"inputs":[{"a":"\ud800"}],"inputs":[]}"#, "inputs"),
            (
                r#"{"inputs":[{"a":"\ud800"}],"context":{"b":"\ud800"}}"#,
                "$",
            ),
            (r#"{"inputs":[{"a":"\ud800"}"#, "$"),
            (r#"[{"a":"\ud800"}]"#, "$"),
            // What no text can have, and what ends one.
            ("{\"inputs\":[{\"a\":\"\n\"},{}]}", "$"),
            (r#"{"inputs":[{"a":"\x"},{}]}"#, "$"),
            (r#"{"inputs":[{"a"},{}]}"#, "$"),
        ] {
            let error = read(json).unwrap_err();
            let violations = error.violations().unwrap().violations();
            assert_eq!(violations[0].path, path, "{error}");
        }
        let error = read_as("json/protobuf", r#"{"inputs":[{"a":"\ud800"}]}"#).unwrap_err();
        assert!(error.message().contains("json/protobuf"), "{error}");
    }
}
