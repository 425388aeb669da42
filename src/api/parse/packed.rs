//! Events as columns. Every length, count and index is checked before the first event is handed out; nothing is copied.

use super::feed::{Event, check_asset, check_count, is_printable};
use super::{Parsed, Path};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::AccountId;
use crate::domain::time::UnixSeconds;
use crate::pb::v1;

/// The most assets that a batch may speak of: an index is one byte.
const MAX_ASSETS: usize = 256;

/// A batch of columns that fit together.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    assets: &'a [String],
    account_lengths: &'a [u8],
    accounts: &'a str,
    /// Empty where every event is of the first asset.
    asset_indices: &'a [u8],
    balances_low: &'a [[u8; 8]],
    /// Empty where all of it is zero.
    balances_high: &'a [[u8; 8]],
    /// Empty where the balances have no times of their own.
    event_times: &'a [[u8; 8]],
}

impl<'a> Packed<'a> {
    /// Checks a batch.
    pub(super) fn read(path: &Path<'_>, packed: &'a v1::PackedBalances) -> Parsed<Self> {
        let checked = Self::read_untimed(path, packed)?;
        let event_times = column(&path.field("event_times"), &packed.event_times, checked.len())?;
        Ok(Self { event_times, ..checked })
    }

    /// Checks balances that have no times of their own: all of theirs are 1970.
    pub(super) fn read_balances(path: &Path<'_>, packed: &'a v1::PackedBalances) -> Parsed<Self> {
        if !packed.event_times.is_empty() {
            return Err(path.field("event_times").wrong("TIME_NOT_EMPTY", "is empty: as_of_time is the time of all"));
        }
        Self::read_untimed(path, packed)
    }

    fn read_untimed(path: &Path<'_>, packed: &'a v1::PackedBalances) -> Parsed<Self> {
        let too_many = || path.field("count").wrong("BATCH_TOO_LARGE", "does not fit this machine");
        let count = usize::try_from(packed.count).map_err(|_| too_many())?;
        check_count(&path.field("count"), count)?;
        let assets = Self::assets(path, &packed.assets, count)?;
        let account_lengths = &packed.account_lengths[..];
        let accounts = Self::accounts(path, account_lengths, &packed.accounts, count)?;
        let indices = path.field("asset_indices");
        let asset_indices = &packed.asset_indices[..];
        if !(asset_indices.is_empty() && assets.len() == 1) {
            length(&indices, asset_indices.len(), count, 1)?;
        }
        if let Some(place) = first_wrong(asset_indices, |index| usize::from(index) < assets.len()) {
            let (index, assets) = (asset_indices[place], assets.len());
            let description = format!("entry {place} is {index}, and there are {assets} assets, counted from 0");
            return Err(malformed(&indices, description));
        }
        let high = path.field("balances_high");
        let balances_high =
            if packed.balances_high.is_empty() { &[][..] } else { column(&high, &packed.balances_high, count)? };
        Ok(Self {
            assets,
            account_lengths,
            accounts,
            asset_indices,
            balances_low: column(&path.field("balances_low"), &packed.balances_low, count)?,
            balances_high,
            event_times: &[],
        })
    }

    fn assets(path: &Path<'_>, assets: &'a [String], count: usize) -> Parsed<&'a [String]> {
        let path = path.field("assets");
        if assets.is_empty() && count > 0 {
            return Err(path.missing());
        }
        if assets.len() > MAX_ASSETS {
            return Err(malformed(&path, format!("has {} entries; it has at most {MAX_ASSETS}", assets.len())));
        }
        for (place, asset) in assets.iter().enumerate() {
            check_asset(&path.item(place), asset)?;
            if assets.iter().take(place).any(|before| before == asset) {
                return Err(malformed(&path.item(place), "is there twice"));
            }
        }
        Ok(assets)
    }

    fn accounts(path: &Path<'_>, lengths: &[u8], accounts: &'a [u8], count: usize) -> Parsed<&'a str> {
        let lengths_path = path.field("account_lengths");
        length(&lengths_path, lengths.len(), count, 1)?;
        let most = AccountId::MAX_BYTES;
        if let Some(place) = first_wrong(lengths, |length| (1..=most).contains(&usize::from(length))) {
            let description = format!("entry {place} is {}; an account has 1 to {most} bytes", lengths[place]);
            return Err(lengths_path.wrong("ACCOUNT_MALFORMED", description));
        }
        let path = path.field("accounts");
        let expected: usize = lengths.iter().map(|length| usize::from(*length)).sum();
        if accounts.len() != expected {
            return Err(malformed(&path, format!("has {} bytes; the lengths add up to {expected}", accounts.len())));
        }
        let text = std::str::from_utf8(accounts).ok().filter(|_| is_printable(accounts));
        text.ok_or_else(|| {
            let wrong = first_wrong(accounts, |byte| is_printable(&[byte])).unwrap_or_default();
            let ends = lengths.iter().scan(0, |end, length| {
                *end += usize::from(*length);
                Some(*end)
            });
            let place = ends.take_while(|end| *end <= wrong).count();
            let description = format!("entry {place} is not of printable ASCII without spaces");
            path.wrong("ACCOUNT_MALFORMED", description)
        })
    }

    /// What it speaks of.
    pub(super) const fn of(&self) -> &'a [String] {
        self.assets
    }

    /// How many events.
    pub fn len(&self) -> usize {
        self.account_lengths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.account_lengths.is_empty()
    }

    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = Event<'a>> + use<'a> {
        let Self { assets, account_lengths, mut accounts, asset_indices, balances_low, balances_high, event_times } =
            *self;
        (0..account_lengths.len()).map(move |place| {
            let (account, rest) = accounts.split_at(usize::from(account_lengths[place]));
            accounts = rest;
            let high = balances_high.get(place).map_or(0, |high| u64::from_le_bytes(*high));
            let units = u128::from(high) << 64 | u128::from(u64::from_le_bytes(balances_low[place]));
            Event {
                account,
                asset: &assets[asset_indices.get(place).map_or(0, |index| usize::from(*index))],
                // Past the largest amount the event is rejected by itself.
                balance: BaseUnits::new(units).unwrap_or(BaseUnits::MAX),
                at: UnixSeconds::new(event_times.get(place).map_or(0, |at| i64::from_le_bytes(*at))),
            }
        })
    }
}

/// The place of the first byte that is not `sound`. Columns are sound nearly always: that is found out first, without a
/// way out between the bytes, so that many are looked at at once.
fn first_wrong(bytes: &[u8], sound: impl Fn(u8) -> bool) -> Option<usize> {
    let all = bytes.iter().fold(true, |all, byte| all & sound(*byte));
    if all { None } else { bytes.iter().position(|byte| !sound(*byte)) }
}

fn column<'a>(path: &Path<'_>, bytes: &'a [u8], count: usize) -> Parsed<&'a [[u8; 8]]> {
    length(path, bytes.len(), count, 8)?;
    Ok(bytes.as_chunks::<8>().0)
}

fn length(path: &Path<'_>, length: usize, count: usize, each: usize) -> Parsed<()> {
    let expected = count.saturating_mul(each);
    if length != expected {
        let description = format!("has {length} bytes; {count} events have {expected}");
        return Err(malformed(path, description));
    }
    Ok(())
}

fn malformed(path: &Path<'_>, description: impl Into<String>) -> super::Violation {
    path.wrong("BATCH_MALFORMED", description)
}
