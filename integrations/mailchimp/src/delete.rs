//! <https://mailchimp.com/developer/marketing/api/list-members/archive-list-member/>
//! and <https://mailchimp.com/developer/marketing/api/list-members/delete-list-member/>

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, ValidationError};

use crate::{
    RegulationType,
    member::Member,
    vendor::{Action, Route},
};

pub(crate) fn step(
    input: &AnyInput,
    regulation_type: RegulationType,
) -> Result<Step<Route>, Error> {
    let member = Member::of(&input.event).map_err(ValidationError::from)?;
    let action = match regulation_type {
        RegulationType::Archive => Action::Archive,
        RegulationType::Delete => Action::Erase,
    };
    Ok(Step::new(Route::new(action, member.hash), ""))
}

#[cfg(test)]
mod tests {
    use analytics_spec::{Delete, Value};

    use super::*;
    use crate::testing::{ADA, ADA_URL, paths, sent, vendor};

    #[test]
    fn a_member_is_archived() {
        let event = Delete::new("u1").trait_("email", ADA);
        let sent = sent(&vendor(|c| c.skip_merge_validation(true)), event);
        assert_eq!(
            (sent.method.as_str(), sent.url.as_str()),
            ("DELETE", ADA_URL)
        );
        assert_eq!((sent.content_type, sent.body), (None, Value::Null));
    }

    #[test]
    fn a_member_is_erased() {
        let vendor = vendor(|c| c.regulation_type(RegulationType::Delete));
        let sent = sent(&vendor, Delete::new(ADA));
        assert_eq!(sent.method, "POST");
        assert_eq!(sent.url, format!("{ADA_URL}/actions/delete-permanent"));
        assert_eq!((sent.content_type, sent.body), (None, Value::Null));
    }

    #[test]
    fn nobody_is_guessed() {
        assert_eq!(
            paths(&vendor(|c| c), Delete::new("u1")),
            ["delete.traits.email"]
        );
    }
}
