//! How long a value's JSON is. Everything that is accepted is measured, more
//! than once; to count takes a fraction of what writing takes.

use std::fmt::{self, Display, Write as _};

use serde::{
    Serialize, Serializer,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
        SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
    },
};
use serde_json::Error;

/// How many bytes `serde_json` writes for a value.
///
/// # Errors
///
/// The value cannot be written as JSON.
pub fn json_len(value: &(impl Serialize + ?Sized)) -> Result<usize, Error> {
    let mut count = Count::default();
    value.serialize(&mut count)?;
    Ok(count.bytes)
}

/// Counts instead of writing.
#[derive(Default)]
struct Count {
    bytes: usize,
    /// A key is a text, whatever its type.
    is_key: bool,
}

impl Count {
    /// A text between quotation marks.
    #[inline]
    fn text(&mut self, text: &str) {
        self.bytes += 2 + escaped(text);
    }

    /// What has quotation marks as a key only.
    #[expect(clippy::unnecessary_wraps, reason = "what every method returns")]
    fn plain(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes + if self.is_key { 2 } else { 0 };
        Ok(())
    }

    fn null(&mut self) -> Result<(), Error> {
        self.no_key()?;
        self.plain(4)
    }

    fn no_key(&self) -> Result<(), Error> {
        if self.is_key {
            return Err(Error::custom("key must be a string"));
        }
        Ok(())
    }

    /// Brackets, or braces, around what follows, and perhaps around that a
    /// variant's object.
    fn open(&mut self, variant: Option<&str>) -> Result<Inner<'_>, Error> {
        self.no_key()?;
        self.bytes += 2;
        if let Some(variant) = variant {
            self.bytes += 3;
            self.text(variant);
        }
        Ok(Inner {
            count: self,
            is_first: true,
            is_raw: false,
        })
    }
}

/// The bytes of a text in JSON, without the quotation marks.
#[inline]
fn escaped(text: &str) -> usize {
    // Almost no text has anything to escape.
    if has_special(text.as_bytes()) {
        text.len() + text.bytes().map(more).sum::<usize>()
    } else {
        text.len()
    }
}

/// By how much escaping makes a byte longer.
fn more(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | 0x08 | b'\t' | b'\n' | 0x0c | b'\r' => 1,
        0..0x20 => 5,
        _ => 0,
    }
}

/// Whether a text has anything to escape: eight bytes at a time.
#[inline]
fn has_special(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHEST: u64 = 0x80 * ONES;
    // The highest bit of a byte is set, if the byte is less than `least`, or
    // stands behind one that is.
    let less = |word: u64, least: u64| word.wrapping_sub(least * ONES) & !word;
    let is_special = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        let quotation_mark = less(word ^ (0x22 * ONES), 1);
        let backslash = less(word ^ (0x5c * ONES), 1);
        (less(word, 0x20) | quotation_mark | backslash) & HIGHEST != 0
    };
    let (words, rest) = bytes.as_chunks();
    words.iter().any(is_special)
        || match bytes.last_chunk() {
            // Some of it once more, and nothing byte by byte.
            Some(last) => is_special(last),
            None => rest.iter().any(|byte| more(*byte) > 0),
        }
}

fn digits(number: u128) -> usize {
    match u64::try_from(number) {
        Ok(number) => number.checked_ilog10(),
        Err(_) => number.checked_ilog10(),
    }
    .map_or(1, |log| log as usize + 1)
}

/// The digits and the sign.
fn signed_digits(number: i128) -> usize {
    digits(number.unsigned_abs()) + usize::from(number < 0)
}

/// As many bytes as `serde_json` takes: the shortest form has no simple length.
fn float(number: impl Serialize) -> Result<usize, Error> {
    struct Written(usize);
    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut written = Written(0);
    serde_json::to_writer(&mut written, &number)?;
    Ok(written.0)
}

/// What is displayed, escaped.
struct Displayed(usize);

impl fmt::Write for Displayed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += escaped(text);
        Ok(())
    }
}

fn displayed(value: &(impl Display + ?Sized)) -> Result<usize, Error> {
    let mut text = Displayed(0);
    write!(text, "{value}").map_err(Error::custom)?;
    Ok(text.0 + 2)
}

macro_rules! numbers {
    ($as:ident: $($method:ident $Type:ident)*) => {$(
        fn $method(self, number: $Type) -> Result<(), Error> {
            self.plain($as(number.into()))
        }
    )*};
}

impl<'a> Serializer for &'a mut Count {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Inner<'a>;
    type SerializeTuple = Inner<'a>;
    type SerializeTupleStruct = Inner<'a>;
    type SerializeTupleVariant = Inner<'a>;
    type SerializeMap = Inner<'a>;
    type SerializeStruct = Inner<'a>;
    type SerializeStructVariant = Inner<'a>;

    numbers!(digits: serialize_u8 u8 serialize_u16 u16 serialize_u32 u32 serialize_u64 u64
        serialize_u128 u128);
    numbers!(signed_digits: serialize_i8 i8 serialize_i16 i16 serialize_i32 i32 serialize_i64 i64
        serialize_i128 i128);

    fn serialize_f32(self, number: f32) -> Result<(), Error> {
        if !number.is_finite() {
            return self.null();
        }
        self.plain(float(number)?)
    }

    fn serialize_f64(self, number: f64) -> Result<(), Error> {
        if !number.is_finite() {
            return self.null();
        }
        self.plain(float(number)?)
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.plain(if value { 4 } else { 5 })
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<(), Error> {
        self.text(text);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Error> {
        self.no_key()?;
        self.collect_seq(bytes)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.null()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.null()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.null()
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
        self.open(None)?.entry(variant, value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Inner<'a>, Error> {
        self.open(None)
    }

    fn serialize_tuple(self, _: usize) -> Result<Inner<'a>, Error> {
        self.open(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Inner<'a>, Error> {
        self.open(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Inner<'a>, Error> {
        self.open(Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Inner<'a>, Error> {
        self.open(None)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Inner<'a>, Error> {
        // How `serde_json` passes on JSON as it is.
        if name.starts_with("$serde_json::private::") {
            return Ok(Inner {
                count: self,
                is_first: true,
                is_raw: true,
            });
        }
        self.open(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Inner<'a>, Error> {
        self.open(Some(variant))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.bytes += displayed(value)?;
        Ok(())
    }
}

/// An array or an object.
struct Inner<'a> {
    count: &'a mut Count,
    is_first: bool,
    is_raw: bool,
}

impl Inner<'_> {
    fn comma(&mut self) {
        self.count.bytes += usize::from(!self.is_first);
        self.is_first = false;
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.comma();
        value.serialize(&mut *self.count)
    }

    fn entry<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Error> {
        if self.is_raw {
            // A text that is JSON already: without its quotation marks.
            let json = serde_json::to_value(value)?;
            self.count.bytes += json.as_str().map_or(0, str::len);
            return Ok(());
        }
        self.comma();
        self.count.text(key);
        self.count.bytes += 1;
        value.serialize(&mut *self.count)
    }
}

macro_rules! arrays {
    ($($Trait:ident $method:ident)*) => {$(
        impl $Trait for Inner<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.element(value)
            }

            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        }
    )*};
}
arrays!(SerializeSeq serialize_element SerializeTuple serialize_element
    SerializeTupleStruct serialize_field SerializeTupleVariant serialize_field);

macro_rules! objects {
    ($($Trait:ident)*) => {$(
        impl $Trait for Inner<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.entry(key, value)
            }

            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        }
    )*};
}
objects!(SerializeStruct SerializeStructVariant);

impl SerializeMap for Inner<'_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.comma();
        self.count.is_key = true;
        key.serialize(&mut *self.count)?;
        self.count.is_key = false;
        Ok(())
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.count.bytes += 1;
        value.serialize(&mut *self.count)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![any::<String>(), "[\\x00-\\x22\\x5c\\x7f]{0,8}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (-1000_i32..1000).prop_map(|n| Value::from(f64::from(n) / 100.0)),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..8)
                    .prop_map(|map| Value::Object(Map::from_iter(map))),
            ]
        })
    }

    /// Every shape that serde knows.
    #[derive(Debug, Serialize)]
    enum Shape {
        Unit,
        Newtype(char),
        Tuple(u8, i8),
        Struct { a: Option<f32>, b: () },
    }

    #[derive(Debug, Serialize)]
    struct Unit;

    #[derive(Debug, Serialize)]
    struct Pair(i128, u128);

    #[derive(Debug, Serialize)]
    struct Wrapped(String);

    #[derive(Debug, Serialize)]
    struct Everything<'a> {
        shapes: Vec<Shape>,
        unit: Unit,
        pair: Pair,
        wrapped: Wrapped,
        by_number: BTreeMap<i64, u16>,
        by_bool: BTreeMap<bool, ()>,
        by_char: BTreeMap<char, [u32; 2]>,
        #[serde(skip_serializing_if = "Option::is_none")]
        left_out: Option<u8>,
        address: std::net::IpAddr,
        #[serde(flatten)]
        more: &'a Map<String, Value>,
    }

    fn same(value: &(impl Serialize + ?Sized)) {
        assert_eq!(
            json_len(value).unwrap(),
            serde_json::to_vec(value).unwrap().len()
        );
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_is_written(value in value()) {
            same(&value);
        }

        #[test]
        fn numbers_have_as_many_digits(
            number in any::<u128>(),
            shift in 0_u32..128,
            float in any::<f32>(),
        ) {
            let number = number >> shift;
            same(&number);
            same(&float);
            same(&number.cast_signed().wrapping_neg());
            same(&BTreeMap::from([(number, ())]));
        }

        #[test]
        fn every_shape_is_counted(
            char in any::<char>(),
            float in any::<Option<f32>>(),
            numbers in any::<(u8, i8, i128, u128, i64, u16, bool)>(),
            text in any::<String>(),
            more in value(),
        ) {
            let (u8, i8, i128, u128, i64, u16, bool) = numbers;
            same(&Everything {
                shapes: vec![
                    Shape::Unit,
                    Shape::Newtype(char),
                    Shape::Tuple(u8, i8),
                    Shape::Struct { a: float, b: () },
                ],
                unit: Unit,
                pair: Pair(i128, u128),
                wrapped: Wrapped(text),
                by_number: BTreeMap::from([(i64, u16)]),
                by_bool: BTreeMap::from([(bool, ())]),
                by_char: BTreeMap::from([(char, [7, 70])]),
                left_out: None,
                address: std::net::Ipv4Addr::from_bits(u32::from(u16)).into(),
                more: &Map::from_iter([("more".to_owned(), more)]),
            });
        }
    }

    #[test]
    fn zero_has_a_digit() {
        same(&[0_u64, 9, 10, 99, 100, u64::MAX]);
        same(&[0_i64, -9, -10, i64::MIN, i64::MAX]);
    }

    #[test]
    fn what_cannot_be_a_key_is_an_error() {
        json_len(&BTreeMap::from([((), 1)])).unwrap_err();
        json_len(&BTreeMap::from([([1, 2], 1)])).unwrap_err();
    }
}
