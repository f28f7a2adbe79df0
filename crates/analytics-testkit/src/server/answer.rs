//! What a server says.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use serde_json::Value;

/// An HTTP answer: a status, headers, a body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The status code, such as 200.
    pub status: u16,
    /// Header names and values, in the order in which they are sent.
    pub headers: Vec<(String, String)>,
    /// The body, as it goes over the wire.
    pub body: Bytes,
}

impl Answer {
    /// A status without a body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// A JSON body, `application/json`.
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            body: Bytes::from(body.to_string()),
            ..Self::empty(status)
        }
        .header("content-type", "application/json")
    }

    /// A text body, `text/plain`.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            body: Bytes::from(body.into()),
            ..Self::empty(status)
        }
        .header("content-type", "text/plain; charset=utf-8")
    }

    /// The same answer with one more header; a header of that name is replaced.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
        self.headers.push((name, value.into()));
        self
    }

    /// The body as JSON; `Null` where it is none.
    pub fn body_json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// What hyper sends. A status or header that HTTP does not allow is the
    /// fault of the script, and is answered as one.
    pub(crate) fn into_response(self) -> Response<AnswerBody> {
        let body = AnswerBody::whole(self.body.clone());
        self.with_body(body)
    }

    /// As [`Answer::into_response`], but the connection ends half way through
    /// the body.
    pub(crate) fn into_truncated(self) -> Response<AnswerBody> {
        let promised = self.body.len().max(1);
        let body = AnswerBody {
            data: Some(self.body.slice(..promised / 2)),
            cut: Some(Cut::AfterFlush),
        };
        let mut response = self.with_body(body);
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(promised));
        response
    }

    fn with_body(self, body: AnswerBody) -> Response<AnswerBody> {
        match self.assemble(body) {
            Ok(response) => response,
            Err(problem) => {
                let text = Bytes::from(format!("bad script: {problem}"));
                let mut response = Response::new(AnswerBody::whole(text));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                response
            }
        }
    }

    fn assemble(self, body: AnswerBody) -> Result<Response<AnswerBody>, http::Error> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status)?;
        for (name, value) in self.headers {
            response.headers_mut().append(
                HeaderName::from_bytes(name.as_bytes())?,
                HeaderValue::from_str(&value)?,
            );
        }
        Ok(response)
    }
}

/// The body of an answer, which may end too early.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    data: Option<Bytes>,
    cut: Option<Cut>,
}

/// How far a body is from being cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// What is written has to reach the client first.
    AfterFlush,
    /// The connection is to end.
    Now,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the script cuts this answer")
    }
}

impl std::error::Error for Cut {}

impl AnswerBody {
    fn whole(data: Bytes) -> Self {
        Self {
            data: (!data.is_empty()).then_some(data),
            cut: None,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match self.cut {
            None => Poll::Ready(None),
            Some(Cut::AfterFlush) => {
                // hyper flushes when a body has nothing ready.
                self.cut = Some(Cut::Now);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Cut::Now) => Poll::Ready(Some(Err(Cut::Now))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.cut.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.cut.is_some() {
            return SizeHint::default();
        }
        let length = self.data.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_replaced_whatever_its_case() {
        let answer = Answer::text(200, "x").header("Content-Type", "text/html");
        assert_eq!(
            answer.headers,
            [("Content-Type".to_owned(), "text/html".to_owned())]
        );
    }

    #[test]
    fn a_script_that_http_forbids_is_answered_as_such() {
        let answer = Answer::empty(200).header("bad header", "x").into_response();
        assert_eq!(answer.status(), 500);
        assert_eq!(Answer::empty(42).into_response().status(), 500);
    }
}
