//! The ledger service's other half: it reads payouts, credits each once, and acknowledges what it credited.

use crate::app::pay::RejectedAck;
use crate::domain::amount::BaseUnits;
use crate::domain::payout::SetHash;
use crate::domain::period::PeriodIndex;

use super::calls::{Ask, CallState};
use super::fault::Fault;
use super::world::{Stop, World};

/// A released distribution on its way to the customers.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) pool: usize,
    pub(super) period: PeriodIndex,
    pub(super) revision: u32,
    hash: SetHash,
    /// Account and amount, in the order of the stream.
    payouts: Vec<(usize, u128)>,
    rejected: Vec<usize>,
    /// Up to where acknowledgements were asked for.
    asked: u64,
    /// Whether all of it is acknowledged.
    pub(super) done: bool,
}

impl World {
    /// Reads what is due of a pool, credits it, and acknowledges it, in some parts.
    pub(super) async fn take_payouts(&mut self, pool: usize) -> Result<(), Stop> {
        self.acknowledge_read(pool).await?;
        let of = self.pool(pool)?;
        let due = self.ask_app("payouts due", async move |app| app.unsettled_distributions(&of, None, 4).await).await?;
        for record in due.unwrap_or_default() {
            let known =
                |one: &Delivery| one.pool == pool && one.period == record.period && one.revision == record.revision;
            if self.ledger.deliveries.iter().any(known) {
                continue;
            }
            let of = self.pool(pool)?;
            let (period, revision) = (record.period, record.revision);
            let middle = self.rng.below(record.paid_count + 1);
            let read = async move |app: std::sync::Arc<crate::app::App>| {
                let limit = usize::try_from(middle).unwrap_or(0);
                let mut all = app.payouts_from(&of, period, revision, 0, limit).await?;
                all.extend(app.payouts_from(&of, period, revision, middle, usize::MAX).await?);
                Ok(all)
            };
            let Some(read) = self.ask_app("payouts", read).await? else { continue };
            let mut hash = SetHash::EMPTY;
            let mut payouts = Vec::new();
            for (index, payout) in (0_u64..).zip(&read) {
                hash.add(&payout.account, payout.amount.get());
                let account = self.names.accounts.iter().position(|account| *account == payout.account);
                let account = account.ok_or_else(|| Stop::failed(format!("a payout to {}", payout.account)))?;
                if payout.index != index {
                    return Err(Stop::failed(format!("payout {index} of period {period} comes as {}", payout.index)));
                }
                payouts.push((account, payout.amount.get()));
            }
            let sum = BaseUnits::sum(read.iter().map(|payout| payout.amount));
            let whole = sum == Ok(record.figures.payouts) && read.len() as u64 == record.paid_count;
            if !whole || hash != record.hash {
                return Err(Stop::failed(format!(
                    "pool {pool}, period {period}/{revision}: {} payouts of {sum:?} with hash {hash} were read, the \
                     distribution says {} of {} with hash {}",
                    read.len(),
                    record.paid_count,
                    record.figures.payouts,
                    record.hash
                )));
            }
            self.credit(Delivery {
                pool,
                period,
                revision,
                hash,
                payouts,
                rejected: Vec::new(),
                asked: 0,
                done: false,
            })
            .await?;
        }
        self.acknowledge_read(pool).await
    }

    /// Credits every payout of a distribution but for some that are rejected, in the order of accounts.
    async fn credit(&mut self, mut delivery: Delivery) -> Result<(), Stop> {
        let mut sorted = delivery.payouts.clone();
        sorted.sort_unstable();
        let mut credits = Vec::new();
        for (account, amount) in sorted {
            if self.rng.below(25) == 0 {
                delivery.rejected.push(account);
                self.coverage.fault(Fault::PayoutRejected);
                continue;
            }
            let key = (delivery.pool, delivery.period.0, account);
            if self.ledger.credited.insert(key, amount).is_some() {
                return Err(Stop::failed(format!("the payout {key:?} came twice")));
            }
            credits.push((account, amount));
        }
        let pool = delivery.pool;
        self.ledger.deliveries.push(delivery);
        for (account, amount) in credits {
            let held = self.ledger.holding(pool, account).map_or(0, |holding| holding.balance);
            self.tell(pool, account, held + amount, 0).await?;
        }
        Ok(())
    }

    /// Acknowledges what is credited. What was asked for and not answered is asked again elsewhere.
    async fn acknowledge_read(&mut self, pool: usize) -> Result<(), Stop> {
        for number in 0..self.ledger.deliveries.len() {
            let Some(delivery) = self.ledger.deliveries.get(number).cloned() else { continue };
            if delivery.pool != pool {
                continue;
            }
            let all = delivery.payouts.len() as u64;
            // Which payouts a part holds depends on the partitions. So a part is acknowledged only where the rest is sure to
            // follow before the service decides on anything: in one go, on a disk that is well.
            let in_parts = self.disk_is_well();
            let mut through = delivery.asked;
            while through < all {
                let whole = self.rng.below(2) == 0;
                let part = through + 1 + self.rng.below(all - through);
                through = if whole || !in_parts { all } else { part.min(all) };
                let wrong = self.rng.below(60) == 0;
                if wrong {
                    self.acknowledge_wrongly(&delivery, through).await?;
                }
                if let Some(delivery) = self.ledger.deliveries.get_mut(number) {
                    delivery.asked = through;
                }
                self.ask(acknowledgement(&self.names.accounts, &delivery, through, delivery.hash)).await?;
                if self.rng.below(4) == 0 {
                    // The same again under an id of its own.
                    self.ask(acknowledgement(&self.names.accounts, &delivery, through, delivery.hash)).await?;
                }
            }
        }
        Ok(())
    }

    async fn acknowledge_wrongly(&mut self, delivery: &Delivery, through: u64) -> Result<(), Stop> {
        let (fault, hash, through) = if self.rng.below(2) == 0 {
            (Fault::AckWrongHash, SetHash::EMPTY, through)
        } else {
            (Fault::AckPastEnd, delivery.hash, delivery.payouts.len() as u64 + 1)
        };
        self.coverage.fault(fault);
        let state = self.ask(acknowledgement(&self.names.accounts, delivery, through, hash)).await?;
        if state == CallState::Done {
            return Err(Stop::failed(format!("{} was taken", fault.name())));
        }
        Ok(())
    }

    /// An acknowledgement was answered.
    pub(super) fn payouts_acknowledged(&mut self, pool: usize, period: PeriodIndex, revision: u32, through: u64) {
        for delivery in &mut self.ledger.deliveries {
            let same = delivery.pool == pool && delivery.period == period && delivery.revision == revision;
            delivery.done |= same && through == delivery.payouts.len() as u64;
        }
    }
}

fn acknowledgement(
    accounts: &[crate::domain::ids::AccountId],
    delivery: &Delivery,
    through: u64,
    hash: SetHash,
) -> Ask {
    let rejected = (0_u64..)
        .zip(&delivery.payouts)
        .filter(|(index, (account, _))| *index < through && delivery.rejected.contains(account));
    let rejected = rejected.filter_map(|(index, (account, _))| {
        let account = accounts.get(*account)?.clone();
        let (reason, message) = ("ACCOUNT_CLOSED".to_owned(), "the account is closed".to_owned());
        Some(RejectedAck { index, account, reason, message })
    });
    Ask::AckPayouts {
        pool: delivery.pool,
        period: delivery.period,
        revision: delivery.revision,
        hash,
        through,
        rejected: rejected.collect(),
    }
}
