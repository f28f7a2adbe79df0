//! Merge fields: what an audience keeps of a member's traits.
//!
//! <https://mailchimp.com/developer/marketing/docs/merge-fields/>

use std::collections::BTreeMap;

use analytics_spec::{Code, Error, Map, Value, Violation};
use jiff::civil::Date;
use serde_json::json;

/// What every audience has, unless it was changed.
const DEFAULTS: [(&str, &str); 2] = [("first_name", "FNAME"), ("last_name", "LNAME")];

/// Which trait goes to which merge field, by its tag.
#[derive(Debug)]
pub(crate) struct MergeFields(BTreeMap<String, String>);

impl MergeFields {
    /// The configured fields, and those defaults whose trait and tag are free.
    pub(crate) fn new(configured: &BTreeMap<String, String>) -> Result<Self, Error> {
        let mut by_tag: BTreeMap<String, &str> = BTreeMap::new();
        for (key, tag) in configured {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if tag.is_empty() || !tag.chars().all(fits) {
                return Err(Error::configuration(format!(
                    "`merge_fields.{key}` is not a merge field: \
                     a tag is letters, digits and `_`, such as PHONE"
                )));
            }
            if let Some(other) = by_tag.insert(tag.to_ascii_uppercase(), key) {
                return Err(Error::configuration(format!(
                    "`merge_fields` sends both {other} and {key} to one field: one would be lost"
                )));
            }
        }
        let mut fields = configured.clone();
        for (key, tag) in DEFAULTS {
            if !by_tag.contains_key(tag) {
                fields
                    .entry(key.to_owned())
                    .or_insert_with(|| tag.to_owned());
            }
        }
        Ok(Self(fields))
    }

    /// The traits and the tags that they go to.
    pub(crate) fn table(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// The values, by tag, of those traits that have a merge field.
    pub(crate) fn values(
        &self,
        traits: &Map<String, Value>,
    ) -> Result<Map<String, Value>, Vec<Violation>> {
        let mut values = Map::new();
        let mut violations = Vec::new();
        for (key, tag) in &self.0 {
            let Some(value) = traits.get(key) else {
                continue;
            };
            let is_birthday = key == "birthday" || tag.eq_ignore_ascii_case("BIRTHDAY");
            let value = match value {
                Value::Null | Value::Array(_) => None,
                Value::Object(parts) => address(parts),
                // Empty text clears the field, whatever its type.
                Value::String(text) if text.trim().is_empty() => Some(value.clone()),
                _ if is_birthday => match value.as_str().and_then(birthday) {
                    Some(day) => Some(Value::from(day)),
                    None => {
                        violations.push(Violation::new(
                            format!("identify.traits.{key}"),
                            Code::Format,
                            "is not a birthday for Mailchimp: write MM/DD, or an ISO date",
                        ));
                        None
                    }
                },
                Value::String(_) | Value::Number(_) => Some(value.clone()),
                Value::Bool(flag) => Some(Value::from(flag.to_string())),
            };
            if let Some(value) = value {
                values.insert(tag.clone(), value);
            }
        }
        if violations.is_empty() {
            Ok(values)
        } else {
            Err(violations)
        }
    }
}

/// An address as Mailchimp takes it; `None` if a part is missing without which
/// Mailchimp refuses the whole member.
fn address(parts: &Map<String, Value>) -> Option<Value> {
    let text = |keys: &[&str]| {
        keys.iter().find_map(|key| match parts.get(*key)? {
            Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let mut address = json!({
        "addr1": text(&["addr1", "street"])?,
        "city": text(&["city"])?,
        "state": text(&["state"])?,
        "zip": text(&["zip", "postal_code"])?,
    });
    for key in ["addr2", "country"] {
        if let (Some(part), Value::Object(address)) = (text(&[key]), &mut address) {
            address.insert(key.to_owned(), Value::from(part));
        }
    }
    Some(address)
}

/// `MM/DD`, from `MM/DD`, an ISO date, or an ISO date and time.
fn birthday(text: &str) -> Option<String> {
    let text = text.trim();
    let (month, day) = match text.split_once('/') {
        // A leap year, for a birthday may be on 29 February.
        Some((month, day)) => {
            let date = Date::new(2000, number(month)?, number(day)?).ok()?;
            (date.month(), date.day())
        }
        None => {
            let (date, rest) = (text.get(..10)?, text.get(10..)?);
            if !rest.is_empty() && !rest.starts_with(['T', 't', ' ']) {
                return None;
            }
            let date: Date = date.parse().ok()?;
            (date.month(), date.day())
        }
    };
    Some(format!("{month:02}/{day:02}"))
}

/// A number of one or two digits.
fn number(text: &str) -> Option<i8> {
    let is_number = matches!(text.len(), 1 | 2) && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(configured: &[(&str, &str)]) -> MergeFields {
        let configured = configured
            .iter()
            .map(|(key, tag)| ((*key).to_owned(), (*tag).to_owned()))
            .collect();
        MergeFields::new(&configured).unwrap()
    }

    fn values(fields: &MergeFields, traits: Value) -> Value {
        let Value::Object(traits) = traits else {
            panic!("not traits")
        };
        Value::Object(fields.values(&traits).unwrap())
    }

    #[test]
    fn only_traits_with_a_field_are_sent() {
        let fields = fields(&[("plan", "PLAN"), ("is_vip", "VIP"), ("age", "AGE")]);
        let traits = json!({
            "first_name": "Ada", "last_name": "Lovelace", "plan": "pro", "is_vip": true,
            "age": 36.5, "email": "ada@example.com", "secret": "s",
        });
        assert_eq!(
            values(&fields, traits),
            json!({"FNAME": "Ada", "LNAME": "Lovelace", "PLAN": "pro", "VIP": "true", "AGE": 36.5})
        );
    }

    #[test]
    fn nulls_and_arrays_are_dropped_and_empty_text_clears() {
        let fields = fields(&[("plan", "PLAN"), ("tags", "TAGS"), ("birthday", "BDAY")]);
        let traits = json!({"first_name": null, "plan": "", "tags": ["a"], "birthday": ""});
        assert_eq!(values(&fields, traits), json!({"PLAN": "", "BDAY": ""}));
    }

    #[test]
    fn the_configuration_wins_by_trait_and_by_tag() {
        let fields = fields(&[("first_name", "GIVEN"), ("family_name", "lname")]);
        let traits = json!({"first_name": "Ada", "last_name": "Byron", "family_name": "Lovelace"});
        assert_eq!(
            values(&fields, traits),
            json!({"GIVEN": "Ada", "lname": "Lovelace"})
        );
    }

    #[test]
    fn an_address_is_whole_or_left_out() {
        let fields = fields(&[("address", "ADDRESS")]);
        let whole = json!({
            "street": "12 St James's Sq", "addr2": "Flat 3", "city": "London",
            "state": "Greater London", "postal_code": 11215, "country": "GB", "floor": 2,
        });
        assert_eq!(
            values(&fields, json!({"address": whole})),
            json!({"ADDRESS": {
                "addr1": "12 St James's Sq", "addr2": "Flat 3", "city": "London",
                "state": "Greater London", "zip": "11215", "country": "GB",
            }})
        );
        let own = json!({"addr1": "a", "city": "b", "state": "c", "zip": "d"});
        assert_eq!(
            values(&fields, json!({"address": own})),
            json!({"ADDRESS": {"addr1": "a", "city": "b", "state": "c", "zip": "d"}})
        );
        for missing in ["street", "city", "state", "postal_code"] {
            let mut part = whole.clone();
            part[missing] = json!(" ");
            assert_eq!(
                values(&fields, json!({"address": part})),
                json!({}),
                "{missing}"
            );
        }
    }

    #[test]
    fn birthdays_are_month_and_day() {
        for (text, expected) in [
            ("12/10", Some("12/10")),
            ("2/9", Some("02/09")),
            ("02/29", Some("02/29")),
            (" 1815-12-10 ", Some("12/10")),
            ("1815-12-10T23:59:59-08:00", Some("12/10")),
            ("1815-12-10 00:00", Some("12/10")),
            ("13/01", None),
            ("02/30", None),
            ("12/10/1815", None),
            ("1815-02-29", None),
            ("1815-12-10x", None),
            ("10 December", None),
            ("+2/9", None),
            ("\u{661}\u{662}/10", None),
        ] {
            assert_eq!(birthday(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_birthday_that_is_none_is_a_violation() {
        let fields = fields(&[("birthday", "BDAY"), ("born", "BIRTHDAY")]);
        let right = json!({"birthday": "1815-12-10", "born": "11/27"});
        assert_eq!(
            values(&fields, right),
            json!({"BDAY": "12/10", "BIRTHDAY": "11/27"})
        );
        let Value::Object(wrong) = json!({"birthday": "soon", "born": 1815}) else {
            panic!()
        };
        let paths: Vec<_> = fields
            .values(&wrong)
            .unwrap_err()
            .into_iter()
            .map(|v| (v.path, v.code))
            .collect();
        assert_eq!(
            paths,
            [
                ("identify.traits.birthday".to_owned(), Code::Format),
                ("identify.traits.born".to_owned(), Code::Format)
            ]
        );
    }
}
