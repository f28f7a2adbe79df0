//! What PostHog's answers mean.

use analytics_http::{
    Reading, Refusal, classify,
    classify::{message, said},
};
use analytics_spec::{ErrorKind, HttpResponse, Value};

/// The answer of `/batch/`: `{"status": "Ok"}`, or 1 for `Ok` from older
/// instances.
///
/// - Events are checked together, and refused together, with 400:
///   <https://posthog.com/docs/data/ingestion-warnings#validation-warnings>
/// - What is over a quota is lost behind a 200 that names the quota.
pub(crate) fn captured(response: &HttpResponse) -> Reading {
    let verdict = match response.status_code {
        // One event may be the reason for what is said of all.
        400 => Err(Refusal::permanent(ErrorKind::RequestRejected, message(response)).split()),
        200..=299 => match (quotas(response), is_ok(response)) {
            (Some(quotas), _) => Err(Refusal::transient(
                ErrorKind::RateLimited,
                format!("PostHog lost what is over the project's quota: {quotas}"),
            )),
            (None, true) => Ok(()),
            (None, false) => Err(somebody_elses(response)),
        },
        _ => classify(response),
    };
    Reading::All(verdict)
}

fn is_ok(response: &HttpResponse) -> bool {
    match response.field("status") {
        Some(Value::String(status)) => status.eq_ignore_ascii_case("ok"),
        Some(status) => status.as_u64() == Some(1),
        None => false,
    }
}

/// The quotas that are used up.
fn quotas(response: &HttpResponse) -> Option<String> {
    let quotas = response.field("quota_limited")?.as_array()?;
    let names: Vec<_> = quotas.iter().filter_map(Value::as_str).collect();
    (!quotas.is_empty()).then(|| names.join(", "))
}

/// The answer to a deletion: how many persons there were, and whom PostHog
/// could not delete. Older instances answer 202 without a body.
///
/// <https://posthog.com/docs/api/persons>
pub(crate) fn deleted(response: &HttpResponse) -> Reading {
    let verdict = match response.status_code {
        400 => classify(response).map_err(Refusal::split),
        202 if response.body.is_none() => Ok(()),
        200..=299 => match response.field("persons_found").and_then(Value::as_u64) {
            Some(_) if has_errors(response) => Err(Refusal::transient(
                ErrorKind::Unavailable,
                "PostHog could not delete every person",
            )
            .split()),
            Some(_) => Ok(()),
            None => Err(somebody_elses(response)),
        },
        _ => classify(response),
    };
    Reading::All(verdict)
}

fn has_errors(response: &HttpResponse) -> bool {
    let errors = response.field("deletion_errors").and_then(Value::as_array);
    errors.is_some_and(|errors| !errors.is_empty())
}

/// A 2xx of something else on the way: what it took did not reach PostHog.
fn somebody_elses(response: &HttpResponse) -> Refusal {
    let said = said(response).unwrap_or_else(|| "nothing".to_owned());
    Refusal::transient(
        ErrorKind::Unavailable,
        format!("this is not PostHog's answer: {said}"),
    )
}
