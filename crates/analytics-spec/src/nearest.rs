/// The candidate that `name` was most likely meant to be, if one is near.
///
/// Case and separators do not count (`userId` is `user_id`); beyond that, up
/// to a third of the letters may be wrong.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = plain(name);
    let letters = wanted.chars().count();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let plain = plain(candidate);
            let most = candidate.chars().count().max(3) / 3;
            // The comparison takes memory by the product of both lengths, and
            // the name may be anybody's.
            if letters.abs_diff(plain.chars().count()) > most {
                return None;
            }
            let distance = strsim::damerau_levenshtein(&wanted, &plain);
            (distance <= most).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_other_spellings_and_typing_errors_only() {
        let known = ["user_id", "anonymous_id", "event", "properties"];
        assert_eq!(nearest("userId", known), Some("user_id"));
        assert_eq!(nearest("propertes", known), Some("properties"));
        assert_eq!(nearest("evnet", known), Some("event"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn does_not_compare_what_cannot_be_near() {
        // Compared, this would take minutes.
        let name = "x".repeat(1_000_000);
        assert_eq!(nearest(&name, ["anonymous_id"; 1_000]), None);
    }
}
