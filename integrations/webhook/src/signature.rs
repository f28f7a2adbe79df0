//! Signatures by which an endpoint knows who sends, and that nothing changed.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme>

use std::fmt;

use analytics_spec::{Error, Secret};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// By what a symmetric secret is recognised.
const PREFIX: &str = "whsec_";

/// How many bytes a secret has.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The keys that requests are signed with, all of them each time: while a
/// secret is replaced, the endpoint may know either.
pub(crate) struct Keys(Vec<Hmac<Sha256>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// The keys of secrets: `whsec_` and 24 to 64 bytes in base64.
    pub(crate) fn read(secrets: &[Secret]) -> Result<Self, Error> {
        let keys = secrets.iter().map(|secret| {
            let wrong = |what: &str| Error::configuration(format!("`secret` {what}"));
            let Some(base64) = bare(secret) else {
                return Err(wrong(
                    "must begin with `whsec_`, followed by random bytes in base64: \
                     `echo whsec_$(openssl rand -base64 32)` makes one",
                ));
            };
            let Ok(key) = BASE64_STANDARD.decode(base64) else {
                return Err(wrong("is not base64 after `whsec_`"));
            };
            if !KEY_BYTES.contains(&key.len()) {
                let (least, most) = (KEY_BYTES.start(), KEY_BYTES.end());
                let has = key.len();
                return Err(wrong(&format!(
                    "has {has} bytes in base64; {least} to {most} are allowed"
                )));
            }
            Hmac::new_from_slice(&key).map_err(|_| wrong("cannot sign"))
        });
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// Whether nothing is signed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The signature with each key, with spaces between them; `None` without
    /// keys.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
        let signatures: Vec<_> = self
            .0
            .iter()
            .map(|key| {
                let mut mac = key.clone();
                mac.update(format!("{id}.{timestamp}.").as_bytes());
                mac.update(body);
                let code = mac.finalize().into_bytes();
                format!("v1,{}", BASE64_STANDARD.encode(code))
            })
            .collect();
        (!signatures.is_empty()).then(|| signatures.join(" "))
    }
}

/// A secret without what it is recognised by.
pub(crate) fn bare(secret: &Secret) -> Option<&str> {
    secret.expose().trim().strip_prefix(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn keys(secrets: &[&str]) -> Result<Keys, Error> {
        let secrets: Vec<_> = secrets.iter().map(|s| Secret::new(*s)).collect();
        Keys::read(&secrets)
    }

    /// The one by which the specification's own libraries are tested.
    #[test]
    fn a_known_signature() {
        let sign = |keys: Keys| {
            keys.sign(
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                br#"{"email":"test@example.com","username":"test_user"}"#,
            )
        };
        const SIGNATURE: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        assert_eq!(sign(keys(&[SECRET]).unwrap()).unwrap(), SIGNATURE);
        let other = format!("whsec_{}", BASE64_STANDARD.encode([7; 32]));
        let both = sign(keys(&[&other, SECRET]).unwrap()).unwrap();
        let (first, second) = both.split_once(' ').unwrap();
        assert!(first.starts_with("v1,") && first != SIGNATURE);
        assert_eq!(second, SIGNATURE);
        assert_eq!(sign(keys(&[]).unwrap()), None);
    }

    #[test]
    fn what_is_no_secret_is_not_repeated() {
        let of = |bytes: usize| format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
        for (wrong, why) in [
            ("", "whsec_"),
            ("hunter2hunter2hunter2hunter2hunter2", "whsec_"),
            ("whsk_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_"),
            ("whsec_hunter2 hunter2", "base64"),
            (&of(23), "23 bytes"),
            (&of(65), "65 bytes"),
        ] {
            let error = keys(&[wrong]).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(keys(&[&of(24), &of(64), &format!(" {SECRET}\n")]).is_ok());
        assert_eq!(format!("{:?}", keys(&[SECRET]).unwrap()), "Keys(1)");
    }
}
