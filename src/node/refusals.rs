//! Refusals of callers, on their way into the log and the audit log.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::access::refusals::{Refusal, RefusalLog};
use crate::app::App;
use crate::domain::caller::Caller;

/// How many refusals may wait for the audit log. As they are told, there are at most some hundreds a minute.
const QUEUE: usize = 1_024;

/// How long a stopping service gives the audit log to take the last of them.
const LAST: Duration = Duration::from_secs(5);

/// Takes refusals without waiting.
pub(super) struct Recorded {
    queue: mpsc::Sender<Refusal>,
    lost: Counter,
}

impl RefusalLog for Recorded {
    fn refused(&self, refusal: Refusal) {
        let principal = refusal.principal.as_ref().map_or("", |principal| principal.as_str());
        let Refusal { peer, call, reason, count, .. } = &refusal;
        tracing::warn!(principal, %peer, call, reason, count, "refused a caller");
        if self.queue.try_send(refusal).is_err() {
            self.lost.inc();
        }
    }
}

/// The task that writes refusals down.
pub(super) struct Recorder {
    task: JoinHandle<()>,
    stop: CancellationToken,
    lost: Counter,
}

impl Recorder {
    /// Starts it, with where refusals are told to.
    pub(super) fn start(app: Arc<App>) -> (Recorded, Self) {
        let ((sender, receiver), lost) = (mpsc::channel(QUEUE), Counter::default());
        let stop = CancellationToken::new();
        let task = tokio::spawn(record(app, receiver, lost.clone(), stop.clone()));
        (Recorded { queue: sender, lost: lost.clone() }, Self { task, stop, lost })
    }

    /// Registers what is counted.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Refusals of callers that are in the log and could not be written into the audit log";
        registry.register("refusals_unrecorded", help, self.lost.clone());
    }

    /// Writes down what was told until now, and ends.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(LAST, &mut self.task).await.is_err() {
            tracing::warn!("the last refusals of callers were not written into the audit log; they are in the log");
            self.task.abort();
        }
    }
}

/// Writes down each refusal, until it is told to stop and none is left.
async fn record(app: Arc<App>, mut queue: mpsc::Receiver<Refusal>, lost: Counter, stop: CancellationToken) {
    loop {
        let refusal = tokio::select! {
            biased;
            refusal = queue.recv() => refusal,
            () = stop.cancelled(), if !queue.is_closed() => {
                queue.close();
                continue;
            }
        };
        let Some(Refusal { principal, peer, call, reason, count }) = refusal else { return };
        let caller = match principal {
            Some(principal) => Caller { principal, peer: (&*peer).into() },
            None => Caller::unknown(&peer),
        };
        if let Err(error) = app.audit_refusal(&caller, call, reason, count).await {
            lost.inc();
            tracing::error!(%error, call, reason, "a refusal could not be written into the audit log");
        }
    }
}
