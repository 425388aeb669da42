//! Commands that form a group alone: what they are decided on is what they are applied to.

use super::command::{Answer, EventsOutcome, PeriodOutcome, PositionCorrection, Refusal};
use super::committer::Committer;
use super::journal::Record;
use super::partition::AccountHash;
use super::stage::{Forming, Job, outcome_of, refuse};
use super::{HandOver, SnapshotBatch, SnapshotOutcome, lock, read};
use crate::domain::feed::{MAX_POOL_TOTAL, RejectReason, SourceNumber};
use crate::domain::position::BalanceChange;
use crate::domain::time::UnixSeconds;

impl Committer {
    /// Puts balances of a snapshot into the group: those that the positions take. The source must still be where the
    /// snapshot stands. Says whether it was refused.
    pub(super) fn take_snapshot(
        &self,
        forming: &mut Forming,
        now: UnixSeconds,
        batch: SnapshotBatch,
        answer: Answer<SnapshotOutcome>,
    ) -> bool {
        let SnapshotBatch { source, sequence, snapshot, at, balances } = batch;
        let last = lock(&self.shared.sources).get(&source).map(|source| source.cursor.last());
        match last {
            None => return refuse(answer, Refusal::UnknownSource { number: source }),
            Some(last) if last < sequence => return refuse(answer, Refusal::Gap { expected: last.saturating_add(1) }),
            Some(last) if last > sequence => return refuse(answer, Refusal::SnapshotPassed { last }),
            Some(_) => {}
        }
        let gates = match self.gates(balances.iter().map(|(pool, ..)| (*pool, at)), now) {
            Ok(gates) => gates,
            Err(refusal) => return refuse(answer, refusal),
        };
        let pools = read(&self.shared.pools);
        let mut outcome = SnapshotOutcome::default();
        for (number, account, balance) in balances {
            let (Some(gate), Some(pool)) = (gates.get(&number), pools.get(&number)) else { continue };
            let hash = AccountHash::of(account.as_str().as_bytes());
            let partition = hash.partition(gate.partitions);
            let Some(rows) = pool.partitions.get(partition) else { continue };
            let change = BalanceChange { source, sequence, balance, at };
            let taken = read(rows).would_take(now, account.as_str(), hash.slot, change);
            let taken = taken.and_then(|()| match forming.is_full(number, gate, balance) {
                true => Err(RejectReason::PoolTotalTooLarge),
                false => Ok(()),
            });
            match taken {
                Ok(()) => {
                    let record = Record::SnapshotBalance { account, source, sequence, at, balance, snapshot };
                    forming.add(number, partition, forming.jobs(), hash.slot, record);
                }
                Err(reason) => outcome.refused.push((number, account, reason)),
            }
        }
        forming.wait(Job::Snapshot { outcome, answer });
        false
    }

    /// Puts a hand-over into the group. Says whether it was refused.
    pub(super) fn take_hand_over(
        &self,
        forming: &mut Forming,
        hand_over: HandOver,
        answer: Answer<PeriodOutcome>,
    ) -> bool {
        let HandOver { pool: number, account, from, to } = hand_over;
        let Some(pool) = read(&self.shared.pools).get(&number).cloned() else {
            return refuse(answer, Refusal::UnknownPool { pool: number });
        };
        let known = |source: SourceNumber| lock(&self.shared.sources).contains_key(&source);
        if let Some(unknown) = [from, to].into_iter().find(|source| !known(*source)) {
            return refuse(answer, Refusal::UnknownSource { number: unknown });
        }
        let hash = AccountHash::of(account.as_str().as_bytes());
        let partition = hash.partition(pool.partitions.len());
        let row = pool.partitions.get(partition).and_then(|rows| {
            let rows = read(rows);
            rows.find(account.as_str()).and_then(|ordinal| rows.row(ordinal).copied())
        });
        let Some(mut row) = row else { return refuse(answer, Refusal::UnknownPosition { pool: number }) };
        let outcome = match row.hand_over(from, to) {
            Ok(true) => PeriodOutcome::Done,
            Ok(false) => PeriodOutcome::AlreadyDone,
            Err(_) => return refuse(answer, Refusal::NotOwner),
        };
        if outcome == PeriodOutcome::Done {
            let record = Record::HandOver { account, from, to };
            forming.add(number, partition, forming.jobs(), hash.slot, record);
        }
        forming.wait(Job::Period { answer, outcome });
        false
    }

    /// Puts a correction into the group. It consumes its sequence, whatever comes of it. Says whether it was refused.
    pub(super) fn take_correction(
        &self,
        forming: &mut Forming,
        command: PositionCorrection,
        body: u64,
        answer: Answer<EventsOutcome>,
    ) -> bool {
        let PositionCorrection { pool: number, sequence, account, correction } = command;
        let Some(pool) = read(&self.shared.pools).get(&number).cloned() else {
            return refuse(answer, Refusal::UnknownPool { pool: number });
        };
        let mut sources = lock(&self.shared.sources);
        let cursor = &mut sources.entry(SourceNumber::CORRECTION).or_default().cursor;
        let admission = match cursor.admit(sequence, &[body]) {
            Ok(admission) => admission,
            Err(error) => return refuse(answer, error.into()),
        };
        let mut outcome = outcome_of(admission);
        if admission.known() == 0 {
            cursor.take(body);
            forming.note(SourceNumber::CORRECTION, sequence);
            let eligible = u128::try_from(read(&pool.meta).eligible).unwrap_or(0);
            let brought = eligible.saturating_add(correction.balance.get());
            let pool_full = correction.until.is_none() && brought > MAX_POOL_TOTAL;
            let hash = AccountHash::of(account.as_str().as_bytes());
            let record = Record::Correction { account, sequence, correction, pool_full };
            forming.add(number, hash.partition(pool.partitions.len()), forming.jobs(), hash.slot, record);
        }
        outcome.durable_sequence = cursor.last();
        let source = SourceNumber::CORRECTION;
        forming.wait(Job::Events { source, first: sequence, known: admission.known(), outcome, answer });
        false
    }
}
