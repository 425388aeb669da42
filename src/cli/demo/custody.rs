//! The custody service's side: sends what a FUND asks for, and says what it sent and received.

use std::collections::{BTreeMap, BTreeSet};

use super::DemoError;
use super::amounts::units;
use crate::client::Client;
use crate::pb::sim::v1 as sim;
use crate::pb::v1;
use v1::{TransferDirection, TransferOutcome, TransferState};

/// What custody has done, by pool.
#[derive(Debug, Default)]
pub(super) struct Custody {
    done: BTreeSet<String>,
    moved: BTreeMap<String, Moved>,
}

/// What custody has moved for one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) sent: u128,
    pub(super) sent_count: u64,
    pub(super) received: u128,
    pub(super) received_count: u64,
}

impl Custody {
    /// Carries out everything that is asked for now.
    pub(super) async fn serve(&mut self, client: &Client) -> Result<(), DemoError> {
        let mut reader = client.transfers("", "").until_caught_up();
        while let Some(item) = reader.next().await.map_err(DemoError::call("StreamTransfers"))? {
            if let Some(transfer) = item.transfer {
                self.carry_out(client, transfer).await?;
            }
        }
        Ok(())
    }

    /// What was moved for `pool`.
    pub(super) fn moved(&self, pool: &str) -> Moved {
        self.moved.get(pool).copied().unwrap_or_default()
    }

    async fn carry_out(&mut self, client: &Client, transfer: v1::Transfer) -> Result<(), DemoError> {
        let wanted = match (transfer.direction(), transfer.state()) {
            (TransferDirection::Fund, TransferState::Requested) => TransferOutcome::Sent,
            (TransferDirection::Defund, TransferState::Sent) => TransferOutcome::Received,
            _ => return Ok(()),
        };
        if self.done.contains(&transfer.name) {
            return Ok(());
        }
        let name = transfer.name.clone();
        let pool = name.split("/transfers/").next().unwrap_or_default().to_owned();
        let (amount, reference) = if wanted == TransferOutcome::Sent {
            let request = sim::SendFromCustodyRequest {
                request_id: request_id("send", &name),
                transfer: name.clone(),
                amount: transfer.amount.clone(),
            };
            let sent = client.send_from_custody(request).await.map_err(DemoError::call("SendFromCustody"))?;
            (transfer.amount, sent.transaction)
        } else {
            // The transaction was seen leaving the staking address; what was asked for may be more.
            let seen = transfer.observed_amount.filter(|seen| units(Some(seen)) > 0).or(transfer.amount);
            (seen, transfer.transactions.last().cloned().unwrap_or_default())
        };
        let moved = self.moved.entry(pool).or_default();
        if wanted == TransferOutcome::Sent {
            moved.sent += units(amount.as_ref());
            moved.sent_count += 1;
        } else {
            moved.received += units(amount.as_ref());
            moved.received_count += 1;
        }
        let request = v1::AckTransferRequest {
            request_id: request_id("ack", &name),
            name: name.clone(),
            outcome: wanted.into(),
            amount,
            custody_reference: reference,
            reason: String::new(),
        };
        client.ack_transfer(request).await.map_err(DemoError::call("AckTransfer"))?;
        self.done.insert(name);
        Ok(())
    }
}

/// An id that is the same whenever the same thing is done again.
fn request_id(what: &str, name: &str) -> String {
    let id = format!("{what}-{}", name.replace('/', "-"));
    // What tells transfers apart stands at the end.
    id.get(id.len().saturating_sub(128)..).unwrap_or(&id).to_owned()
}
