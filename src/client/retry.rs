//! One call, tried until it is answered for good.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tonic::{Request, Response, Status};

use super::error::{ClientError, Refusal};

/// How a client waits and tries again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long one attempt of one call may take.
    pub deadline: Duration,
    /// How often a call is tried, the first time included; at least once.
    pub attempts: u32,
    /// The pause before the second attempt. It doubles from attempt to attempt.
    pub first_pause: Duration,
    /// The longest pause between two attempts.
    pub longest_pause: Duration,
    /// How long a stream may leave what was sent without an answer before it is opened anew.
    pub stall: Duration,
    /// A bearer token, sent with every call.
    pub token: Option<BearerToken>,
}

/// A bearer token. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

impl BearerToken {
    /// The token `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(...)")
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            attempts: 10,
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            token: None,
        }
    }
}

/// The pauses of one call, and how many attempts it has had.
#[derive(Debug)]
pub(super) struct Attempts {
    pauses: ExponentialBackoff,
    made: u32,
}

impl Attempts {
    pub(super) fn new(options: &Options) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(options.first_pause)
            .with_max_delay(options.longest_pause)
            .with_max_times(usize::try_from(options.attempts.saturating_sub(1)).unwrap_or(usize::MAX))
            .with_jitter();
        Self { pauses: pauses.build(), made: 0 }
    }

    /// Waits before the next attempt, or says that `refusal` is the end of it.
    pub(super) async fn wait(&mut self, refusal: Refusal) -> Result<(), ClientError> {
        self.made = self.made.saturating_add(1);
        if !refusal.is_transient() {
            return Err(ClientError::Refused(Box::new(refusal)));
        }
        let Some(pause) = self.pauses.next() else {
            return Err(ClientError::OutcomeUnknown { attempts: self.made, last: Box::new(refusal) });
        };
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// A request that ends by itself at the deadline, at the server and here.
pub(super) fn with_deadline<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// One attempt, within the deadline.
pub(super) async fn once<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Refusal> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Refusal::from(status)),
        Err(_) => Err(Refusal::from(Status::deadline_exceeded(format!("no answer within {deadline:?}")))),
    }
}

/// Attempts until there is an answer for good. `call` sends the same message each time.
pub(super) async fn until_answered<T, F>(options: &Options, mut call: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut attempts = Attempts::new(options);
    loop {
        match once(options.deadline, call()).await {
            Ok(answer) => return Ok(answer),
            Err(refusal) => attempts.wait(refusal).await?,
        }
    }
}
