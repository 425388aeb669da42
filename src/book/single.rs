//! Commands that form a group alone: what they are decided on is what they are applied to.

use super::command::{Answer, EventsOutcome, PeriodOutcome, PositionCorrection, Refusal};
use super::committer::Committer;
use super::journal::Record;
use super::partition::AccountHash;
use super::stage::{Forming, Job, outcome_of, refuse};
use super::{HandOver, lock, read};
use crate::domain::feed::{MAX_POOL_TOTAL, SourceNumber};

impl Committer {
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
