//! What ledger and chain differ in and no rule explains, such as an effect that an adapter told wrongly: a person looks,
//! and takes the chain's word for it.
//!
//! Called by `AdminService/AcceptDifferences`. What is missing in one place and found in another has moved; what is
//! missing in all is the house's loss, and what is beyond the ledger in all goes to suspense: nobody earns by it, and no
//! customer pays for it.

use crate::domain::amount::BaseUnits;
use crate::domain::approval::{AtStake, Proposal};
use crate::domain::audit_log::Note;
use crate::domain::booking;
use crate::domain::ledger::{Account, AssetAccount};
use crate::domain::reconciliation::Compared;
use crate::store::keys;
use crate::store::records::ChainMark;

use super::control::Change;
use super::reconcile::{self, fingerprint};
use super::{App, AppError, Once, Pool, Reason, Request, restored, slash};

fn wrong_state(message: impl Into<String>) -> AppError {
    AppError::refused(Reason::WrongState, message)
}

fn broken(error: impl std::fmt::Display) -> AppError {
    AppError::Broken(format!("accepting what the chain has: {error}"))
}

impl App {
    /// Books everything that ledger and chain differ in as the chain has it, once. `hash` is that of the differences that
    /// were looked at; two readings must have shown the same. It waits for a second person where it is about more than the
    /// pool's limit for one. Outflows stay stopped until the pool is resumed.
    pub async fn accept_differences(
        &self,
        request: &Request,
        pool: &Pool,
        hash: [u8; 32],
        evidence: &str,
    ) -> Result<Once, AppError> {
        if let Some(repeated) = request.seen(&*self.store, pool.control()).await? {
            return Ok(repeated);
        }
        let found = reconcile::reconcile(self, pool, self.now()).await?;
        let found = found.ok_or_else(|| wrong_state("the chain could not be compared at a new height; ask again"))?;
        if found.agrees() || found.booked.is_some() {
            return Err(wrong_state("ledger and chain agree, or what differed is booked: there is nothing to accept"));
        }
        if fingerprint(&found.differences) != hash {
            let message = "the hash is not the one of what differs now; Reconcile, look again, and decide again";
            return Err(AppError::refused_in("differences_hash", Reason::HashMismatch, message));
        }
        self.mutate(pool, request, async |change| {
            let mut mark: ChainMark = change.read(&keys::chain_mark()).await?.unwrap_or_default();
            let first = mark.suspect.filter(|first| first.hash == hash && first.height < mark.booked_height);
            let Some(first) = first.filter(|_| mark.booked_height == found.height) else {
                return Err(wrong_state("one reading has shown this so far; Reconcile again at a later height first"));
            };
            tracing::warn!(pool = %pool.id(), height = mark.booked_height, evidence, mismatch = mark.mismatch,
                "what the chain has was accepted");
            let (mut lost, mut grown) = (Vec::new(), Vec::new());
            let untolerated = || found.differences.iter().filter(|difference| !difference.tolerated);
            for difference in untolerated() {
                let (Some(account), apart) = (account(&difference.of), difference.apart()) else { continue };
                let missing = difference.ledger.saturating_sub(difference.chain);
                match missing.is_zero() {
                    true => grown.push((account, apart.positive_part())),
                    false => lost.push((account, missing)),
                }
            }
            covered(change, &lost)?;
            let apart = BaseUnits::sum(lost.iter().chain(&grown).map(|(_, amount)| *amount)).map_err(broken)?;
            let does = format!("takes the chain's word on what differs: {}. {evidence}", shown(&lost, &grown));
            let what = (format!("pools/{}", pool.id()), does);
            let proposal = || Proposal::AcceptDifferences { hash, evidence: evidence.to_owned() };
            let at_stake = AtStake::Amount(apart);
            if let Some(note) = self.second_person(change, (pool, request), at_stake, what, proposal).await? {
                return Ok(note);
            }
            for difference in untolerated() {
                if let Compared::Unbonding(validator) = &difference.of {
                    slash::unbonding_changed(change, validator, difference.apart()).await?;
                }
            }
            change.post(&booking::differences_accepted(first.height, &lost, &grown).map_err(broken)?, first.at)?;
            (mark.reconciled_height, mark.reconciled_at) = (mark.booked_height, mark.booked_at);
            let mismatch = mark.mismatch.take();
            mark.suspect = None;
            change.put(keys::chain_mark(), &mark);
            restored::compared(change, Some(mark.reconciled_height)).await?;
            let note = Note::of(format!("pools/{}", pool.id()), format!("the chain's word was taken. {evidence}"));
            Ok(note.changed(mismatch.unwrap_or_default(), format!("equal up to height {}", mark.reconciled_height)))
        })
        .await
    }
}

/// What differs, for whoever approves it.
fn shown(lost: &[(AssetAccount, BaseUnits)], grown: &[(AssetAccount, BaseUnits)]) -> String {
    let lost =
        lost.iter().map(|(account, amount)| format!("{} has {amount} base units less", Account::from(account.clone())));
    let grown = grown
        .iter()
        .map(|(account, amount)| format!("{} has {amount} base units more", Account::from(account.clone())));
    lost.chain(grown).collect::<Vec<_>>().join(", ")
}

/// The account of the ledger that is another one on the chain; `None` where nothing of it is booked.
fn account(of: &Compared) -> Option<AssetAccount> {
    match of {
        Compared::Liquid => Some(AssetAccount::Liquid),
        Compared::Delegated(validator) => Some(AssetAccount::Delegated(validator.clone())),
        Compared::Unbonding(_) => Some(AssetAccount::Unbonding),
        Compared::Matured => Some(AssetAccount::Matured),
        Compared::PendingReward(_) => None,
    }
}

/// What is in flight is compared with the liquid, and is not given away.
fn covered(change: &Change<'_>, lost: &[(AssetAccount, BaseUnits)]) -> Result<(), AppError> {
    let held = |account: &AssetAccount| change.ledger().balance(&account.clone().into()).positive_part();
    match lost.iter().find(|(account, missing)| held(account) < *missing) {
        None => Ok(()),
        Some(_) => Err(wrong_state("what is missing is in flight for operations; ask again when those have ended")),
    }
}

impl super::reconcile::Reconciliation {
    /// The hash of what differs, for whoever accepts it.
    pub fn differences_hash(&self) -> [u8; 32] {
        fingerprint(&self.differences)
    }
}

#[cfg(test)]
#[path = "accept_tests.rs"]
mod tests;
