//! From a locale to Mailchimp's code of a language.
//!
//! <https://mailchimp.com/help/view-and-edit-contact-languages/>

/// Mailchimp's codes of languages, without those that have a region.
const LANGUAGES: [&str; 48] = [
    "af", "ar", "be", "bg", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "ga",
    "he", "hi", "hr", "hu", "id", "is", "it", "ja", "km", "ko", "lt", "lv", "mk", "ms", "mt", "nl",
    "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "sw", "ta", "th", "tr", "uk", "vi", "zh",
];

/// Mailchimp's code for a locale such as `en-GB` or `pt_BR.UTF-8`; `None` if
/// Mailchimp does not have the language.
///
/// Only the French of Canada, the Portuguese of Portugal and the Spanish of
/// Spain have codes of their own.
pub(crate) fn code(locale: &str) -> Option<&'static str> {
    let locale = locale.split(['.', '@']).next()?;
    let mut parts = locale.trim().split(['-', '_']);
    let language = parts.next()?.to_ascii_lowercase();
    // A script may stand in between: `zh-Hant-TW`.
    let region = parts
        .find(|part| part.len() == 2)
        .unwrap_or_default()
        .to_ascii_uppercase();
    let language = match (language.as_str(), region.as_str()) {
        ("fr", "CA") => return Some("fr_CA"),
        ("pt", "PT") => return Some("pt_PT"),
        ("es", "ES") => return Some("es_ES"),
        ("nb" | "nn", _) => "no",
        // What older systems call Hebrew and Indonesian.
        ("iw", _) => "he",
        ("in", _) => "id",
        (language, _) => language,
    };
    LANGUAGES.into_iter().find(|code| *code == language)
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn locales_become_mailchimps_codes() {
        for (locale, expected) in [
            ("en", Some("en")),
            ("en-GB", Some("en")),
            ("EN_us", Some("en")),
            ("fr", Some("fr")),
            ("fr-BE", Some("fr")),
            ("fr-CA", Some("fr_CA")),
            ("fr_ca.UTF-8", Some("fr_CA")),
            ("pt-BR", Some("pt")),
            ("pt-PT", Some("pt_PT")),
            ("es-MX", Some("es")),
            ("es-419", Some("es")),
            ("es-ES", Some("es_ES")),
            ("zh-Hant-TW", Some("zh")),
            ("nb-NO", Some("no")),
            ("iw", Some("he")),
            ("de_DE@euro", Some("de")),
            ("eo", None),
            ("", None),
            ("C", None),
            ("-", None),
        ] {
            assert_eq!(code(locale), expected, "{locale}");
        }
    }
}
