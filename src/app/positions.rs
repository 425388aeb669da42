//! One account in one pool, as readers are shown it.

use ruint::aliases::U256;

use crate::domain::amount::BaseUnits;
use crate::domain::eligibility::{Standing, Verdict};
use crate::domain::enrolment::EnrolmentEntry;
use crate::domain::ids::{AccountId, SourceId};
use crate::domain::period::OpenPeriod;
use crate::domain::time::UnixSeconds;
use crate::store::{PartitionId, keys};

use super::{App, AppError, Pool, Reason};

/// A position as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Whose.
    pub account: AccountId,
    /// The balance after the last event.
    pub balance: BaseUnits,
    /// What of it earns.
    pub eligible: BaseUnits,
    /// Why that and not the whole.
    pub verdict: Verdict,
    /// Whether the account is restricted.
    pub restricted: bool,
    /// The last decision on the account in this pool.
    pub enrolment: Option<EnrolmentEntry>,
    /// The source that owns it; `None` while only decisions were seen.
    pub source: Option<SourceId>,
    /// The time of its last event.
    pub last_event_at: UnixSeconds,
    /// The open period that now lies in, or the last open one before now; `None` before the pool's first.
    pub period: Option<OpenPeriod>,
    /// The weight gathered in that period.
    pub weight: u128,
    /// What late events took from the weight and could not be collected yet.
    pub uncollected_weight: U256,
    /// When all this was so.
    pub as_of: UnixSeconds,
}

impl App {
    /// An account's position in a pool, now.
    pub async fn position(&self, pool: &Pool, account: &AccountId) -> Result<Position, AppError> {
        let as_of = self.now();
        let open = self.book.open_periods(pool.number()).unwrap_or_default();
        let view = self.book.position(pool.number(), account, as_of).ok_or_else(|| {
            let message = format!("account {account} has no position in pool {}", pool.id());
            AppError::refused(Reason::UnknownAccount, message)
        })?;
        let period = open.iter().rev().find(|period| period.bounds.start <= as_of).or(open.first()).copied();
        let weight = view.weights.iter().find(|(index, _)| period.is_some_and(|period| period.index == *index));
        let verdict = match &period {
            Some(period) => Verdict::of(view.balance, view.standing, &period.policy),
            None => Verdict::Full,
        };
        // One read for both: it is all that a position asks the store for.
        let decided: Vec<EnrolmentEntry> =
            self.list(PartitionId::SERVICE, keys::account_enrolments_of(account), usize::MAX).await?;
        let concerns = |entry: &EnrolmentEntry| entry.pool.as_ref().is_none_or(|of| of == pool.id());
        Ok(Position {
            account: view.account,
            balance: view.balance,
            eligible: view.eligible,
            verdict,
            restricted: view.standing.contains(Standing::RESTRICTED),
            enrolment: decided.into_iter().filter(concerns).max_by_key(|entry| entry.sequence),
            source: view.owner.and_then(|number| self.source_name(number)),
            last_event_at: view.last_event_at,
            period,
            weight: weight.map_or(0, |(_, weight)| *weight),
            uncollected_weight: view.uncollected,
            as_of,
        })
    }
}
