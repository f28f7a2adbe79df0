//! What Acme Inc's answers mean.

use analytics_http::{Reading, Refusal, Verdict, classify, classify::message};
use analytics_spec::{ErrorKind, HttpResponse, Value};

// FILL IN: the documentation page of the answers, and statuses that Acme Inc uses
// otherwise than `classify`. Where an answer names single events of a request,
// this is `Reading::Each`. Where a 400 or 422 is about the request and never about
// one event, such as a path or a version, make it `.whole()`: else it is sent again
// in halves.
pub(crate) fn read(response: &HttpResponse) -> Reading {
    Reading::All(classify(response).and_then(|()| taken(response)))
}

/// A 2xx is not success until its body says so.
// FILL IN: the words of a 2xx of Acme Inc, here `{"ok": true}`. What lacks them is
// of something else on the way, and sent again. Where Acme Inc says nothing in a
// 2xx, take this away, and say `says_nothing(|_| true)` in the test.
fn taken(response: &HttpResponse) -> Verdict {
    match response.field("ok") {
        Some(Value::Bool(true)) => Ok(()),
        // Of several events, one may be the reason: it is looked for in halves, and
        // the others arrive.
        Some(_) => {
            Err(Refusal::permanent(ErrorKind::RequestRejected, message(response)).split())
        }
        None => Err(Refusal::foreign("Acme Inc", response)),
    }
}
