//! Events into columns: the packed form of a batch.

use bytes::Bytes;

use crate::pb::v1::PackedBalances;

/// The most events that the feed writer puts into one batch; the server takes more.
pub const MAX_EVENTS: usize = 8_192;

/// The most assets that one packed batch may speak of.
const MAX_ASSETS: usize = 256;

/// One balance event: what an account holds of an asset from a moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceEvent {
    /// The customer, by the ledger service's own id: 1 to 64 bytes of printable ASCII without spaces.
    pub account: String,
    /// The asset, such as `ATOM`.
    pub asset: String,
    /// The balance after the event, in base units.
    pub base_units: u128,
    /// When the balance became this, in whole seconds since 1970-01-01T00:00:00Z.
    pub event_seconds: i64,
}

/// An event that can't be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventError {
    /// Its place among those given, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The packed form of `events`.
pub fn pack(events: &[BalanceEvent]) -> Result<PackedBalances, EventError> {
    let mut assets: Vec<&str> = Vec::new();
    let mut account_lengths = Vec::with_capacity(events.len());
    let mut accounts = Vec::with_capacity(events.iter().map(|event| event.account.len()).sum());
    let mut asset_indices = Vec::with_capacity(events.len());
    let mut low = Vec::with_capacity(events.len() * 8);
    let mut high = Vec::with_capacity(events.len() * 8);
    let mut times = Vec::with_capacity(events.len() * 8);
    for (index, event) in events.iter().enumerate() {
        let refuse = |problem| EventError { index, problem };
        let length = u8::try_from(event.account.len()).ok().filter(|length| (1..=64).contains(length));
        let printable = event.account.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        let length = length.filter(|_| printable);
        account_lengths.push(length.ok_or(refuse("an account is 1 to 64 bytes of printable ASCII without spaces"))?);
        accounts.extend_from_slice(event.account.as_bytes());
        let place = assets.iter().position(|asset| *asset == event.asset).unwrap_or_else(|| {
            assets.push(&event.asset);
            assets.len() - 1
        });
        asset_indices.push(u8::try_from(place).map_err(|_| refuse("a batch speaks of at most 256 assets"))?);
        let units = event.base_units.to_le_bytes();
        low.extend_from_slice(&units[..8]);
        high.extend_from_slice(&units[8..]);
        times.extend_from_slice(&event.event_seconds.to_le_bytes());
    }
    if assets.len() <= 1 {
        asset_indices.clear();
    }
    if high.iter().all(|byte| *byte == 0) {
        high.clear();
    }
    let count = u32::try_from(events.len());
    Ok(PackedBalances {
        count: count.map_err(|_| EventError { index: 0, problem: "a batch is too large" })?,
        assets: assets.into_iter().map(str::to_owned).collect(),
        account_lengths: Bytes::from(account_lengths),
        accounts: Bytes::from(accounts),
        asset_indices: Bytes::from(asset_indices),
        balances_low: Bytes::from(low),
        balances_high: Bytes::from(high),
        event_times: Bytes::from(times),
    })
}

/// The front of `events` that fits one batch: at most [`MAX_EVENTS`] events of at most 256 assets.
pub(super) fn front(events: &[BalanceEvent]) -> usize {
    let mut assets: Vec<&str> = Vec::new();
    let fits = |event: &BalanceEvent, assets: &[&str]| assets.len() < MAX_ASSETS || assets.contains(&&*event.asset);
    for (index, event) in events.iter().take(MAX_EVENTS).enumerate() {
        if !fits(event, &assets) {
            return index;
        }
        if assets.last() != Some(&&*event.asset) && !assets.contains(&&*event.asset) {
            assets.push(&event.asset);
        }
    }
    events.len().min(MAX_EVENTS)
}
