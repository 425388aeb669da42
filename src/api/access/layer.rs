//! The judge in front of every service, health and reflection included.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use super::Access;
use super::certificate::Peer;
use crate::api::status::ApiError;

/// Puts [`Judged`] around the services.
#[derive(Clone)]
pub struct AccessLayer(pub Arc<Access>);

impl<S> Layer<S> for AccessLayer {
    type Service = Judged<S>;

    fn layer(&self, inner: S) -> Judged<S> {
        Judged { inner, access: self.0.clone() }
    }
}

/// The services behind the judge. Whose call goes on finds its `Caller` in the request's extensions.
#[derive(Clone)]
pub struct Judged<S> {
    inner: S,
    access: Arc<Access>,
}

impl<S, In> Service<Request<In>> for Judged<S>
where
    S: Service<Request<In>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        let path = request.uri().path().to_owned();
        let (caller, held) = match self.access.admit(&path, peer.as_ref(), request.headers()) {
            Ok(admitted) => admitted,
            Err(refused) => return Box::pin(async move { Ok(refused.response()) }),
        };
        // What nobody is asked for is not judged again.
        let open = caller.is_none();
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        let (access, headers) = (self.access.clone(), request.headers().clone());
        let called = self.inner.call(request);
        Box::pin(async move {
            let response = called.await?;
            if open {
                return Ok(response);
            }
            let over = Box::pin(held.over.clone().cancelled_owned());
            let call = Call { access, path, peer, headers };
            Ok(response.map(|body| Body::new(Watched { body, call, over, refused: false })))
        })
    }
}

/// What a call is judged by.
struct Call {
    access: Arc<Access>,
    path: String,
    peer: Option<Peer>,
    headers: HeaderMap,
}

/// An answer that ends where its caller is refused meanwhile: a stream may be open for days.
struct Watched {
    body: Body,
    call: Call,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    refused: bool,
}

impl Watched {
    /// Judges the call again where the admission was exchanged.
    fn judge(&mut self, context: &mut Context<'_>) -> Result<(), ApiError> {
        while self.over.as_mut().poll(context).is_ready() {
            let Call { access, path, peer, headers } = &self.call;
            let (_, held) = access.admit(path, peer.as_ref(), headers)?;
            self.over = Box::pin(held.over.clone().cancelled_owned());
        }
        Ok(())
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.refused {
            return Poll::Ready(None);
        }
        if let Err(refused) = self.judge(context) {
            self.refused = true;
            // What the handler still had to say is dropped, and its stream ends with it.
            self.body = Body::empty();
            return Poll::Ready(Some(Ok(Frame::trailers(refused.trailers()))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.refused || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
