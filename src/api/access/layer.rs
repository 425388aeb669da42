//! The judge in front of every service, health and reflection included.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};
use tracing::Instrument;

use super::certificate::Peer;
use super::table::Row;
use super::{Access, Admitted, Standing};
use crate::api::status::{ApiError, Problem};
use crate::api::transport::Place;
use crate::domain::ids::{Principal, SourceId};
use crate::domain::time::UnixSeconds;

/// How long a watched call rests between two looks at the calendar.
const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(60);

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

impl<S> Service<Request<Body>> for Judged<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        let path = request.uri().path().to_owned();
        let admitted = match self.access.admit(&path, peer.as_ref(), request.headers()) {
            Ok(admitted) => admitted,
            Err(refused) => return Box::pin(async move { Ok(refused.response()) }),
        };
        let Some(caller) = admitted.caller.clone() else {
            // What nobody is asked for is not judged again.
            return Box::pin(self.inner.call(request));
        };
        if let Some(standing) = request.extensions().get::<Standing>() {
            standing.known();
        }
        let principal = caller.principal.clone();
        if let Some(place) = request.extensions_mut().remove::<Arc<Place>>()
            && let Err(refused) = place.is_by(&principal, admitted.held.knows_apart())
        {
            return Box::pin(async move { Ok(refused.response()) });
        }
        // Whatever is logged for the call says whose it was.
        let span = tracing::info_span!("caller", %principal, peer = &*caller.peer);
        request.extensions_mut().insert(caller);
        let (access, headers) = (self.access.clone(), credentials(request.headers()));
        let (refused, sources) = (Mutex::default(), Mutex::new(admitted.sources.clone()));
        let call = Arc::new(Call { access, principal, path, peer, headers, refused, sources });
        request.extensions_mut().insert(Feeds(call.clone()));
        let asked = Watch::new(call.clone(), &admitted);
        let request = request.map(|body| Body::new(Asked { body, watch: asked }));
        let called = span.in_scope(|| self.inner.call(request)).instrument(span.clone());
        if !admitted.streams {
            // Once all was asked, it is carried out. A refusal in place of the answer would say that it was not.
            return Box::pin(called);
        }
        Box::pin(async move {
            let watch = Watch::new(call, &admitted);
            Ok(called.await?.map(|body| Body::new(Watched { body, watch, refused: false })))
        })
    }
}

/// Of the headers of a call those that it is judged by, which are kept as long as its streams are open: there may be ten
/// thousand of them.
fn credentials(headers: &HeaderMap) -> HeaderMap {
    let mut shown = HeaderMap::new();
    for value in headers.get_all(AUTHORIZATION) {
        shown.append(AUTHORIZATION, value.clone());
    }
    shown
}

/// What a call is judged by.
struct Call {
    access: Arc<Access>,
    /// Who made it.
    principal: Principal,
    path: String,
    peer: Option<Peer>,
    headers: HeaderMap,
    /// Why it may not go on any more. What it asks and what it is answered are watched each by itself: whichever finds out
    /// tells the other, so that there is one refusal.
    refused: Mutex<Option<ApiError>>,
    /// The sources that its caller may feed by the identity file of now; `None` is every one.
    sources: Mutex<Option<Arc<BTreeSet<SourceId>>>>,
}

/// What a caller may feed. Handlers of the feed find it in the request.
#[derive(Clone)]
pub struct Feeds(Arc<Call>);

impl Feeds {
    /// Whether the caller may feed `source` now. A refusal is counted and told.
    pub fn check(&self, source: &SourceId) -> Result<(), ApiError> {
        let Call { access, principal, path, peer, sources, .. } = &*self.0;
        let listed = sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if listed.is_none_or(|listed| listed.contains(source)) {
            return Ok(());
        }
        let reason = "SOURCE_NOT_ALLOWED";
        access.note(Some(principal.clone()), peer.as_ref(), Row::of(path).map_or("unknown", Row::call), reason);
        let message = "the identity file does not list this source for this principal; feed one that it lists";
        Err(ApiError::Denied(Problem::new(reason, message).with("source", source).with("principal", principal)))
    }
}

/// A look at whether a call may still go on: it is judged again where the admission was exchanged or a credential has ended.
struct Watch {
    call: Arc<Call>,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    /// When the credential ends, and until the next look at the calendar.
    ends: Option<(UnixSeconds, Pin<Box<Sleep>>)>,
}

impl Watch {
    fn new(call: Arc<Call>, admitted: &Admitted) -> Self {
        let over = Box::pin(admitted.held.over.clone().cancelled_owned());
        let ends = admitted.until.map(|until| (until, Box::pin(tokio::time::sleep(call.look_in(until)))));
        Self { call, over, ends }
    }

    /// Ready once the call has to be judged again.
    fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some((until, nap)) = &mut self.ends else { return Poll::Pending };
        while nap.as_mut().poll(context).is_ready() {
            if *until <= self.call.access.now() {
                return Poll::Ready(());
            }
            *nap = Box::pin(tokio::time::sleep(self.call.look_in(*until)));
        }
        Poll::Pending
    }

    /// Why the call may not go on, if it may not.
    fn judge(&mut self, context: &mut Context<'_>) -> Result<(), ApiError> {
        let call = self.call.clone();
        let mut refused = call.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = &*refused {
            return Err(refused.clone());
        }
        while self.poll_due(context).is_ready() {
            match call.access.admit_as(Some(&call.principal), &call.path, call.peer.as_ref(), &call.headers) {
                Ok(admitted) => {
                    call.sources.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&admitted.sources);
                    *self = Self::new(call.clone(), &admitted);
                }
                Err(error) => {
                    *refused = Some(error.clone());
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl Call {
    /// How long to rest before the next look whether it is `until`: the calendar may be set meanwhile.
    fn look_in(&self, until: UnixSeconds) -> Duration {
        let left = until.get().saturating_sub(self.access.now().get());
        Duration::from_secs(u64::try_from(left).unwrap_or_default()).clamp(SHORTEST_REST, LONGEST_REST)
    }
}

/// What a caller asks, which ends where the caller is refused meanwhile: one that sends and reads no answer would else go on.
struct Asked {
    body: Body,
    watch: Watch,
}

impl http_body::Body for Asked {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Err(refused) = self.watch.judge(context) {
            return Poll::Ready(Some(Err(refused.into())));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer that ends where its caller is refused meanwhile: a stream may be open for days.
struct Watched {
    body: Body,
    watch: Watch,
    refused: bool,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.refused {
            return Poll::Ready(None);
        }
        if let Err(refused) = self.watch.judge(context) {
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::mpsc;
    use tokio::time::Instant;
    use tokio_stream::wrappers::UnboundedReceiverStream;
    use tonic_types::StatusExt;

    use super::super::identities::{Identities, sha256};
    use super::super::refusals::{Refusal, RefusalLog};
    use super::*;
    use crate::api::access::Admission;
    use crate::api::status::refusal_in;

    const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);
    /// 90 seconds later.
    const EXPIRES: &str = "2027-01-15T08:01:30Z";

    #[derive(Clone, Default)]
    struct Told(Arc<AtomicUsize>);

    impl RefusalLog for Told {
        fn refused(&self, _: Refusal) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn known(token: &str) -> Admission {
        known_as("ledger", token)
    }

    fn known_as(name: &str, token: &str) -> Admission {
        let hash: String = sha256(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let file = format!(
            "[[principals]]\nname = \"{name}\"\nroles = [\"ledger\"]\ntokens = [{{ sha256 = \"{hash}\", expires = \"{EXPIRES}\" }}]"
        );
        Admission::Known { identities: Identities::parse(&file).unwrap(), issuers: None }
    }

    /// A feed that is open: what it is sent, what of it comes through, and its answer, which never says anything by itself.
    struct Open {
        access: Arc<Access>,
        told: Told,
        sends: mpsc::UnboundedSender<Result<Frame<Bytes>, Status>>,
        asked: Body,
        answer: Body,
    }

    const FEED: &str = "/softstake.v1.BalanceFeedService/StreamBalances";
    const PUT: &str = "/softstake.v1.BalanceFeedService/PutBalance";

    async fn open(path: &str) -> Open {
        let began = Instant::now();
        let now = move || UnixSeconds::new(NOW.get() + i64::try_from(began.elapsed().as_secs()).unwrap());
        let told = Told::default();
        let access = Arc::new(Access::new(known("good"), Arc::new(now), Box::new(told.clone())));
        let (sends, sent) = mpsc::unbounded_channel();
        let body = Body::new(StreamBody::new(UnboundedReceiverStream::new(sent)));
        let request = Request::builder().uri(path);
        let request = request.header("authorization", "Bearer good").body(body).unwrap();
        let (keeps, mut kept) = mpsc::unbounded_channel();
        let inner = tower::service_fn(move |request: Request<Body>| {
            keeps.send(request.into_body()).unwrap();
            let never = tokio_stream::pending::<Result<Frame<Bytes>, Status>>();
            async { Ok::<_, Infallible>(Response::new(Body::new(StreamBody::new(never)))) }
        });
        let answer = AccessLayer(access.clone()).layer(inner).call(request).await.unwrap().into_body();
        Open { access, told, sends, asked: kept.recv().await.unwrap(), answer }
    }

    fn reason(status: Option<Status>) -> String {
        status.unwrap().get_error_details().error_info().unwrap().reason.clone()
    }

    /// Why the answer ends; `None` if it goes on for so long.
    async fn ends_within(answer: &mut Body, seconds: u64) -> Option<String> {
        let frame = tokio::time::timeout(Duration::from_secs(seconds), answer.frame()).await.ok()?;
        let trailers = frame.unwrap().unwrap().into_trailers().unwrap();
        assert!(answer.frame().await.is_none());
        Some(reason(refusal_in(&trailers)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_credential_does() {
        let mut open = open(FEED).await;
        assert_eq!(ends_within(&mut open.answer, 89).await, None);
        assert_eq!(ends_within(&mut open.answer, 2).await, Some("TOKEN_EXPIRED".to_owned()));
        let asked = open.asked.frame().await.unwrap().unwrap_err();
        assert_eq!(reason(Some(asked)), "TOKEN_EXPIRED");
        assert_eq!(open.told.0.load(Ordering::Relaxed), 1, "it is one refusal");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_refused_caller_sends_is_taken_no_more_though_it_reads_no_answer() {
        let mut open = open(FEED).await;
        let frame = || Ok(Frame::data(Bytes::from_static(b"events")));
        open.sends.send(frame()).unwrap();
        assert!(open.asked.frame().await.unwrap().unwrap().is_data());
        let waiting = tokio::spawn(async move { open.asked.frame().await.unwrap().map(|_| ()) });
        tokio::task::yield_now().await;
        open.access.exchange(known("another"));
        // It wakes by itself, without a further message.
        assert_eq!(reason(waiting.await.unwrap().err()), "CREDENTIALS_UNKNOWN");
        assert_eq!(ends_within(&mut open.answer, 1).await, Some("CREDENTIALS_UNKNOWN".to_owned()));
        assert_eq!(open.told.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whose_credential_is_still_good_after_an_exchange_goes_on_until_it_ends() {
        let mut open = open(FEED).await;
        open.access.exchange(known("good"));
        assert_eq!(ends_within(&mut open.answer, 80).await, None);
        open.sends.send(Ok(Frame::data(Bytes::from_static(b"events")))).unwrap();
        assert!(open.asked.frame().await.unwrap().unwrap().is_data());
        assert_eq!(ends_within(&mut open.answer, 11).await, Some("TOKEN_EXPIRED".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn whose_credential_becomes_another_principals_does_not_go_on_as_the_first() {
        let mut open = open(FEED).await;
        open.access.exchange(known_as("ledger-2", "good"));
        assert_eq!(ends_within(&mut open.answer, 1).await, Some("CREDENTIALS_UNKNOWN".to_owned()));
        assert_eq!(open.told.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_in_time_is_answered_and_what_comes_later_is_not_taken() {
        let mut open = open(PUT).await;
        open.sends.send(Ok(Frame::data(Bytes::from_static(b"a change")))).unwrap();
        open.access.exchange(known("another"));
        assert_eq!(ends_within(&mut open.answer, 100).await, None, "it would say that nothing was done");
        assert_eq!(reason(open.asked.frame().await.unwrap().err()), "CREDENTIALS_UNKNOWN");
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_logged_for_a_call_says_whose_it_was_and_never_by_what() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _logging = tracing::subscriber::set_default(log);
        let access = Access::new(known("good"), Arc::new(|| NOW), Box::new(Told::default()));
        let inner = tower::service_fn(|_: Request<Body>| async {
            // As a change does, which goes on without its caller.
            let work = async { tracing::info!("done") };
            tokio::spawn(work.instrument(tracing::info_span!("rpc"))).await.unwrap();
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let request = Request::builder().uri(PUT).header("authorization", "Bearer good").body(Body::empty()).unwrap();
        AccessLayer(Arc::new(access)).layer(inner).call(request).await.unwrap();
        let told = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(told.contains("caller{principal=ledger") && told.contains(":rpc: ") && told.contains("done"), "{told}");
        assert!(!told.contains("good"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_feed_some_sources_may_feed_no_other_and_an_exchange_holds_for_an_open_feed() {
        let only = |sources: &str| {
            let hash: String = sha256(b"good").iter().map(|byte| format!("{byte:02x}")).collect();
            let file = format!(
                "[[principals]]\nname = \"ledger\"\nroles = [\"ledger\"]\nsources = {sources}\ntokens = \
                 [{{ sha256 = \"{hash}\", expires = \"{EXPIRES}\" }}]"
            );
            Admission::Known { identities: Identities::parse(&file).unwrap(), issuers: None }
        };
        let told = Told::default();
        let access = Arc::new(Access::new(only("[\"spot\"]"), Arc::new(|| NOW), Box::new(told.clone())));
        let (keeps, mut kept) = mpsc::unbounded_channel();
        let inner = tower::service_fn(move |request: Request<Body>| {
            keeps.send(request.extensions().get::<Feeds>().unwrap().clone()).unwrap();
            let never = tokio_stream::pending::<Result<Frame<Bytes>, Status>>();
            async { Ok::<_, Infallible>(Response::new(Body::new(StreamBody::new(never)))) }
        });
        let request = Request::builder().uri(FEED).header("authorization", "Bearer good").body(Body::empty()).unwrap();
        let mut answer = AccessLayer(access.clone()).layer(inner).call(request).await.unwrap().into_body();
        let feeds = kept.recv().await.unwrap();
        let check = |source: &str| feeds.check(&SourceId::new(source).unwrap()).map_err(|error| error.reason());
        assert_eq!((check("spot"), check("margin")), (Ok(()), Err("SOURCE_NOT_ALLOWED")));
        assert_eq!(told.0.load(Ordering::Relaxed), 1, "and it is told");
        for (sources, spot, margin) in [("[\"margin\"]", false, true), ("[]", false, false)] {
            access.exchange(only(sources));
            assert_eq!(ends_within(&mut answer, 1).await, None);
            assert_eq!((check("spot").is_ok(), check("margin").is_ok()), (spot, margin), "{sources}");
        }
        access.exchange(known("good"));
        assert_eq!(ends_within(&mut answer, 1).await, None);
        assert_eq!((check("spot"), check("margin")), (Ok(()), Ok(())), "without a list it is every source");
    }
}
