//! What a server's refusal comes to, and why it cannot be asked.

use std::error::Error as _;

use analytics_spec::ErrorKind;
use temporalio_client::tonic::{Code, Status};

/// What a server's refusal comes to.
pub(crate) fn status_kind(status: &Status) -> ErrorKind {
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => ErrorKind::Unauthorized,
        Code::NotFound | Code::Unimplemented => ErrorKind::Configuration,
        // What this one request asks for, whatever is configured.
        Code::InvalidArgument => ErrorKind::RequestRejected,
        _ => ErrorKind::Unavailable,
    }
}

/// A refusal in the server's words, or what is wrong with the way to it.
pub(crate) fn said(status: &Status) -> String {
    match (status.source(), status.message()) {
        (Some(source), _) => root_cause(source),
        (None, "") => format!("{:?}", status.code()),
        (None, message) => message.to_owned(),
    }
}

/// What is at the bottom of an error: the layers above only say that there is
/// something below.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
