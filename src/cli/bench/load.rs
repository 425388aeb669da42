//! The load: what every side of a comparison is given, the same for the same seed.

use bytes::Bytes;
use prost_types::Timestamp;

use crate::pb::v1;

/// The asset that everybody holds.
pub(super) const ASSET: &str = "ATOM";

/// The largest balance drawn, in base units: a million ATOM.
const MAX_BALANCE: u64 = 1_000_000_000_000;

/// The length of an account's id.
const ID_BYTES: usize = 14;

/// Accounts with balances, and changes of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// How many accounts there are.
    pub(super) positions: u64,
    /// What all of it follows from.
    pub(super) seed: u64,
}

/// A part of the accounts: those whose index leaves the rest `place` when divided by `of`. A position has one source, and a
/// row one writer at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) place: u64,
    pub(super) of: u64,
}

/// What one account holds from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Update {
    /// The account's index.
    pub(super) account: u64,
    /// Its balance in base units.
    pub(super) base_units: u64,
}

/// The next figure of a sequence that looks random (SplitMix64, Steele and others 2014).
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A figure below `bound`, which is far below 2^64: the bias is less than one in a million.
fn below(state: &mut u64, bound: u64) -> u64 {
    ((u128::from(draw(state)) * u128::from(bound)) >> 64) as u64
}

impl Share {
    /// How many of the first `positions` accounts are in it.
    pub(super) fn size(self, positions: u64) -> u64 {
        (positions + self.of - 1 - self.place) / self.of
    }
}

impl Load {
    /// The id of an account.
    pub(super) fn account(index: u64) -> String {
        format!("acct-{index:09}")
    }

    /// The opening balances of the accounts `from..to` of a share, counted within it.
    pub(super) fn openings(&self, share: Share, from: u64, to: u64) -> Vec<Update> {
        let opening = |place: u64| {
            let account = place * share.of + share.place;
            let mut state = self.seed ^ account.wrapping_mul(0xa076_1d64_78bd_642f);
            Update { account, base_units: 1 + below(&mut state, MAX_BALANCE) }
        };
        (from..to).map(opening).collect()
    }

    /// The `number`-th batch of `size` changes: random accounts of a share, random balances.
    pub(super) fn updates(&self, share: Share, number: u64, size: usize) -> Vec<Update> {
        let accounts = share.size(self.positions);
        let mut state = self.seed ^ (number + 1).wrapping_mul(0xe703_7ed1_a0b4_28db) ^ (share.place << 56);
        let update = |_| {
            let account = below(&mut state, accounts) * share.of + share.place;
            Update { account, base_units: 1 + below(&mut state, MAX_BALANCE) }
        };
        (0..size).map(update).collect()
    }

    /// An account at random.
    pub(super) fn any(&self, state: &mut u64) -> u64 {
        below(state, self.positions)
    }
}

/// The changes as columns, all as of one moment.
pub(super) fn packed(updates: &[Update], at_seconds: i64) -> v1::PackedBalances {
    let count = updates.len();
    let mut accounts = Vec::with_capacity(count * ID_BYTES);
    let mut balances = Vec::with_capacity(count * 8);
    let mut times = Vec::with_capacity(count * 8);
    for update in updates {
        accounts.extend_from_slice(&id(update.account));
        balances.extend_from_slice(&update.base_units.to_le_bytes());
        times.extend_from_slice(&at_seconds.to_le_bytes());
    }
    v1::PackedBalances {
        count: u32::try_from(count).unwrap_or(u32::MAX),
        assets: vec![ASSET.to_owned()],
        account_lengths: Bytes::from(vec![ID_BYTES as u8; count]),
        accounts: Bytes::from(accounts),
        asset_indices: Bytes::new(),
        balances_low: Bytes::from(balances),
        balances_high: Bytes::new(),
        event_times: Bytes::from(times),
    }
}

/// The same as messages.
pub(super) fn rows(updates: &[Update], at_seconds: i64) -> v1::BalanceRows {
    let row = |update: &Update| v1::BalanceRow {
        account: Load::account(update.account),
        balance: Some(v1::Amount { asset: ASSET.to_owned(), base_units: update.base_units.to_string() }),
        event_time: Some(Timestamp { seconds: at_seconds, nanos: 0 }),
    };
    v1::BalanceRows { events: updates.iter().map(row).collect() }
}

/// An account's id without the cost of formatting it.
fn id(index: u64) -> [u8; ID_BYTES] {
    let mut id = *b"acct-000000000";
    let mut rest = index;
    for digit in id[5..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let load = Load { positions: 1_000, seed: 7 };
        let updates = load.updates(Share { place: 1, of: 4 }, 3, 50);
        let (packed, rows) = (packed(&updates, 5), rows(&updates, 5));
        for (place, row) in rows.events.iter().enumerate() {
            let account = &packed.accounts[place * ID_BYTES..(place + 1) * ID_BYTES];
            assert_eq!(row.account.as_bytes(), account);
            let low = u64::from_le_bytes(packed.balances_low[place * 8..][..8].try_into().unwrap());
            assert_eq!(row.balance.as_ref().unwrap().base_units, low.to_string());
        }
    }

    #[test]
    fn shares_are_apart_and_cover_all() {
        let load = Load { positions: 10, seed: 7 };
        let mut seen: Vec<u64> = Vec::new();
        for place in 0..3 {
            let share = Share { place, of: 3 };
            seen.extend(load.openings(share, 0, share.size(10)).iter().map(|update| update.account));
            for update in load.updates(share, 1, 100) {
                assert!(update.account < 10 && update.account % 3 == place, "{update:?}");
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<u64>>());
    }
}
