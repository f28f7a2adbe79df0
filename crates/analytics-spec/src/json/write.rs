//! JSON written as `serde_json` writes it, byte for byte. Most of what it takes
//! there goes into asking of every byte of a text whether it has to be escaped:
//! here, eight are asked at once. Whatever is not a text, a list or an object,
//! and whatever has to be escaped, `serde_json` writes.

use std::{io::Write as _, mem};

use serde::{Serialize, Serializer, ser};
use serde_json::Error;

use super::{key::Key, text};

/// Writes a value behind what is in `json`, in the very bytes that
/// [`serde_json::to_writer`] would write. Only what pretends to be a
/// `RawValue` or a `Number` of `serde_json`, by its name, is taken for one.
///
/// # Errors
///
/// The value cannot be written: it says so itself, or has a key that is no
/// text. Some of it may have been written then.
pub fn write<T: Serialize + ?Sized>(json: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    value.serialize(Writer { json })
}

struct Writer<'a> {
    json: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// What `serde_json` writes.
    fn plain<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        serde_json::to_writer(self.json, value)
    }

    fn list(self) -> Items<'a> {
        self.json.push(b'[');
        Items::new(self.json, Some(b']'))
    }

    fn object(self) -> Items<'a> {
        self.json.push(b'{');
        Items::new(self.json, Some(b'}'))
    }

    /// `{"variant":`, and what follows.
    fn variant(self, variant: &str) -> Result<Self, Error> {
        text::write(self.json, b"{\"", variant, b"\":")?;
        Ok(self)
    }
}

macro_rules! plain {
    ($($method:ident: $Type:ty),* $(,)?) => {$(
        fn $method(self, value: $Type) -> Result<(), Error> {
            self.plain(&value)
        }
    )*};
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = Items<'a>;
    type SerializeStruct = Items<'a>;
    type SerializeStructVariant = Items<'a>;

    plain! {
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_i128: i128, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64,
        serialize_char: char,
        serialize_bytes: &[u8],
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        text::write(self.json, b"\"", value, b"\"")
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        let start = self.json.len();
        self.json.push(b'"');
        write!(self.json, "{value}").map_err(Error::io)?;
        let written = self.json.get(start + 1..).unwrap_or_default();
        if text::is_plain(written) {
            self.json.push(b'"');
            return Ok(());
        }
        let text = String::from_utf8_lossy(written).into_owned();
        self.json.truncate(start);
        self.plain(&text)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.plain(&())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let Writer { json } = self.variant(variant)?;
        write(json, value)?;
        json.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, Error> {
        Ok(self.list())
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'a>, Error> {
        Ok(self.list())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'a>, Error> {
        Ok(self.list())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'a>, Error> {
        Ok(self.variant(variant)?.list().of_variant())
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Items<'a>, Error> {
        Ok(self.object())
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Items<'a>, Error> {
        Ok(if VERBATIM.contains(&name) {
            Items::new(self.json, None)
        } else {
            self.object()
        })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'a>, Error> {
        Ok(self.variant(variant)?.object().of_variant())
    }
}

/// What `serde_json` hands out as an object of this name, under its features
/// `arbitrary_precision` and `raw_value`, has one field: JSON as a text. Any
/// crate of a program can turn them on for all of them.
const VERBATIM: [&str; 2] = [
    "$serde_json::private::Number",
    "$serde_json::private::RawValue",
];

/// What is in a list or an object.
struct Items<'a> {
    json: &'a mut Vec<u8>,
    is_first: bool,
    /// What ends it; nothing ends what is written [as it is](VERBATIM).
    end: Option<u8>,
    /// Whether an object of one variant is around it.
    is_of_variant: bool,
}

impl<'a> Items<'a> {
    fn new(json: &'a mut Vec<u8>, end: Option<u8>) -> Self {
        Self {
            json,
            is_first: true,
            end,
            is_of_variant: false,
        }
    }

    fn of_variant(self) -> Self {
        Self {
            is_of_variant: true,
            ..self
        }
    }

    fn comma(&mut self) {
        if !mem::take(&mut self.is_first) {
            self.json.push(b',');
        }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.comma();
        write(self.json, value)
    }

    fn named<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Error> {
        if self.end.is_none() {
            return self.verbatim(value);
        }
        if mem::take(&mut self.is_first) {
            text::write(self.json, b"\"", name, b"\":")?;
        } else {
            text::write(self.json, b",\"", name, b"\":")?;
        }
        write(self.json, value)
    }

    fn verbatim<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let quoted = serde_json::to_vec(value)?;
        let text: String = serde_json::from_slice(&quoted)?;
        self.json.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn close(self) {
        self.json.extend(self.end);
        if self.is_of_variant {
            self.json.push(b'}');
        }
    }
}

macro_rules! listed {
    ($($Trait:ident: $method:ident),* $(,)?) => {$(
        impl ser::$Trait for Items<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.item(value)
            }

            fn end(self) -> Result<(), Error> {
                self.close();
                Ok(())
            }
        }
    )*};
}

listed! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! named {
    ($($Trait:ident),* $(,)?) => {$(
        impl ser::$Trait for Items<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.named(name, value)
            }

            fn end(self) -> Result<(), Error> {
                self.close();
                Ok(())
            }
        }
    )*};
}

named!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Items<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.comma();
        key.serialize(Key { json: self.json })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        write(self.json, value)
    }

    fn end(self) -> Result<(), Error> {
        self.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fmt};

    use proptest::{
        collection::{btree_map, vec},
        prelude::*,
    };
    use serde_json::{Value, json};

    use super::*;

    /// Everything that the data model of serde has, some of it in itself.
    #[derive(Clone, Debug, Serialize)]
    enum Any {
        Unit,
        Newtype(Box<Any>),
        Tuple(u8, String),
        Struct { key: String, r#else: Option<char> },
        Bool(bool),
        Integers(i8, u16, i64, u64, i128, u128),
        Floats(f32, f64),
        Shown(Shown),
        List(Vec<Any>),
        Object(BTreeMap<String, Any>),
        Numbered(BTreeMap<i64, Named>),
        Keyed(BTreeMap<Option<Choice>, ()>),
    }

    #[derive(Clone, Debug, Serialize)]
    struct Named(#[serde(serialize_with = "as_bytes")] Vec<u8>, Nothing);

    #[derive(Clone, Debug, Serialize)]
    struct Nothing;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    enum Choice {
        One,
        #[serde(rename = "the \"other\"")]
        Other,
    }

    fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    /// A text that is serialised by `Display`, in two pieces.
    #[derive(Clone, Debug)]
    struct Shown(String);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}-{}", self.0, self.0)
        }
    }

    impl Serialize for Shown {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    /// Texts of every length around eight, with what has to be escaped in any
    /// place, or nothing.
    fn texts() -> impl Strategy<Value = String> {
        let odd = prop_oneof![
            20 => proptest::char::range(' ', '~'),
            1 => proptest::char::range('\0', '\x1f'),
            1 => Just('"'),
            1 => Just('\\'),
            2 => any::<char>(),
        ];
        prop_oneof![
            "[ -!#-Z^-~é]{0,40}",
            vec(odd, 0..40).prop_map(String::from_iter)
        ]
    }

    fn anything() -> impl Strategy<Value = Any> {
        let leaf = prop_oneof![
            Just(Any::Unit),
            (any::<u8>(), texts()).prop_map(|(number, text)| Any::Tuple(number, text)),
            (texts(), any::<Option<char>>()).prop_map(|(key, r#else)| Any::Struct { key, r#else }),
            any::<bool>().prop_map(Any::Bool),
            any::<(i8, u16, i64, u64, i128, u128)>()
                .prop_map(|(a, b, c, d, e, f)| Any::Integers(a, b, c, d, e, f)),
            (any::<f32>(), any::<f64>()).prop_map(|(a, b)| Any::Floats(a, b)),
            texts().prop_map(|text| Any::Shown(Shown(text))),
            btree_map(any::<i64>(), vec(any::<u8>(), 0..3), 0..3).prop_map(|map| {
                let named = map
                    .into_iter()
                    .map(|(key, bytes)| (key, Named(bytes, Nothing)));
                Any::Numbered(named.collect())
            }),
            any::<bool>().prop_map(|other| {
                let choice = if other { Choice::Other } else { Choice::One };
                Any::Keyed(BTreeMap::from([(Some(choice), ())]))
            }),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|any| Any::Newtype(Box::new(any))),
                vec(inner.clone(), 0..4).prop_map(Any::List),
                btree_map(texts(), inner, 0..4).prop_map(Any::Object),
            ]
        })
    }

    fn assert_same<T: Serialize + ?Sized>(value: &T) {
        let mut json = b"before".to_vec();
        let written = write(&mut json, value).map_err(|error| error.to_string());
        match serde_json::to_vec(value) {
            Ok(expected) => {
                assert_eq!(written, Ok(()));
                let json = json.strip_prefix(b"before").unwrap();
                assert_eq!(
                    String::from_utf8_lossy(json),
                    String::from_utf8_lossy(&expected)
                );
            }
            Err(error) => assert_eq!(written, Err(error.to_string())),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_serde_json_writes(any in anything()) {
            assert_same(&any);
        }

        #[test]
        fn texts_are_what_serde_json_writes(text in texts()) {
            assert_same(&text);
            assert_same(&Shown(text));
        }
    }

    /// A map whose key is a number.
    struct Floating(f64);

    impl Serialize for Floating {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map([(self.0, true)])
        }
    }

    #[test]
    fn every_byte_in_every_place_of_every_length() {
        for length in 1..20 {
            for place in 0..length {
                for byte in 0..=0x7f {
                    let mut text = vec![b'x'; length];
                    text[place] = byte;
                    assert_same(std::str::from_utf8(&text).unwrap());
                }
            }
        }
    }

    #[test]
    fn keys_are_texts_or_become_some() {
        assert_same(&BTreeMap::from([(true, 1), (false, 0)]));
        assert_same(&BTreeMap::from([('"', 1), ('x', 0)]));
        assert_same(&BTreeMap::from([(u128::MAX, 1)]));
        for number in [0.5, -0.0, 1e300, f64::NAN, f64::INFINITY] {
            assert_same(&Floating(number));
        }
        assert_same(&BTreeMap::from([(None::<u8>, 1)]));
        assert_same(&BTreeMap::from([(vec![1], 1)]));
        assert_same(&BTreeMap::from([((), 1)]));
        assert_same(&BTreeMap::from([((1, 2), 1)]));
        assert_same(&BTreeMap::from([(BTreeMap::from([(1, 1)]), 1)]));
    }

    #[test]
    fn what_is_no_number_is_null() {
        for number in [f64::NAN, f64::INFINITY, -0.0, 1e300, 5e-324] {
            assert_same(&number);
        }
        assert_same(&[f32::NEG_INFINITY, 0.1]);
    }

    #[test]
    fn numbers_and_json_that_stand_as_texts_stay_as_they_are() {
        #[derive(Serialize)]
        #[serde(rename = "$serde_json::private::RawValue")]
        struct Raw {
            #[serde(rename = "$serde_json::private::RawValue")]
            json: &'static str,
        }
        #[derive(Serialize)]
        #[serde(rename = "$serde_json::private::Number")]
        struct Number {
            #[serde(rename = "$serde_json::private::Number")]
            number: &'static str,
        }
        let mut json = Vec::new();
        let number = Number { number: "1.50" };
        let raw = Raw {
            json: r#"{ "a": "\u0041" }"#,
        };
        write(&mut json, &(raw, number, 2)).unwrap();
        assert_eq!(json, br#"[{ "a": "\u0041" },1.50,2]"#);
    }

    #[test]
    fn an_error_of_the_value_itself_is_told() {
        struct Unwilling;
        impl Serialize for Unwilling {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(ser::Error::custom("I will not"))
            }
        }
        assert_same(&[Unwilling]);
        assert_same(&json!({"a": [Value::Null, {"b": "c\n"}]}));
    }
}
