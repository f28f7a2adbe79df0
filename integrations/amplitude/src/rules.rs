//! What Amplitude would refuse, or take and lose: said before anything is sent.

use analytics_spec::{AnyEvent, AnyInput, Code, Event as _, Value, Violation};

use crate::{
    context::SESSION_ID,
    event::{RESERVED, viewed},
    ids::is_refused,
};

/// The longest text that Amplitude keeps whole.
///
/// <https://amplitude.com/docs/apis/analytics/http-v2#string-character-limit>
const MAX_CHARS: usize = 1024;

/// The most properties of one event, user or group, as Amplitude's own
/// libraries have it, and the documentation for groups.
///
/// - <https://github.com/amplitude/analytics-go/blob/main/amplitude/constants/constants.go>
/// - <https://amplitude.com/docs/apis/analytics/group-identify#considerations>
const MAX_PROPERTIES: usize = 1024;

/// The most layers of objects, the properties being the first.
///
/// <https://amplitude.com/docs/apis/analytics/http-v2#event-array-keys>
const MAX_LAYERS: usize = 40;

/// Everything that is wrong with an event.
pub(crate) fn check(input: &AnyInput, min_id_chars: usize) -> Vec<Violation> {
    let mut violations = Vec::new();
    let event = &input.event;
    // A delete keeps nothing: whether Amplitude knows the id is its answer.
    if matches!(event, AnyEvent::Delete(_)) {
        return violations;
    }
    ids(event, min_id_chars, &mut violations);
    // An alias sends its ids alone.
    if matches!(event, AnyEvent::Alias(_)) {
        return violations;
    }
    name(event, &mut violations);
    properties(event, &mut violations);
    if let Some(session) = input.context.extra.get(SESSION_ID)
        && session.as_i64().is_none()
    {
        violations.push(Violation::new(
            format!("context.{SESSION_ID}"),
            Code::Type,
            "is when the session began: a whole number of milliseconds",
        ));
    }
    violations
}

fn ids(event: &AnyEvent, min_chars: usize, violations: &mut Vec<Violation>) {
    let kind = event.kind();
    if let AnyEvent::Identify(identify) = event
        && identify.user_id.is_none()
        && identify.anonymous_id.is_none()
    {
        violations.push(Violation::new(
            "identify.user_id",
            Code::Required,
            "Amplitude needs user_id or anonymous_id",
        ));
    }
    let previous = match event {
        AnyEvent::Alias(alias) => Some(alias.previous_user_id.as_str()),
        _ => None,
    };
    for (field, id) in [
        ("user_id", event.user_id()),
        ("anonymous_id", event.anonymous_id()),
        ("previous_user_id", previous),
    ] {
        let Some(id) = id else { continue };
        let mut is_wrong = |code, message| {
            violations.push(Violation::new(format!("{kind}.{field}"), code, message));
        };
        let chars = id.chars().count();
        if is_refused(id) {
            is_wrong(
                Code::Reserved,
                format!("is {id:?}, which Amplitude refuses: it stands for nobody"),
            );
        } else if chars < min_chars {
            is_wrong(
                Code::OutOfRange,
                format!(
                    "has {chars} characters; Amplitude takes no ids of fewer than {min_chars} \
                     here: `min_id_length` sets another number"
                ),
            );
        }
    }
}

fn name(event: &AnyEvent, violations: &mut Vec<Violation>) {
    let (path, name) = match event {
        AnyEvent::Track(track) => ("track.event", track.event.clone()),
        AnyEvent::Page(page) => ("page.name", viewed(&page.name)),
        AnyEvent::Screen(screen) => ("screen.name", viewed(&screen.name)),
        _ => return,
    };
    let chars = name.chars().count();
    if RESERVED.contains(&name.as_str()) {
        violations.push(Violation::new(
            path,
            Code::Reserved,
            format!("is {name:?}, which Amplitude keeps for itself"),
        ));
    } else if chars > MAX_CHARS {
        violations.push(Violation::new(
            path,
            Code::TooLong,
            format!("is an event's name of {chars} characters; Amplitude takes {MAX_CHARS}"),
        ));
    }
}

fn properties(event: &AnyEvent, violations: &mut Vec<Violation>) {
    let kind = event.kind();
    // Traits stand within `$set`.
    for (field, map, layers) in [
        ("traits", event.traits(), MAX_LAYERS - 2),
        ("properties", event.properties(), MAX_LAYERS - 1),
    ] {
        let Some(map) = map else { continue };
        if map.len() > MAX_PROPERTIES {
            violations.push(Violation::new(
                format!("{kind}.{field}"),
                Code::TooLarge,
                format!("are {}; Amplitude takes {MAX_PROPERTIES}", map.len()),
            ));
        }
        for (key, value) in map {
            if !fits(layers, value) {
                violations.push(Violation::new(
                    format!("{kind}.{field}.{key}"),
                    Code::TooLarge,
                    format!("has objects in more than {MAX_LAYERS} layers"),
                ));
            }
        }
    }
}

/// Whether a value has at most so many layers.
fn fits(layers: usize, value: &Value) -> bool {
    let inner = layers.checked_sub(1);
    let fits_inside = |value| inner.is_some_and(|layers| fits(layers, value));
    match value {
        Value::Array(values) => inner.is_some() && values.iter().all(fits_inside),
        Value::Object(map) => inner.is_some() && map.values().all(fits_inside),
        _ => true,
    }
}
