//! Every effect on our address, block by block: which blocks are read how, and what of it is remembered. Called by the
//! adapter of this room, for its list of effects and for its look-ups.
//!
//! Each block's results are read (`/block_results`), whoever the block is about: every node keeps them, while an index that
//! could be searched instead may be off, behind, or pruned, and says nothing of what it lacks. A node that discards them
//! (`discard_abci_responses`) or has pruned them gives an error, and there are no effects then rather than fewer. Blocks
//! that move stake are compared with the state before them, for which the node has to keep that state.
//!
//! What was read is final. It is remembered in memory only, so that a long way is not begun anew when a call is given up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};

use super::effects::{self, OfBlock};
use super::reads::Reads;
use super::results::Block;
use crate::chain::ChainError;
use crate::domain::effect::{Effect, EffectKind};
use crate::domain::ids::TransactionId;

/// How many blocks are read at once.
const AT_ONCE: usize = 8;

/// How many blocks are remembered: about a week of the Hub's. Most of them are empty.
const REMEMBERED: usize = 100_000;

/// The effects of a chain as one node tells them.
#[derive(Clone, Debug)]
pub struct History {
    reads: Reads,
    /// The height from which on our address is used: up to it, nothing was ours.
    first: u64,
    seen: Arc<Mutex<BTreeMap<u64, Arc<[Effect]>>>>,
}

impl History {
    /// Of an address that had nothing after block `first` and before: blocks up to it are not read.
    pub fn new(reads: Reads, first: u64) -> Self {
        Self { reads, first, seen: Arc::default() }
    }

    /// Every effect with `from < height <= to`, in chain order.
    pub async fn effects(&self, from: u64, to: u64) -> Result<Vec<Effect>, ChainError> {
        if from < self.first && self.first <= to {
            self.check_first().await?;
        }
        let blocks = from.max(self.first).saturating_add(1)..=to;
        let effects = stream::iter(blocks).map(|height| self.of_block(height)).buffered(AT_ONCE);
        let effects: Vec<Arc<[Effect]>> = effects.try_collect().await?;
        Ok(effects.iter().flat_map(|effects| effects.iter().cloned()).collect())
    }

    /// The effects of one transaction that stands in block `height`: the same as the list gives, under the same keys.
    /// `None` where it does not stand there.
    pub async fn effects_of_tx(&self, hash: &TransactionId, height: u64) -> Result<Option<Vec<Effect>>, ChainError> {
        let (results, header) = tokio::try_join!(self.reads.results(height), self.reads.header(height))?;
        let block = results.of(&header)?;
        let Some(transaction) = block.transactions.iter().find(|transaction| transaction.hash == *hash) else {
            return Ok(None);
        };
        let mut found = effects::of_transaction(&self.reads.us, &block, transaction)?;
        self.date(&mut found, height).await?;
        Ok(Some(found))
    }

    async fn of_block(&self, height: u64) -> Result<Arc<[Effect]>, ChainError> {
        if let Some(seen) = self.remembered(height) {
            return Ok(seen);
        }
        let found: Arc<[Effect]> = self.read_block(height).await?.into();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(height, found.clone());
        if seen.len() > REMEMBERED {
            seen.pop_first();
        }
        Ok(found)
    }

    fn remembered(&self, height: u64) -> Option<Arc<[Effect]>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&height).cloned()
    }

    async fn read_block(&self, height: u64) -> Result<Vec<Effect>, ChainError> {
        let results = self.reads.results(height).await?;
        let us = &self.reads.us;
        let named = results.events().any(|event| event.values().any(|value| value.starts_with(us.staking.as_str())));
        let moved = results.events().any(effects::moves_stake);
        if !named && !moved {
            return Ok(Vec::new());
        }
        let block = results.of(&self.reads.header(height).await?)?;
        let OfBlock { begun, ended } = effects::of_block(us, &block)?;
        let mut transactions = Vec::new();
        for transaction in &block.transactions {
            transactions.extend(effects::of_transaction(us, &block, transaction)?);
        }
        let all = [begun.as_slice(), &transactions, &ended].concat();
        let (slashed, grown) = if moved { self.compare(&block, &all).await? } else { Default::default() };
        let mut found = [begun, slashed, transactions, ended, grown].concat();
        self.date(&mut found, height).await?;
        Ok(found)
    }

    /// What the state before and after a block shows and its events don't say.
    async fn compare(&self, block: &Block, moved: &[Effect]) -> Result<(Vec<Effect>, Vec<Effect>), ChainError> {
        let height = block.height;
        let (before, after) = tokio::try_join!(self.reads.stake(height.saturating_sub(1)), self.reads.stake(height))?;
        let found = effects::of_stake(block, &before, &after, moved)?;
        Ok((found.slashed, found.grown))
    }

    /// Says of each reward since when it was earned, from the state before the block that paid it.
    async fn date(&self, effects: &mut [Effect], height: u64) -> Result<(), ChainError> {
        let mut since = BTreeMap::new();
        for effect in effects.iter() {
            let EffectKind::RewardPaid { validator: Some(validator), .. } = &effect.kind else { continue };
            if !since.contains_key(validator)
                && let Some(from) = self.reads.earning_since(validator, height.saturating_sub(1)).await?
            {
                since.insert(validator.clone(), from);
            }
        }
        effects::date(effects, &since);
        Ok(())
    }

    /// Refuses to leave out blocks that may have been about us.
    async fn check_first(&self) -> Result<(), ChainError> {
        if self.first == 0 || self.remembered(self.first).is_some() {
            return Ok(());
        }
        let (liquid, stake) = tokio::try_join!(self.reads.liquid(self.first), self.reads.stake(self.first))?;
        if !liquid.is_zero() || !stake.delegated.is_empty() || !stake.unbonding.is_empty() {
            let (first, us) = (self.first, &self.reads.us.staking);
            return Err(ChainError::Refused(format!("{us} was used before height {first}: its effects are older")));
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(self.first, Arc::from([]));
        Ok(())
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
