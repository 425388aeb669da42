//! The custody service: it sends what it is asked for, late, twice, in part or wrongly, and acknowledges what it sees.

use std::collections::{BTreeMap, BTreeSet};

use crate::app::transfer::Acknowledgement;
use crate::domain::amount::BaseUnits;
use crate::domain::ids::TransferId;
use crate::domain::transfer::{Direction, Transfer, TransferState};

use super::calls::{Ask, CallState};
use super::fault::Fault;
use super::founding::POOLS;
use super::world::{Stop, World};

/// What the custody service remembers.
#[derive(Debug, Default)]
pub(super) struct Custody {
    /// How each FUND is carried out, from the moment that was decided.
    orders: BTreeMap<(usize, TransferId), Order>,
    /// What was rejected, or will not be sent in full: no more is sent of it.
    given_up: BTreeSet<(usize, TransferId)>,
    reports: u64,
}

/// The payments of one transfer, and how many of them were sent.
#[derive(Debug)]
struct Order {
    parts: Vec<u128>,
    sent: usize,
}

impl Order {
    fn sent_amount(&self) -> u128 {
        self.parts.iter().take(self.sent).sum()
    }
}

impl World {
    /// Carries out what is asked of custody. `faithful`: everything, and exactly.
    pub(super) async fn work_custody(&mut self, pool: usize, faithful: bool) -> Result<(), Stop> {
        let of = self.pool(pool)?;
        let open = self.ask_app("transfers", async move |app| app.open_transfers(&of).await).await?;
        for record in open.unwrap_or_default() {
            let transfer = &record.transfer;
            if !faithful && self.rng.below(3) == 0 {
                self.coverage.fault(Fault::CustodyDelays);
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
        if !self.custody.orders.contains_key(&key) && !self.custody.given_up.contains(&key) {
            let asked = transfer.asked.get();
            let amount = match chance {
                0 => {
                    self.coverage.fault(Fault::CustodyTooMuch);
                    asked + 1 + asked / 7
                }
                1 => {
                    self.coverage.fault(Fault::CustodyTooLittle);
                    self.custody.given_up.insert(key.clone());
                    (asked / 3).max(1)
                }
                2 => {
                    self.coverage.fault(Fault::CustodyRejects);
                    self.custody.given_up.insert(key.clone());
                    return self.give_up(pool, transfer).await;
                }
                _ => asked,
            };
            let split = !faithful && amount == asked && self.rng.below(4) == 0;
            let parts = if split { self.draw_parts(amount) } else { vec![amount] };
            self.custody.orders.insert(key.clone(), Order { parts, sent: 0 });
        }
        self.send_parts_of(pool, transfer, faithful).await?;
        let sent = self.custody.orders.get(&key).map_or(0, |order| order.sent);
        if chance == 3 && sent > 0 {
            // Once more, by mistake: the chain knows the memo.
            self.coverage.fault(Fault::CustodyAgain);
            let part = self.rng.index(sent);
            self.send(pool, &transfer.id, part).await?;
        }
        if !self.custody.given_up.contains(&key) {
            return self.acknowledge(pool, transfer, faithful).await;
        }
        if sent == 0 && !self.custody.orders.contains_key(&key) {
            return self.give_up(pool, transfer).await;
        }
        if transfer.seen >= transfer.acknowledged && !transfer.seen.is_zero() {
            if transfer.seen > transfer.acknowledged {
                return self.acknowledge(pool, transfer, true).await;
            }
            return self.give_up(pool, transfer).await;
        }
        Ok(())
    }

    /// Cuts an amount into some payments.
    fn draw_parts(&mut self, amount: u128) -> Vec<u128> {
        let mut parts = Vec::new();
        let mut left = amount;
        for _ in 0..self.rng.between(1, 3) {
            let part = self.rng.amount_below(left);
            if part > 0 {
                parts.push(part);
                left -= part;
            }
        }
        parts.push(left);
        parts
    }

    /// Sends what is not sent yet: one payment of several, or all of them.
    async fn send_parts_of(&mut self, pool: usize, transfer: &Transfer, faithful: bool) -> Result<(), Stop> {
        let key = (pool, transfer.id.clone());
        let all = faithful || self.rng.below(3) == 0;
        while let Some(order) = self.custody.orders.get(&key) {
            let part = order.sent;
            if part >= order.parts.len() || !self.send(pool, &transfer.id, part).await? {
                break;
            }
            if part == 1 {
                self.coverage.fault(Fault::CustodySplits);
            }
            if let Some(order) = self.custody.orders.get_mut(&key) {
                order.sent = part + 1;
            }
            if !all {
                break;
            }
        }
        Ok(())
    }

    /// No more will come of a FUND.
    async fn give_up(&mut self, pool: usize, transfer: &Transfer) -> Result<(), Stop> {
        let word = Acknowledgement::Rejected("not today".to_owned());
        self.acknowledge_once(pool, &transfer.id, word).await
    }

    /// Sends one payment from custody. The chain may be out; then it is tried again.
    async fn send(&mut self, pool: usize, id: &TransferId, part: usize) -> Result<bool, Stop> {
        let Some(chain) = self.chains.get(pool).map(|chain| chain.chain.clone()) else { return Ok(false) };
        let order = self.custody.orders.get(&(pool, id.clone()));
        let Some(amount) = order.and_then(|order| order.parts.get(part)).copied() else { return Ok(false) };
        let amount = BaseUnits::new(amount).unwrap_or(BaseUnits::MAX);
        let done = chain.custody_send_part(id, u32::try_from(part).unwrap_or(u32::MAX), amount).await;
        self.note(|| format!("custody sends {amount} to pool {pool} for {id}, part {part}: {done:?}"));
        Ok(done.is_ok())
    }

    /// Acknowledges what there is to acknowledge, or a part of it.
    async fn acknowledge(&mut self, pool: usize, transfer: &Transfer, faithful: bool) -> Result<(), Stop> {
        let fund = transfer.direction == Direction::Fund;
        let sent = self.custody.orders.get(&(pool, transfer.id.clone())).map_or(0, Order::sent_amount);
        let most = transfer.acknowledgeable().get();
        // A FUND may be acknowledged before it is seen, but not before it is sent.
        let unseen = matches!(transfer.state, TransferState::Requested | TransferState::Sent);
        let all = if fund && unseen { most.min(sent.saturating_sub(transfer.acknowledged.get())) } else { most };
        let amount = match if faithful { 99 } else { self.rng.below(30) } {
            0 if all > 1 => {
                self.coverage.fault(Fault::CustodyAckInParts);
                all / 2
            }
            1 => {
                self.coverage.fault(Fault::CustodyAckTooMuch);
                most + 1
            }
            _ => all,
        };
        if amount == 0 || (fund && sent == 0) {
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
