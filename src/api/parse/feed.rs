//! Messages of the balance stream: events as rows or as columns, one form behind.

use prost_types::Timestamp;

use super::amount::saturating_base_units;
use super::packed::Packed;
use super::snapshot::{self, SnapshotPart};
use super::{Parsed, Path, field, names};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{AccountId, SourceId};
use crate::domain::time::UnixSeconds;
use crate::pb::v1;
use v1::stream_balances_request::Batch;

/// The most events of one message.
pub const MAX_BATCH_EVENTS: usize = 65_536;

/// The longest text that an event may have in the place of an asset. What is no asset of ours is an unknown one, and is
/// rejected by itself.
const MAX_ASSET_BYTES: usize = 64;

/// One balance event, as it stands in its message. The account is a valid one; the asset may be unknown, and what
/// can't be an amount is the largest one, so that the event is rejected and its feed goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Whose.
    pub account: &'a str,
    /// Of what: 1 to 64 bytes of printable ASCII without spaces.
    pub asset: &'a str,
    /// The balance after it.
    pub balance: BaseUnits,
    /// When.
    pub at: UnixSeconds,
}

/// The events of one message, all of them well formed.
#[derive(Clone, Debug)]
pub enum Events<'a> {
    /// As messages.
    Rows(Vec<Event<'a>>),
    /// As columns.
    Columns(Packed<'a>),
}

impl<'a> Events<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Columns(packed) => packed.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands each event to `take`, in order.
    pub fn for_each(&self, mut take: impl FnMut(Event<'a>)) {
        match self {
            Self::Rows(rows) => rows.iter().copied().for_each(take),
            Self::Columns(packed) => packed.events().for_each(&mut take),
        }
    }
}

/// What one message brings.
#[derive(Clone, Debug)]
pub enum Content<'a> {
    /// Events, or none.
    Events(Events<'a>),
    /// A part of a snapshot.
    Snapshot(Box<SnapshotPart<'a>>),
}

/// One message of the stream.
#[derive(Clone, Debug)]
pub struct FeedMessage<'a> {
    /// Who sends it.
    pub source: SourceId,
    /// The sequence of the first event, or of the next one where there are none.
    pub first_sequence: u64,
    /// What it brings.
    pub content: Content<'a>,
    /// What it vouches for.
    pub watermark: Option<UnixSeconds>,
}

/// Reads one message, whole or not at all.
pub fn message(request: &v1::StreamBalancesRequest) -> Parsed<FeedMessage<'_>> {
    let source = names::source(&Path::of("source"), &request.source)?;
    let sequence = Path::of("first_sequence");
    let first_sequence = request.first_sequence;
    if first_sequence == 0 {
        return Err(sequence.wrong("SEQUENCE_ZERO", "begins at 1"));
    }
    let content = match &request.batch {
        None => Content::Events(Events::Rows(Vec::new())),
        Some(Batch::Rows(rows)) => Content::Events(Events::Rows(self::rows(&Path::of("rows"), &rows.events)?)),
        Some(Batch::Packed(packed)) => Content::Events(Events::Columns(Packed::read(&Path::of("packed"), packed)?)),
        Some(Batch::Snapshot(part)) => Content::Snapshot(Box::new(snapshot::part(&Path::of("snapshot"), part)?)),
    };
    if let Content::Events(events) = &content
        && first_sequence.checked_add(events.len() as u64).is_none()
    {
        return Err(sequence.wrong("NUMBER_OUT_OF_RANGE", "and the events after it pass the last sequence, 2^64 - 1"));
    }
    let watermark = field::optional_time(&Path::of("watermark"), request.watermark.as_ref())?;
    Ok(FeedMessage { source, first_sequence, content, watermark })
}

/// Events as messages.
fn rows<'a>(path: &Path<'_>, rows: &'a [v1::BalanceRow]) -> Parsed<Vec<Event<'a>>> {
    let path = path.field("events");
    check_count(&path, rows.len())?;
    let mut events = Vec::with_capacity(rows.len());
    for (place, row) in rows.iter().enumerate() {
        events.push(event(&path.item(place), row)?);
    }
    Ok(events)
}

fn event<'a>(path: &Path<'_>, row: &'a v1::BalanceRow) -> Parsed<Event<'a>> {
    check_account(&path.field("account"), &row.account)?;
    let balance = path.field("balance");
    let amount = row.balance.as_ref().ok_or_else(|| balance.missing())?;
    check_asset(&balance.field("asset"), &amount.asset)?;
    Ok(Event {
        account: &row.account,
        asset: &amount.asset,
        balance: saturating_base_units(&balance.field("base_units"), &amount.base_units)?,
        at: moment(&path.field("event_time"), row.event_time.as_ref())?,
    })
}

/// A time of any year: one that can't be is too old or from the future, and is rejected as such.
fn moment(path: &Path<'_>, time: Option<&Timestamp>) -> Parsed<UnixSeconds> {
    let time = time.ok_or_else(|| path.missing())?;
    if !(0..=999_999_999).contains(&time.nanos) {
        return Err(path.wrong("TIME_MALFORMED", "has nanoseconds from 0 to 999,999,999"));
    }
    Ok(UnixSeconds::new(time.seconds))
}

/// Checks how many events a message has.
pub(super) fn check_count(path: &Path<'_>, count: usize) -> Parsed<()> {
    if count > MAX_BATCH_EVENTS {
        let description = format!("has {count} events; a message has at most {MAX_BATCH_EVENTS}");
        return Err(path.wrong("BATCH_TOO_LARGE", description));
    }
    Ok(())
}

/// Checks an account without taking it.
pub(super) fn check_account(path: &Path<'_>, account: &str) -> Parsed<()> {
    let valid = (1..=AccountId::MAX_BYTES).contains(&account.len()) && is_printable(account.as_bytes());
    if valid { Ok(()) } else { field::account(path, account).map(|_| ()) }
}

/// Checks the text in the place of an asset.
pub(super) fn check_asset(path: &Path<'_>, asset: &str) -> Parsed<()> {
    if asset.is_empty() {
        return Err(path.missing());
    }
    if asset.len() > MAX_ASSET_BYTES || !is_printable(asset.as_bytes()) {
        let description = format!("is 1 to {MAX_ASSET_BYTES} bytes of printable ASCII without spaces");
        return Err(path.wrong("ASSET_MALFORMED", description));
    }
    Ok(())
}

/// Whether every byte is printable ASCII and no space, as an account's have to be.
pub(super) fn is_printable(bytes: &[u8]) -> bool {
    // Every byte is looked at, without a way out between them, so that many are at once.
    bytes.iter().fold(true, |all, byte| all & (0x21..=0x7e).contains(byte))
}
