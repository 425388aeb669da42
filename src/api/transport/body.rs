//! Bodies that are counted: what comes in while a request is not answered, and what goes out and waits for its reader.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::guard::{Guard, Line, Place};

/// A request's body, whose bytes count until the request is answered.
pub(super) struct Received {
    pub(super) inner: Body,
    pub(super) place: Arc<Place>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        Poll::Ready(match self.place.receive(bytes) {
            Ok(()) => frame,
            Err(error) => Some(Err(error.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body. The call is in flight until it is gone, and a piece of it that nobody reads is told to the guard.
pub(super) struct Answer {
    inner: Body,
    place: Arc<Place>,
    guard: Arc<Guard>,
    line: Option<Line>,
    handed: Option<u64>,
}

impl Answer {
    pub(super) fn new(inner: Body, place: Arc<Place>, guard: Arc<Guard>, line: Option<Line>) -> Self {
        Self { inner, place, guard, line, handed: None }
    }

    fn taken(&mut self) {
        if let Some(number) = self.handed.take() {
            self.guard.taken(number);
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.taken();
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(line) = &self.line
            && frame.as_ref().is_some_and(|frame| frame.as_ref().is_ok_and(Frame::is_data))
        {
            self.handed = Some(self.guard.handed(line.clone()));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.taken();
        self.place.answered();
    }
}
