//! What every call passes around its handler: the longest that it may take, and a reason for what the transport refuses
//! by itself, such as a message that is too large.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::status::{ApiError, Problem, refusal_in};

/// Puts [`Transport`] around the services.
#[derive(Clone, Copy, Debug)]
pub struct TransportLayer {
    /// The longest that a call may take until its answer begins. A stream's begins at once.
    pub longest: Duration,
}

impl<S> Layer<S> for TransportLayer {
    type Service = Transport<S>;

    fn layer(&self, inner: S) -> Transport<S> {
        Transport { inner, longest: self.longest }
    }
}

/// The services, with a deadline and with reasons.
#[derive(Clone, Debug)]
pub struct Transport<S> {
    inner: S,
    longest: Duration,
}

impl<S, In, Out> Service<Request<In>> for Transport<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    S::Future: Send + 'static,
    Out: Default,
{
    type Response = Response<Out>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Out>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let (longest, called) = (self.longest, self.inner.call(request));
        Box::pin(async move {
            let Ok(answered) = tokio::time::timeout(longest, called).await else {
                return Ok(ApiError::TimedOut { longest }.response());
            };
            let response = answered?;
            let reasoned = refusal_in(response.headers()).and_then(|status| with_reason(&status));
            Ok(reasoned.map_or(response, ApiError::response))
        })
    }
}

/// What a status without a reason says: one that no handler has made. `None` leaves it as it is.
fn with_reason(status: &Status) -> Option<ApiError> {
    if !status.details().is_empty() {
        return None;
    }
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            Some(ApiError::invalid("", "MESSAGE_TOO_LARGE", status.message()))
        }
        Code::Internal => Some(ApiError::invalid("", "MESSAGE_MALFORMED", status.message())),
        Code::Unimplemented => {
            let message = "there is no such call here; reflection lists those that are served";
            Some(ApiError::Unimplemented(Problem::new("UNKNOWN_CALL", message)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tonic_types::StatusExt;

    use super::*;

    async fn through(
        answer: impl Future<Output = Response<String>> + Send + 'static,
    ) -> Result<Response<String>, Status> {
        let answer = std::sync::Mutex::new(Some(answer));
        let inner = tower::service_fn(move |_: Request<()>| {
            let answer = answer.lock().unwrap().take().unwrap();
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut service = TransportLayer { longest: Duration::from_millis(1_500) }.layer(inner);
        let response = service.call(Request::new(())).await.unwrap();
        refusal_in(response.headers()).map_or(Ok(response), Err)
    }

    fn shown(status: &Status) -> (Code, String) {
        let details = status.get_error_details();
        (status.code(), details.error_info().map(|info| info.reason.clone()).unwrap_or_default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_ends_with_its_outcome_unknown() {
        let late = through(std::future::pending()).await.unwrap_err();
        assert_eq!(shown(&late), (Code::DeadlineExceeded, "TIMED_OUT".to_owned()));
        assert!(late.message().contains("1500 ms"), "{late:?}");
        let answered = through(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Response::new("an answer".to_owned())
        });
        assert_eq!(answered.await.unwrap().body(), "an answer");
    }

    #[tokio::test]
    async fn what_the_transport_refuses_has_a_reason_and_what_we_refuse_keeps_its_own() {
        let ours = Status::from(ApiError::Internal);
        for (status, code, reason) in [
            (Status::out_of_range("too large"), Code::InvalidArgument, "MESSAGE_TOO_LARGE"),
            (Status::internal("failed to decode"), Code::InvalidArgument, "MESSAGE_MALFORMED"),
            (Status::unimplemented(""), Code::Unimplemented, "UNKNOWN_CALL"),
            (Status::not_found("a service that health does not know"), Code::NotFound, ""),
            (ours, Code::Internal, "INTERNAL"),
        ] {
            let refused = through(async move { status.into_http() }).await.unwrap_err();
            assert_eq!(shown(&refused), (code, reason.to_owned()));
        }
    }
}
