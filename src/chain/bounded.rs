//! A chain and a signer that answer in time, or count as not answering: one that hangs must not hold up the others.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::{Assembled, ChainAdapter, ChainError, Descriptor, Lookup, Observation, Signed, Signer, Unsigned};
use crate::domain::effect::Effect;
use crate::domain::ids::OperationId;
use crate::domain::operation::OperationKind;

/// After a call that was given up, so many times its length nothing is asked: the pools of other chains take turns with
/// this one, and are held up for a quarter of the time at most, however many calls of this one are due.
const REST: u32 = 3;

/// An adapter or a signer of which each call is given up after a while, as [`ChainError::Unavailable`]. A call that is
/// given up is dropped: of a submission nothing is known then, and a look-up tells.
#[derive(Clone, Debug)]
pub struct Bounded<T: ?Sized> {
    inner: Arc<T>,
    longest: Duration,
    /// Whether nothing is asked, for a while.
    rests: Arc<AtomicBool>,
}

impl<T: ?Sized> Bounded<T> {
    /// `inner`, with at most `longest` a call.
    pub fn new(inner: Arc<T>, longest: Duration) -> Self {
        Self { inner, longest, rests: Arc::default() }
    }

    /// Asks nothing for a while.
    fn rest(&self) {
        self.rests.store(true, Ordering::Relaxed);
        let (rests, pause) = (self.rests.clone(), self.longest * REST);
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            rests.store(false, Ordering::Relaxed);
        });
    }

    async fn within<R>(
        &self,
        what: &str,
        call: impl Future<Output = Result<R, ChainError>> + Send,
    ) -> Result<R, ChainError> {
        let longest = self.longest.as_millis();
        if self.rests.load(Ordering::Relaxed) {
            return Err(ChainError::Unavailable(format!(
                "{what} was not asked: a call took longer than {longest} ms (operations.call_timeout_ms) a moment ago"
            )));
        }
        let answer = tokio::time::timeout(self.longest, call).await;
        answer.unwrap_or_else(|_| {
            self.rest();
            Err(ChainError::Unavailable(format!("{what} took longer than {longest} ms (operations.call_timeout_ms)")))
        })
    }
}

#[async_trait]
impl<T: ChainAdapter + ?Sized> ChainAdapter for Bounded<T> {
    async fn descriptor(&self) -> Result<Descriptor, ChainError> {
        self.within("descriptor", self.inner.descriptor()).await
    }

    async fn observe(&self) -> Result<Observation, ChainError> {
        self.within("observe", self.inner.observe()).await
    }

    async fn prepare(&self, id: &OperationId, kind: &OperationKind) -> Result<Unsigned, ChainError> {
        self.within("prepare", self.inner.prepare(id, kind)).await
    }

    async fn assemble(&self, id: &OperationId, unsigned: &Unsigned, signature: &[u8]) -> Result<Assembled, ChainError> {
        self.within("assemble", self.inner.assemble(id, unsigned, signature)).await
    }

    async fn submit(&self, id: &OperationId, signed: &Signed) -> Result<(), ChainError> {
        self.within("submit", self.inner.submit(id, signed)).await
    }

    async fn lookup(&self, id: &OperationId, signed: &Signed) -> Result<Lookup, ChainError> {
        self.within("lookup", self.inner.lookup(id, signed)).await
    }

    async fn effects(&self, from: u64, to: u64) -> Result<Vec<Effect>, ChainError> {
        self.within("effects", self.inner.effects(from, to)).await
    }
}

#[async_trait]
impl<T: Signer + ?Sized> Signer for Bounded<T> {
    async fn sign(&self, id: &OperationId, unsigned: &Unsigned) -> Result<Vec<u8>, ChainError> {
        self.within("sign", self.inner.sign(id, unsigned)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::amount::BaseUnits;
    use crate::domain::ids::TransactionId;
    use crate::domain::signing::{Decoded, Lifetime};
    use std::future::pending;

    /// Answers nothing, ever.
    struct Silent;

    #[async_trait]
    impl ChainAdapter for Silent {
        async fn descriptor(&self) -> Result<Descriptor, ChainError> {
            pending().await
        }

        async fn observe(&self) -> Result<Observation, ChainError> {
            pending().await
        }

        async fn prepare(&self, _: &OperationId, _: &OperationKind) -> Result<Unsigned, ChainError> {
            pending().await
        }

        async fn assemble(&self, _: &OperationId, _: &Unsigned, _: &[u8]) -> Result<Assembled, ChainError> {
            pending().await
        }

        async fn submit(&self, _: &OperationId, _: &Signed) -> Result<(), ChainError> {
            pending().await
        }

        async fn lookup(&self, _: &OperationId, _: &Signed) -> Result<Lookup, ChainError> {
            pending().await
        }

        async fn effects(&self, _: u64, _: u64) -> Result<Vec<Effect>, ChainError> {
            pending().await
        }
    }

    #[async_trait]
    impl Signer for Silent {
        async fn sign(&self, _: &OperationId, _: &Unsigned) -> Result<Vec<u8>, ChainError> {
            pending().await
        }
    }

    fn given_up<R: std::fmt::Debug>(answer: Result<R, ChainError>) {
        let Err(ChainError::Unavailable(why)) = answer else { panic!("{answer:?}") };
        assert!(why.ends_with("took longer than 250 ms (operations.call_timeout_ms)"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn every_call_that_hangs_counts_as_not_answered() {
        let silent = Bounded::new(Arc::new(Silent), Duration::from_millis(250));
        let id = OperationId::new("op").unwrap();
        let kind = OperationKind::Claim { validator: None };
        let lifetime = Lifetime::default();
        let (sender, max_fee) = (String::new(), BaseUnits::ZERO);
        let says = Decoded { intent: kind.clone(), sender, recipient: None, max_fee, lifetime };
        let unsigned = Unsigned { bytes: Vec::new(), says };
        let transaction = TransactionId::new("tx").unwrap();
        let signed = Signed { bytes: Vec::new(), transaction, lifetime };
        let rest = || tokio::time::sleep(Duration::from_millis(751));
        given_up(silent.descriptor().await);
        rest().await;
        given_up(silent.observe().await);
        rest().await;
        given_up(silent.prepare(&id, &kind).await);
        rest().await;
        given_up(silent.assemble(&id, &unsigned, &[]).await);
        rest().await;
        given_up(silent.submit(&id, &signed).await);
        rest().await;
        given_up(silent.lookup(&id, &signed).await);
        rest().await;
        given_up(silent.effects(0, 1).await);
        rest().await;
        given_up(silent.sign(&id, &unsigned).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_that_hangs_is_left_alone_for_a_while() {
        let silent = Bounded::new(Arc::new(Silent) as Arc<dyn ChainAdapter>, Duration::from_millis(250));
        given_up(silent.observe().await);
        // No time passes here, however many calls are due: the others wait for one alone.
        for _ in 0..1_000 {
            let Err(ChainError::Unavailable(why)) = silent.effects(0, 1).await else { panic!("something answers") };
            assert!(why.starts_with("effects was not asked"), "{why}");
        }
        tokio::time::sleep(Duration::from_millis(751)).await;
        given_up(silent.observe().await);
    }
}
