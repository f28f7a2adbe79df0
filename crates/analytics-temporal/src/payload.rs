//! JSON in Temporal's payloads. Read by hand: an input that the SDK cannot
//! convert fails the workflow's task, which is tried again for ever.

use std::collections::HashMap;

use analytics_spec::{
    AnyInput, Code, Error, ErrorKind, ValidationError, Value,
    json::{self, Strict},
};
use serde::{Serialize, de::DeserializeOwned};
use temporalio_common::{
    data_converters::RawValue, protos::temporal::api::common::v1::Payload as Raw,
};

use crate::limits::MAX_INPUT_BYTES;

const ENCODING: &str = "encoding";
const JSON: &str = "json/plain";
const NULL: &str = "binary/null";

/// The one JSON argument that the workflows and activities of one event take.
pub(crate) fn read(input: RawValue) -> Result<Value, Error> {
    let Strict {
        value, duplicates, ..
    } = json::from_slice(json(&one(input)?)?)?;
    ValidationError::check(duplicates)?;
    Ok(value)
}

/// The one argument.
pub(crate) fn one(input: RawValue) -> Result<Raw, Error> {
    let count = input.payloads.len();
    let mut payloads = input.payloads.into_iter();
    let (Some(payload), None) = (payloads.next(), payloads.next()) else {
        return Err(malformed(format!(
            "expected one argument, a JSON object; found {count}"
        )));
    };
    if payload.data.len() > MAX_INPUT_BYTES {
        return Err(too_large(payload.data.len()));
    }
    Ok(payload)
}

/// An input as the one argument, if Temporal takes it: it may be larger than
/// what was read, for numbers are written in another way.
pub(crate) fn write_input(input: &AnyInput) -> Result<RawValue, Error> {
    let argument = write(input)?;
    match bytes(&argument) {
        bytes if bytes > MAX_INPUT_BYTES => Err(too_large(bytes)),
        _ => Ok(argument),
    }
}

/// How many bytes a value has.
pub(crate) fn bytes(value: &RawValue) -> usize {
    value
        .payloads
        .iter()
        .map(|payload| payload.data.len())
        .sum()
}

/// What is too large to be handed on, said before Temporal refuses it.
pub(crate) fn too_large(bytes: usize) -> Error {
    ValidationError::new(
        "$",
        Code::TooLarge,
        format!("has {bytes} bytes as JSON; at most {MAX_INPUT_BYTES} can be handed on"),
    )
    .into()
}

fn malformed(message: String) -> Error {
    ValidationError::new("$", Code::Malformed, message).into()
}

/// A payload's JSON.
pub(crate) fn json(payload: &Raw) -> Result<&[u8], Error> {
    let encoding = payload.metadata.get(ENCODING);
    let encoding = String::from_utf8_lossy(encoding.map_or(b"", Vec::as_slice));
    match encoding.as_ref() {
        JSON => Ok(&payload.data),
        NULL => Ok(b"null"),
        other => Err(malformed(format!(
            "expected a payload with the encoding {JSON}, found {:?}",
            other.chars().take(64).collect::<String>()
        ))),
    }
}

/// A payload's JSON as a type, if it is one.
pub(crate) fn parse<T: DeserializeOwned>(payload: &Raw) -> Option<T> {
    serde_json::from_slice(&payload.data).ok()
}

/// The JSON of an output as a type.
pub(crate) fn parse_output<T: DeserializeOwned>(output: &RawValue) -> Result<T, Error> {
    let json = output.payloads.first().map_or(&[][..], |p| &p.data);
    serde_json::from_slice(json).map_err(|error| {
        let message = format!("an output of another form than expected: {error}");
        Error::new(ErrorKind::Internal, message)
    })
}

/// A value as one JSON payload.
pub(crate) fn payload(value: &impl Serialize) -> Result<Raw, Error> {
    let data = serde_json::to_vec(value).map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot be written as JSON").with_source(error)
    })?;
    Ok(Raw {
        metadata: HashMap::from([(ENCODING.to_owned(), JSON.into())]),
        data,
        ..Raw::default()
    })
}

/// A value as the one argument or result.
pub(crate) fn write(value: &impl Serialize) -> Result<RawValue, Error> {
    Ok(RawValue::new(vec![payload(value)?]))
}
