//! What holds of the readers of inputs and outputs, whatever they are given.
//! Shared by the fuzz target and the property tests.

use analytics_spec::{
    Alias, AnyEvent, AnyInput, AnyOutput, Delete, Event, Group, Identify, Input, Kind, Page,
    Screen, Track,
};

/// Panics if something does not hold.
pub(crate) fn check(bytes: &[u8]) {
    let form = serde_json::from_slice::<AnyInput>(bytes);
    if let Ok(input) = &form {
        assert_eq!(&again(input), input, "the form reads back");
    }
    match AnyInput::from_json(bytes) {
        Ok(input) => {
            let form = form.expect("what is valid has its form");
            assert_eq!(form, input, "validation changes nothing");
            check_input(bytes, &input);
        }
        Err(error) => {
            assert!(!error.violations().is_empty());
            assert!(!error.to_string().is_empty());
            let agrees = form.map_or(true, |input| input.validate().is_err());
            assert!(agrees, "reading and validating disagree: {error}");
        }
    }
    if let Ok(output) = serde_json::from_slice::<AnyOutput>(bytes) {
        assert_eq!(again(&output), output, "an output reads back");
    }
}

fn check_input(bytes: &[u8], input: &AnyInput) {
    assert_eq!(input.validate(), Ok(()), "what was read is valid");

    let json = serde_json::to_vec(input).expect("an input has a JSON");
    let read = AnyInput::from_json(&json);
    assert_eq!(read.as_ref(), Ok(input), "an input reads back");
    let twice = serde_json::to_vec(input).expect("an input has a JSON");
    assert_eq!(json, twice, "JSON has one form");

    let mut completed = input.context.clone();
    completed.inherit(&input.context);
    assert_eq!(completed, input.context, "there is nothing to complete");

    let kind = input.kind();
    check_as::<Identify>(bytes, input, kind == Kind::Identify);
    check_as::<Track>(bytes, input, kind == Kind::Track);
    check_as::<Group>(bytes, input, kind == Kind::Group);
    check_as::<Alias>(bytes, input, kind == Kind::Alias);
    check_as::<Page>(bytes, input, kind == Kind::Page);
    check_as::<Screen>(bytes, input, kind == Kind::Screen);
    check_as::<Delete>(bytes, input, kind == Kind::Delete);
    check_as::<AnyEvent>(bytes, input, true);
}

fn check_as<E: Event>(bytes: &[u8], input: &AnyInput, is_its_kind: bool) {
    match Input::<E>::from_json(bytes) {
        Ok(typed) => {
            assert!(is_its_kind);
            assert_eq!(&typed.into_any(), input);
        }
        Err(error) => assert!(!is_its_kind, "{error}"),
    }
}

fn again<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let json = serde_json::to_vec(value).expect("it has a JSON");
    serde_json::from_slice(&json).expect("its JSON is read")
}
