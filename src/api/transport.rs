//! What every call passes around its handler: the longest that it may take, how much may be in flight at once, and a reason
//! for what the transport refuses by itself, such as a message that is too large.

mod body;
mod guard;
mod turns;

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use self::body::{Answer, Received};
pub use self::guard::{Guard, InFlight, Limit, Line, TransportMetrics};
pub(crate) use self::guard::{Place, Work};
pub use self::turns::AtOnce;
pub(crate) use self::turns::Turn;
use super::status::{ApiError, Problem, refusal_in};

/// The call that is always taken, so that whoever watches the service sees that it lives however busy it is.
const ALWAYS: &str = "/grpc.health.v1.Health/Check";

/// Puts [`Transport`] around the services.
#[derive(Clone, Debug)]
pub struct TransportLayer {
    /// What counts the calls.
    pub guard: Arc<Guard>,
}

impl<S> Layer<S> for TransportLayer {
    type Service = Transport<S>;

    fn layer(&self, inner: S) -> Transport<S> {
        Transport { inner, guard: self.guard.clone() }
    }
}

/// The services, with a deadline, with limits and with reasons.
#[derive(Clone, Debug)]
pub struct Transport<S> {
    inner: S,
    guard: Arc<Guard>,
}

impl<S> Service<Request<Body>> for Transport<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let guard = self.guard.clone();
        let always = request.uri().path() == ALWAYS;
        let line = request.extensions().get::<Line>().cloned();
        let number = line.as_ref().map_or(0, |line| line.number);
        let place = match if always { Ok(guard.place(None, number)) } else { guard.admit(number) } {
            Ok(place) => place,
            Err(refused) => return Box::pin(std::future::ready(Ok(refused.response()))),
        };
        let mut request = request.map(|inner| Body::new(Received { inner, place: place.clone() }));
        // The judge says by whom it is.
        request.extensions_mut().insert(place.clone());
        let called = self.inner.call(request);
        Box::pin(async move {
            let longest = guard.limits.longest;
            let Ok(answered) = tokio::time::timeout(longest, place.clone().run(called)).await else {
                guard.metrics.refuse("request_timeout_ms");
                return Ok(ApiError::TimedOut { longest }.response());
            };
            place.answered();
            let response = answered?;
            let reasoned = refusal_in(response.headers()).and_then(|status| with_reason(&status));
            if reasoned.as_ref().is_some_and(|error| error.reason() == "MESSAGE_TOO_LARGE") {
                guard.metrics.refuse("max_message_bytes");
            }
            let response = reasoned.map_or(response, ApiError::response);
            Ok(response.map(|inner| Body::new(Answer::new(inner, place, guard, line))))
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
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use tokio_util::sync::CancellationToken;
    use tonic_types::StatusExt;

    use super::*;
    use crate::domain::ids::Principal;

    const ONE: AtOnce = AtOnce { most: 1, beside_others: 1 };

    const LIMITS: InFlight = InFlight {
        longest: Duration::from_millis(1_500),
        calls: 2,
        calls_per_principal: 1,
        reads: ONE,
        changes: ONE,
        batches: ONE,
        receiving_bytes: 100,
        unread: Duration::from_secs(60),
    };

    fn guard() -> Arc<Guard> {
        Guard::new(LIMITS, TransportMetrics::default())
    }

    fn refusals(guard: &Guard, limit: &'static str) -> u64 {
        guard.metrics.refused.get_or_create(&Limit { limit }).get()
    }

    fn body(bytes: usize) -> Body {
        Body::new(Full::new(Bytes::from(vec![b'x'; bytes])))
    }

    async fn through<F: Future<Output = Response<Body>> + Send + 'static>(
        guard: &Arc<Guard>,
        request: Request<Body>,
        handler: impl Fn(Request<Body>) -> F,
    ) -> Result<Response<Body>, Status> {
        let inner = tower::service_fn(move |request| {
            let answer = handler(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let response = TransportLayer { guard: guard.clone() }.layer(inner).call(request).await.unwrap();
        refusal_in(response.headers()).map_or(Ok(response), Err)
    }

    async fn answered(guard: &Arc<Guard>) -> Result<Response<Body>, Status> {
        through(guard, Request::new(Body::empty()), |_| async { Response::new(body(9)) }).await
    }

    fn shown(status: &Status) -> (Code, String) {
        let details = status.get_error_details();
        (status.code(), details.error_info().map(|info| info.reason.clone()).unwrap_or_default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_ends_with_its_outcome_unknown() {
        let guard = guard();
        let late = through(&guard, Request::default(), |_| std::future::pending()).await.unwrap_err();
        assert_eq!(shown(&late), (Code::DeadlineExceeded, "TIMED_OUT".to_owned()));
        assert!(late.message().contains("1500 ms"), "{late:?}");
        assert_eq!(refusals(&guard, "request_timeout_ms"), 1);
        let answered = through(&guard, Request::default(), |_| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Response::new(body(9))
        });
        let answer = answered.await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(answer.to_bytes().len(), 9);
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
            let guard = guard();
            let refused = through(&guard, Request::default(), move |_| {
                let answer = status.clone().into_http();
                async { answer }
            });
            assert_eq!(shown(&refused.await.unwrap_err()), (code, reason.to_owned()));
        }
    }

    #[tokio::test]
    async fn a_call_past_the_limit_is_refused_until_an_answer_has_been_read_or_work_has_ended() {
        let guard = guard();
        let (first, second) = (answered(&guard).await.unwrap(), answered(&guard).await.unwrap());
        let refused = answered(&guard).await.unwrap_err();
        assert_eq!(shown(&refused), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
        assert!(refused.get_error_details().retry_info().is_some());
        assert_eq!((refusals(&guard, "max_calls_in_flight"), guard.metrics.calls.get()), (1, 2));
        let health = Request::builder().uri(ALWAYS).body(Body::empty()).unwrap();
        through(&guard, health, |_| async { Response::new(Body::empty()) }).await.unwrap();
        drop(first);
        // Work that goes on after its caller has hung up has a place all the same.
        let work = through(&guard, Request::default(), |_| async {
            let place = Place::current();
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(place);
            });
            std::future::pending().await
        });
        assert!(tokio::time::timeout(Duration::from_millis(10), work).await.is_err());
        assert!(answered(&guard).await.is_err());
        drop(second);
        answered(&guard).await.unwrap();
    }

    #[tokio::test]
    async fn a_principal_has_so_many_calls_in_flight_and_another_has_its_own() {
        let guard = guard();
        let by = |name: &'static str, apart| {
            through(&guard, Request::default(), move |request| {
                let place = request.extensions().get::<Arc<Place>>().cloned().unwrap();
                let said = place.is_by(&Principal::new(name).unwrap(), apart);
                async move { said.map_or_else(ApiError::response, |()| Response::new(body(9))) }
            })
        };
        let first = by("flood", true).await.unwrap();
        let refused = by("flood", true).await.unwrap_err();
        assert_eq!(shown(&refused), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
        assert_eq!(refusals(&guard, "max_calls_in_flight_per_principal"), 1);
        drop(by("ledger", true).await.unwrap());
        drop(first);
        // Where callers are not known apart, all of them are one.
        let open = (by("local", false).await.unwrap(), by("local", false).await.unwrap());
        drop(open);
        drop(by("flood", true).await.unwrap());
    }

    #[tokio::test]
    async fn work_waits_for_its_turn_and_each_kind_has_its_own() {
        let guard = guard();
        let (first, second) = (guard.place(None, 1), guard.place(None, 2));
        let turn = first.turn(Work::Read, 1).await;
        let waiting = || guard.metrics.waiting_for(Work::Read);
        {
            let mut waits = Box::pin(second.turn(Work::Read, 1));
            assert!(futures::poll!(&mut waits).is_pending());
            assert_eq!(waiting(), 1);
            drop((second.turn(Work::Change, 1).await, second.turn(Work::Batch, 1).await));
            drop(turn);
            let _turn = waits.await;
            assert_eq!(waiting(), 0);
        }
        drop(first.turn(Work::Read, 1).await);
    }

    #[tokio::test]
    async fn requests_that_are_not_answered_hold_so_many_bytes_and_no_more() {
        let guard = guard();
        let reads = |request: Request<Body>| async move {
            match request.into_body().collect().await {
                Ok(all) => Response::new(body(all.to_bytes().len())),
                Err(error) => Status::from_error(error.into()).into_http(),
            }
        };
        let stuck = through(&guard, Request::new(body(60)), |request| async move {
            let _all = request.into_body().collect().await.unwrap();
            std::future::pending().await
        });
        let mut stuck = Box::pin(stuck);
        assert!(tokio::time::timeout(Duration::from_millis(10), &mut stuck).await.is_err());
        let refused = through(&guard, Request::new(body(41)), reads).await.unwrap_err();
        assert_eq!(shown(&refused), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
        assert_eq!(refusals(&guard, "max_receiving_bytes"), 1);
        through(&guard, Request::new(body(40)), reads).await.unwrap();
        drop(stuck);
        through(&guard, Request::new(body(100)), reads).await.unwrap();
        assert_eq!(guard.metrics.receiving_bytes.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_reader_does_not_read_is_cut_and_one_that_waits_for_us_is_not() {
        let guard = guard();
        let watching = tokio::spawn(guard.clone().cut_unread());
        let line = || Line { cut: CancellationToken::new(), number: 1 };
        let (reads, stalls, waits) = (line(), line(), line());
        let request = |line: &Line| {
            let mut request = Request::new(Body::empty());
            request.extensions_mut().insert(line.clone());
            request
        };
        let answer = |_| async { Response::new(body(9)) };
        let mut read = through(&guard, request(&reads), answer).await.unwrap().into_body();
        let mut stalled = through(&guard, request(&stalls), answer).await.unwrap().into_body();
        assert!(read.frame().await.is_some() && stalled.frame().await.is_some());
        assert!(read.frame().await.is_none());
        drop(read);
        let waiting = through(&guard, request(&waits), |_| async {
            let never = futures::stream::pending::<Result<http_body::Frame<Bytes>, Status>>();
            Response::new(Body::new(http_body_util::StreamBody::new(never)))
        });
        let mut waiting = waiting.await.unwrap().into_body();
        assert!(tokio::time::timeout(Duration::from_secs(100), waiting.frame()).await.is_err());
        let cut = [&reads, &stalls, &waits].map(|line| line.cut.is_cancelled());
        assert_eq!((cut, refusals(&guard, "unread_timeout_ms")), ([false, true, false], 1));
        watching.abort();
    }
}
