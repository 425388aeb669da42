//! The custody service: it sends what it is asked for, late, twice, in part or wrongly, and acknowledges what it sees.

use std::collections::BTreeSet;

use crate::app::transfer::Acknowledgement;
use crate::domain::amount::BaseUnits;
use crate::domain::ids::TransferId;
use crate::domain::transfer::{Direction, Transfer, TransferState};

use super::calls::{Ask, CallState};
use super::founding::POOLS;
use super::world::{Stop, World};

/// What the custody service remembers.
#[derive(Debug, Default)]
pub(super) struct Custody {
    /// What was sent.
    sent: BTreeSet<(usize, TransferId)>,
    /// What was rejected, or will not be sent in full: no more is sent of it.
    given_up: BTreeSet<(usize, TransferId)>,
    reports: u64,
}

impl World {
    /// Carries out what is asked of custody. `faithful`: everything, and exactly.
    pub(super) async fn work_custody(&mut self, pool: usize, faithful: bool) -> Result<(), Stop> {
        let of = self.pool(pool)?;
        let open = self.ask_app("transfers", async move |app| app.open_transfers(&of).await).await?;
        for record in open.unwrap_or_default() {
            let transfer = &record.transfer;
            if !faithful && self.rng.below(3) == 0 {
                self.coverage.hit("action", "custody_delays");
                continue;
            }
            match transfer.direction {
                Direction::Fund => self.fund(pool, transfer, faithful).await?,
                Direction::Defund => self.acknowledge(pool, transfer, faithful).await?,
            }
        }
        Ok(())
    }

    async fn fund(&mut self, pool: usize, transfer: &Transfer, faithful: bool) -> Result<(), Stop> {
        let key = (pool, transfer.id.clone());
        let chance = if faithful { 99 } else { self.rng.below(40) };
        let sent = self.custody.sent.contains(&key);
        let given_up = self.custody.given_up.contains(&key);
        if !sent && !given_up {
            let asked = transfer.asked.get();
            let amount = match chance {
                0 => {
                    self.coverage.hit("action", "custody_sends_too_much");
                    asked + 1 + asked / 7
                }
                1 => {
                    self.coverage.hit("action", "custody_sends_too_little");
                    self.custody.given_up.insert(key.clone());
                    (asked / 3).max(1)
                }
                2 => {
                    self.coverage.hit("action", "custody_rejects");
                    self.custody.given_up.insert(key.clone());
                    return self.give_up(pool, transfer).await;
                }
                _ => asked,
            };
            let amount = BaseUnits::new(amount).unwrap_or(transfer.asked);
            if self.send(pool, &transfer.id, amount).await? {
                self.custody.sent.insert(key.clone());
            }
        } else if sent && chance == 3 {
            // Once more, by mistake: the chain knows the memo.
            self.coverage.hit("action", "custody_sends_again");
            self.send(pool, &transfer.id, transfer.asked).await?;
        }
        if given_up && sent && transfer.seen >= transfer.acknowledged && !transfer.seen.is_zero() {
            if transfer.seen > transfer.acknowledged {
                return self.acknowledge(pool, transfer, true).await;
            }
            return self.give_up(pool, transfer).await;
        }
        if given_up && !sent {
            return self.give_up(pool, transfer).await;
        }
        if given_up {
            return Ok(());
        }
        self.acknowledge(pool, transfer, faithful).await
    }

    /// No more will come of a FUND.
    async fn give_up(&mut self, pool: usize, transfer: &Transfer) -> Result<(), Stop> {
        let word = Acknowledgement::Rejected("not today".to_owned());
        self.acknowledge_once(pool, &transfer.id, word).await
    }

    /// Sends from custody. The chain may be out; then it is tried again.
    async fn send(&mut self, pool: usize, id: &TransferId, amount: BaseUnits) -> Result<bool, Stop> {
        let Some(chain) = self.chains.get(pool).map(|chain| chain.chain.clone()) else { return Ok(false) };
        let done = chain.custody_send(id, amount).await;
        self.note(|| format!("custody sends {amount} to pool {pool} for {id}: {done:?}"));
        Ok(done.is_ok())
    }

    /// Acknowledges what there is to acknowledge, or a part of it.
    async fn acknowledge(&mut self, pool: usize, transfer: &Transfer, faithful: bool) -> Result<(), Stop> {
        let all = transfer.acknowledgeable().get();
        let amount = match if faithful { 99 } else { self.rng.below(30) } {
            0 if all > 1 => {
                self.coverage.hit("action", "custody_acknowledges_in_part");
                all / 2
            }
            1 => {
                self.coverage.hit("action", "custody_acknowledges_too_much");
                all + 1
            }
            _ => all,
        };
        // A FUND may be acknowledged before it is seen, but not before it is sent.
        let early = transfer.direction == Direction::Fund && transfer.state == TransferState::Requested;
        if amount == 0 || (early && !self.custody.sent.contains(&(pool, transfer.id.clone()))) {
            return Ok(());
        }
        let word = Acknowledgement::Moved(BaseUnits::new(amount).unwrap_or_default());
        self.acknowledge_once(pool, &transfer.id, word).await
    }

    /// One acknowledgement of a transfer at a time, so that no part is acknowledged under two ids.
    async fn acknowledge_once(&mut self, pool: usize, id: &TransferId, word: Acknowledgement) -> Result<(), Stop> {
        let waiting = self.calls.iter().any(|call| {
            let same = matches!(&call.ask, Ask::AckTransfer { pool: p, id: other, .. } if *p == pool && other == id);
            same && call.state == CallState::Open
        });
        if waiting {
            return Ok(());
        }
        self.ask(Ask::AckTransfer { pool, id: id.clone(), word }).await.map(|_| ())
    }

    /// Says what custody holds, late or early.
    pub(super) async fn report_custody(&mut self) -> Result<(), Stop> {
        let pool = self.rng.index(POOLS);
        self.custody.reports += 1;
        let balance = BaseUnits::from_u64(self.rng.below(1 << 60));
        let as_of = self.now().plus(-i64::try_from(self.rng.below(600)).unwrap_or(0));
        self.ask(Ask::ReportCustody { pool, balance, as_of }).await.map(|_| ())
    }
}
