//! What the suite was told is whole, and all of it takes effect.

use analytics_spec::{Kind, Value};

use super::{Base, answers, people};
use crate::conformance::{report::Check, trial::Run};

/// Shorter credentials are found where they do not stand.
const MIN_SECRET_CHARS: usize = 8;

pub(crate) fn whole(run: &Run<'_>) {
    match &run.suite.secrets {
        None => run.fail(
            Check::Setup,
            None,
            "the configurations' credentials, named with `secrets`",
            "none named; say `secrets` with an empty list if there are none",
        ),
        Some(_) => {
            let short = run
                .suite
                .credentials()
                .filter(|s| s.chars().count() < MIN_SECRET_CHARS);
            for _ in short {
                run.fail(
                    Check::Setup,
                    None,
                    format!("credentials of at least {MIN_SECRET_CHARS} characters"),
                    "a shorter one",
                );
            }
        }
    }
    let given = |is_given: bool, expected: &str, seen: &str| {
        run.expect(is_given, Check::Setup, None, expected, || {
            format!("nothing; {seen}")
        });
    };
    given(
        run.suite.accepts_whatever || !run.suite.invalid.is_empty(),
        "what the vendor's own rules refuse, given with `invalid`",
        "say `accepts_whatever()` if the vendor takes whatever is an event",
    );
    contradictions(run);
    let mut names: Vec<_> = run.suite.configurations.iter().map(|c| &c.name).collect();
    names.sort();
    for pair in names.windows(2).filter(|pair| pair.first() == pair.last()) {
        run.fail(
            Check::Setup,
            None,
            "another name for each configuration",
            format!("{pair:?}"),
        );
    }
    if !run.suite.wired {
        return;
    }
    given(
        run.suite.answers.is_some() || run.suite.says_nothing.is_some(),
        "what the vendor answers when it accepts, given with `answers`",
        "say `says_nothing(|_| true)` if its status alone says that it has taken a request",
    );
    given(
        run.suite.refusal.is_some() || run.suite.refuses_by_status,
        "what a 2xx that says failure looks like, given with `refusal`",
        "say `refuses_by_status()` if the vendor has no such answer",
    );
    given(
        run.suite.refuses_item.is_some() || run.suite.takes_all_or_nothing,
        "what the vendor answers when it refuses one event of a request and takes the others, \
         given with `refuses_item`",
        "say `takes_all_or_nothing()` if it takes or refuses a request as a whole",
    );
    given(
        run.suite.refuses_item.is_none()
            || run.suite.delays_item.is_some()
            || run.suite.delays_no_item,
        "what the vendor answers when it leaves one event of a request to be sent again and \
         takes the others, given with `delays_item`",
        "say `delays_no_item()` if the vendor has no such answer",
    );
}

/// The vendor's answer has something by which the reading knows it.
pub(crate) fn words(run: &Run<'_>, bases: &[Base]) {
    if run.suite.answers.is_none() {
        return;
    }
    for base in bases {
        for sent in &base.sent {
            let answer = run.suite.answering()(&sent.request);
            let is_blank = match answer.body_json() {
                Value::Object(fields) => fields.is_empty(),
                _ => answer.body.is_empty(),
            };
            run.expect(
                !is_blank || run.suite.says_nothing_to(&sent.request),
                Check::Setup,
                base.kind,
                format!("the vendor's own words from `answers`, for {}", sent.line()),
                || {
                    "an answer that says nothing; declare that with `says_nothing` if the vendor \
                     has no other"
                        .to_owned()
                },
            );
        }
    }
}

/// What is said in one way is not said in the other.
fn contradictions(run: &Run<'_>) {
    let suite = run.suite;
    let delays = suite.delays_item.is_some() || suite.delays_no_item;
    for (both, one, other) in [
        (
            suite.accepts_whatever && !suite.invalid.is_empty(),
            "accepts_whatever",
            "invalid",
        ),
        (
            suite.refuses_by_status && suite.refusal.is_some(),
            "refuses_by_status",
            "refusal",
        ),
        (
            suite.takes_all_or_nothing && suite.refuses_item.is_some(),
            "takes_all_or_nothing",
            "refuses_item",
        ),
        (
            suite.takes_all_or_nothing && delays,
            "takes_all_or_nothing",
            "delays_item",
        ),
        (
            suite.delays_no_item && suite.delays_item.is_some(),
            "delays_no_item",
            "delays_item",
        ),
    ] {
        run.expect(
            !both,
            Check::Setup,
            None,
            format!("either `{one}` or `{other}`"),
            || "both".to_owned(),
        );
    }
}

/// What was said of the vendor is true of something: else a check is not made, or
/// made less strict, and nobody knows.
pub(crate) async fn takes_effect(run: &Run<'_>, bases: &[Base]) {
    let suite = run.suite;
    let needless = |takes_effect: bool, expected: &str, seen: &str| {
        run.expect(takes_effect, Check::Setup, None, expected, || {
            seen.to_owned()
        });
    };
    for kind in suite.fixtures.keys() {
        run.expect(
            suite.kinds().contains(*kind),
            Check::Setup,
            *kind,
            "`fixture` has events of kinds that some configuration delivers",
            || "none delivers this kind".to_owned(),
        );
    }
    let of = |kind| bases.iter().find(move |base| base.kind == kind);
    let requests = || bases.iter().flat_map(|base| &base.sent);
    if let Some(refusal) = &suite.refusal {
        needless(
            requests().any(|sent| refusal(&sent.request).is_some()),
            "`refusal` answers some request",
            "`None` for all of them: say `refuses_by_status()` if the vendor has no such answer",
        );
    }
    if let Some(to) = &suite.says_nothing {
        needless(
            requests().any(|sent| to(&sent.request)),
            "`says_nothing` is true of some request",
            "of none: take it away",
        );
    }
    if let Some(gone) = &suite.already_gone {
        let mut deletes = of(Kind::Delete).into_iter().flat_map(|base| &base.sent);
        needless(
            deletes.any(|sent| gone(&sent.request).is_some()),
            "`already_gone` answers some request of a delete",
            "`None` for all of them, or no delete: take it away",
        );
    }
    if suite.retries.is_some() {
        needless(
            requests().any(|sent| answers::retried(run, sent).next().is_some()),
            "`retries` names some status of 4xx, besides 401, 403, 408, 413 and 429",
            "none of any request: take it away",
        );
    }
    if suite.delete_has_traits {
        needless(
            of(Kind::Delete).is_some_and(|base| !people::traits_told(base).is_empty()),
            "a delete with its traits, as `delete_has_traits` says",
            "one without, or none: take it away",
        );
    }
    if suite.screens_are_pages {
        needless(
            of(Kind::Page).is_some() && of(Kind::Screen).is_some(),
            "a screen that is sent as a page, as `screens_are_pages` says",
            "not both of them: take it away",
        );
    }
    if suite.cuts_names {
        needless(
            people::some_name_is_cut(run, bases).await,
            "some name that is cut, as `cuts_names` says",
            "none: take it away",
        );
    }
}
