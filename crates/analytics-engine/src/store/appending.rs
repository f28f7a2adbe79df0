//! An append under way.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use analytics_spec::Error;
use futures::future::BoxFuture;

use super::Seq;

/// An append under way: the place of the first event.
///
/// A store in memory is done at once, and should cost no more than that.
#[must_use = "an append that is not awaited may not happen"]
pub enum Appending<'a> {
    /// It is done already.
    Done(Option<Result<Seq, Error>>),
    /// It waits for room, or for the disk.
    Waiting(BoxFuture<'a, Result<Seq, Error>>),
}

impl<'a> Appending<'a> {
    /// An append that is done.
    pub fn done(result: Result<Seq, Error>) -> Self {
        Self::Done(Some(result))
    }

    /// An append that takes time.
    pub fn waiting(appended: impl Future<Output = Result<Seq, Error>> + Send + 'a) -> Self {
        Self::Waiting(Box::pin(appended))
    }
}

/// Asked again when it is done, it never is again.
impl Future for Appending<'_> {
    type Output = Result<Seq, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Done(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            Self::Waiting(appended) => appended.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Appending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_done = matches!(self, Self::Done(_));
        f.debug_struct("Appending")
            .field("is_done", &is_done)
            .finish_non_exhaustive()
    }
}
