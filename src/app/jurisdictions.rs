//! Jurisdictions that a pool restricts: a decision that restricts an account follows by itself where the account is in one of
//! them, in the same commit where the ledger names the jurisdiction, and within the next steps where the pool's list changes.
//!
//! Nothing is lifted by itself: that an account is let in again, somebody decides.

use crate::domain::caller::Caller;
use crate::domain::enrolment::{Decision, EnrolmentEntry, RESTRICTED_JURISDICTION, RestrictedJurisdictions};
use crate::domain::ids::{AccountId, PoolId};
use crate::domain::time::UnixSeconds;
use crate::store::records::Record;
use crate::store::{Batch, Direction, PartitionId, keys};

use super::{App, AppError, Pool, Work};

/// The scope under which the last decision on an account is kept that named a jurisdiction: no pool is called so.
const SCOPE: &str = "@";

/// How many decisions one step looks through: each that restricts writes three keys.
const LOOKED_THROUGH: usize = 250;

/// Puts a decision into a batch of the service partition.
pub(super) fn put(batch: &mut Batch, entry: &EnrolmentEntry) {
    let key = keys::enrolment_entry(entry.sequence);
    batch.expect_absent(key.clone()).put(key, entry.encode());
    batch.put(keys::enrolment_of_account(&entry.account, entry.sequence), []);
}

/// A pool's list as a step knows it again, and how far the accounts were looked through for it.
struct Looked {
    list: [u8; 32],
    /// The last key that was looked at; empty where all were.
    after: Vec<u8>,
}

fn fingerprint(restricted: &RestrictedJurisdictions) -> [u8; 32] {
    *blake3::hash(restricted.to_string().as_bytes()).as_bytes()
}

impl Looked {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (list, after) = bytes.split_first_chunk::<32>()?;
        Some(Self { list: *list, after: after.to_vec() })
    }

    fn encode(&self) -> Vec<u8> {
        [self.list.as_slice(), &self.after].concat()
    }
}

fn restriction(
    account: &AccountId,
    pool: &PoolId,
    jurisdiction: &str,
    sequence: u64,
    at: UnixSeconds,
) -> EnrolmentEntry {
    EnrolmentEntry {
        sequence,
        account: account.clone(),
        pool: Some(pool.clone()),
        decision: Decision::Restrict,
        at,
        terms_version: String::new(),
        jurisdiction: jurisdiction.to_owned(),
        reason_code: RESTRICTED_JURISDICTION.to_owned(),
        by: Caller::service().principal,
    }
}

/// Whether an account's last decision in a pool is that its jurisdiction restricts it.
fn stands(last: Option<&EnrolmentEntry>) -> bool {
    last.is_some_and(|last| last.decision == Decision::Restrict && last.reason_code == RESTRICTED_JURISDICTION)
}

impl App {
    /// The last decision on an account that named a jurisdiction, if one did.
    pub(super) async fn located(&self, account: &AccountId) -> Result<Option<EnrolmentEntry>, AppError> {
        self.read(PartitionId::SERVICE, &keys::account_enrolment(account, SCOPE)).await
    }

    /// The decisions that follow from `entry` by themselves, for the same commit: with it, all are in `batch`.
    pub(super) async fn decide_with_jurisdiction(
        &self,
        batch: &mut Batch,
        entry: &EnrolmentEntry,
    ) -> Result<usize, AppError> {
        put(batch, entry);
        let named = !entry.jurisdiction.is_empty();
        let jurisdiction = match named {
            true => entry.jurisdiction.clone(),
            false => self.located(&entry.account).await?.map(|last| last.jurisdiction).unwrap_or_default(),
        };
        let mut last_of_scope = entry.clone();
        let mut followed = 0;
        for pool in self.pools() {
            let concerned = entry.pool.as_ref().is_none_or(|of| of == pool.id());
            let lifted = concerned && entry.decision == Decision::Unrestrict;
            if !(named || lifted) || !self.pool_state(&pool).await?.settings.restricted.bar(&jurisdiction) {
                continue;
            }
            let last = self.enrolment(&entry.account, Some(pool.id())).await?;
            if stands(last.as_ref()) && !lifted && entry.pool.as_ref() != Some(pool.id()) {
                continue;
            }
            followed += 1;
            let sequence = entry.sequence + followed as u64;
            let restricted = restriction(&entry.account, pool.id(), &jurisdiction, sequence, entry.at);
            put(batch, &restricted);
            if entry.pool.as_ref() == Some(pool.id()) {
                // It is the last word there, in place of what it follows.
                last_of_scope = restricted;
            } else {
                batch.put(keys::account_enrolment(&entry.account, pool.id().as_str()), restricted.encode());
            }
        }
        let scope = match entry.decision {
            Decision::Locate => SCOPE,
            _ => entry.pool.as_ref().map_or("*", PoolId::as_str),
        };
        batch.put(keys::account_enrolment(&entry.account, scope), last_of_scope.encode());
        if named && scope != SCOPE {
            batch.put(keys::account_enrolment(&entry.account, SCOPE), entry.encode());
        }
        Ok(followed)
    }

    /// Restricts accounts that were in a jurisdiction before the pool restricted it, some at a time.
    pub(super) async fn restrict_jurisdictions(&self, pool: &Pool) -> Result<Work, AppError> {
        let restricted = self.pool_state(pool).await?.settings.restricted;
        let (list, key) = (fingerprint(&restricted), keys::counter(&format!("jurisdictions/{}", pool.id())));
        let known = self.store.get(PartitionId::SERVICE, &key).await?;
        let known = known.as_deref().and_then(Looked::decode);
        let after = match known {
            Some(known) if known.list == list && known.after.is_empty() => return Ok(Work::Idle),
            Some(known) if known.list == list => known.after,
            // Without any, there is nothing to look through for.
            None if restricted == RestrictedJurisdictions::default() => return Ok(Work::Idle),
            _ => Vec::new(),
        };
        let _guard = self.service_lock.lock().await;
        let mut range = keys::range_of_tag(keys::tag::ACCOUNT_ENROLMENT);
        if !after.is_empty() {
            range.from = keys::after(&after);
        }
        let found = self.store.scan(PartitionId::SERVICE, range, LOOKED_THROUGH, Direction::Forward).await?;
        let (mut sequence, at) = self.log_end(self.now()).await?;
        let mut batch = Batch::new(PartitionId::SERVICE);
        for (key, value) in &found {
            let of_scope = keys::parse_account_enrolment(key).filter(|(_, scope)| scope == SCOPE);
            let Some((account, _)) = of_scope else { continue };
            let named = EnrolmentEntry::decode(value)?;
            let last = self.enrolment(&account, Some(pool.id())).await?;
            if restricted.bar(&named.jurisdiction) && !stands(last.as_ref()) {
                sequence += 1;
                let entry = restriction(&account, pool.id(), &named.jurisdiction, sequence, at);
                put(&mut batch, &entry);
                batch.put(keys::account_enrolment(&account, pool.id().as_str()), entry.encode());
            }
        }
        let ended = found.len() < LOOKED_THROUGH;
        let last = found.last().filter(|_| !ended).map(|(key, _)| key.clone());
        batch.put(key, Looked { list, after: last.unwrap_or_default() }.encode());
        self.store.commit(vec![batch]).await?;
        Ok(Work::Done)
    }
}

#[cfg(test)]
#[path = "jurisdictions_tests.rs"]
mod tests;
