//! The one page of keys: every key of every partition, with its tag.
//!
//! A key is a tag byte and then its parts: integers fixed-width and big-endian, times with the sign bit flipped so
//! that earlier sorts first, text ended by a NUL, which no name contains. So bytes sort as parts do, a key tells its
//! parts again, and no key is the beginning of another, whatever the names in it.
//!
//! A tag is never reused, not even for a key that is gone: strike the line out in a comment and take the next number.

use super::{KeyRange, PartitionId};
use crate::domain::effect::EffectKey;
use crate::domain::ids::{
    AccountId, AssetId, ChainId, OperationId, PoolId, RequestId, SourceId, TransactionId, TransferId, ValidatorId,
};
use crate::domain::time::UnixSeconds;

impl PartitionId {
    /// What belongs to no pool: feed cursors, requests, enrolments, sources, pools, the audit log, the version.
    pub const SERVICE: Self = Self(0);

    /// The most book partitions that one pool can have; their indices are below it.
    pub const MAX_BOOKS: u16 = u16::MAX;

    /// The control partition of a pool: its ledger, operations, transfers, periods and distributions.
    ///
    /// Pools are numbered from 1, at creation.
    pub const fn control(pool_number: u16) -> Self {
        Self((pool_number as u32) << 16)
    }

    /// The book partition `index` (from 0, below [`Self::MAX_BOOKS`]) of a pool: positions' journal, pages and chunks.
    pub const fn book(pool_number: u16, index: u16) -> Self {
        assert!(index < Self::MAX_BOOKS, "the index of a book partition is below PartitionId::MAX_BOOKS");
        Self(((pool_number as u32) << 16) | (index as u32 + 1))
    }

    /// The number of the pool that the partition belongs to; 0 for [`Self::SERVICE`].
    pub const fn pool_number(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The index of a book partition; `None` for a control partition and for [`Self::SERVICE`].
    pub const fn book_index(self) -> Option<u16> {
        match self.0 as u16 {
            0 => None,
            k => Some(k - 1),
        }
    }
}

/// Something that a key is made of.
pub trait KeyPart {
    /// The same part, read back.
    type Owned;

    /// Appends the part to a key.
    fn write(&self, key: &mut Vec<u8>);

    /// Takes the part from the front of what is left of a key.
    fn read(rest: &mut &[u8]) -> Option<Self::Owned>;
}

macro_rules! integer_part {
    ($($kind:ty),*) => {$(
        impl KeyPart for $kind {
            type Owned = $kind;

            fn write(&self, key: &mut Vec<u8>) {
                key.extend_from_slice(&self.to_be_bytes());
            }

            fn read(rest: &mut &[u8]) -> Option<$kind> {
                let (head, tail) = rest.split_first_chunk()?;
                *rest = tail;
                Some(<$kind>::from_be_bytes(*head))
            }
        }
    )*};
}
integer_part!(u16, u32, u64);

impl KeyPart for UnixSeconds {
    type Owned = Self;

    fn write(&self, key: &mut Vec<u8>) {
        (self.get().cast_unsigned() ^ (1 << 63)).write(key);
    }

    fn read(rest: &mut &[u8]) -> Option<Self> {
        Some(Self::new((u64::read(rest)? ^ (1 << 63)).cast_signed()))
    }
}

impl KeyPart for &str {
    type Owned = String;

    fn write(&self, key: &mut Vec<u8>) {
        debug_assert!(!self.as_bytes().contains(&0), "text in a key has no NUL");
        key.extend_from_slice(self.as_bytes());
        key.push(0);
    }

    fn read(rest: &mut &[u8]) -> Option<String> {
        let end = rest.iter().position(|b| *b == 0)?;
        let text = std::str::from_utf8(&rest[..end]).ok()?;
        *rest = &rest[end + 1..];
        Some(text.to_owned())
    }
}

macro_rules! id_part {
    ($($kind:ty),*) => {$(
        impl KeyPart for &$kind {
            type Owned = $kind;

            fn write(&self, key: &mut Vec<u8>) {
                self.as_str().write(key);
            }

            fn read(rest: &mut &[u8]) -> Option<$kind> {
                <$kind>::new(&<&str>::read(rest)?).ok()
            }
        }
    )*};
}
id_part!(AccountId, AssetId, ChainId, OperationId, PoolId, RequestId, SourceId, TransactionId, TransferId, ValidatorId);

impl KeyPart for &EffectKey {
    type Owned = EffectKey;

    fn write(&self, key: &mut Vec<u8>) {
        (&self.transaction).write(key);
        self.index.write(key);
    }

    fn read(rest: &mut &[u8]) -> Option<EffectKey> {
        Some(EffectKey { transaction: <&TransactionId>::read(rest)?, index: u32::read(rest)? })
    }
}

macro_rules! parse {
    ($parse:ident, $tag:expr $(,)?) => {
        /// Whether `key` is this key.
        pub fn $parse(key: &[u8]) -> bool {
            key == [$tag]
        }
    };
    ($parse:ident, $tag:expr, $kind:ty) => {
        /// Tells the part of such a key again; `None` where `key` is another kind of key.
        pub fn $parse(key: &[u8]) -> Option<<$kind as KeyPart>::Owned> {
            let mut rest = key.strip_prefix(&[$tag])?;
            let part = <$kind as KeyPart>::read(&mut rest)?;
            rest.is_empty().then_some(part)
        }
    };
    ($parse:ident, $tag:expr, $($kind:ty),+) => {
        /// Tells the parts of such a key again; `None` where `key` is another kind of key.
        pub fn $parse(key: &[u8]) -> Option<($(<$kind as KeyPart>::Owned),+)> {
            let mut rest = key.strip_prefix(&[$tag])?;
            let parts = ($(<$kind as KeyPart>::read(&mut rest)?),+);
            rest.is_empty().then_some(parts)
        }
    };
}

macro_rules! keys {
    ($($(#[$doc:meta])* $TAG:ident = $value:literal, $build:ident / $parse:ident ($($part:ident: $kind:ty),*);)*) => {
        /// The first byte of every key. Never reused.
        pub mod tag {
            $($(#[$doc])* pub const $TAG: u8 = $value;)*

            /// Every tag with the name of its key.
            pub const ALL: &[(u8, &str)] = &[$(($value, stringify!($build))),*];
        }

        $(
            $(#[$doc])*
            pub fn $build($($part: $kind),*) -> Vec<u8> {
                #[allow(unused_mut)]
                let mut key = vec![tag::$TAG];
                $(KeyPart::write(&$part, &mut key);)*
                key
            }

            parse!($parse, tag::$TAG, $($kind),*);
        )*

        /// The tags of all kinds of keys that `key` reads as, for `fuzz/`.
        #[cfg(any(test, feature = "fuzzing"))]
        pub(super) fn kinds(key: &[u8]) -> Vec<u8> {
            let mut kinds = Vec::new();
            $(if super::fuzzing::Found::is_found(&$parse(key)) {
                kinds.push(tag::$TAG);
            })*
            kinds
        }
    };
}

keys! {
    // The service partition.

    /// The version of the stored forms.
    STORE_VERSION = 0x01, store_version / is_store_version ();
    /// A registered producer of balance events.
    SOURCE = 0x02, source / parse_source (source: &SourceId);
    /// The durable cursor of a source, by its number.
    SOURCE_CURSOR = 0x03, source_cursor / parse_source_cursor (number: u16);
    /// Hashes of the bodies of a run of a source's events.
    BODY_HASHES = 0x04, body_hashes / parse_body_hashes (number: u16, first_sequence: u64);
    /// One change in the enrolment log.
    ENROLMENT_ENTRY = 0x05, enrolment_entry / parse_enrolment_entry (sequence: u64);
    /// An account's enrolment in a pool, or in all of them (`*`).
    ACCOUNT_ENROLMENT = 0x06, account_enrolment / parse_account_enrolment (account: &AccountId, scope: &str);
    /// The first answer to a request.
    REQUEST = 0x07, request / parse_request (scope: &str, request: &RequestId);
    /// An event that a pool rejected, with its reason; of one that no pool takes the pool's number is 0. An enrolment is for
    /// several pools, each of which may reject it.
    REJECTED_EVENT = 0x08, rejected_event / parse_rejected_event (source_number: u16, sequence: u64, pool_number: u16);
    /// A balance that was put by itself and is on its way into the book.
    PUT_BALANCE_INTENT = 0x09, put_balance_intent / parse_put_balance_intent (sequence: u64);
    /// A pool, with its number.
    POOL = 0x0a, pool / parse_pool (pool: &PoolId);
    /// Which pool an asset of a chain belongs to.
    POOL_OF_ASSET = 0x0b, pool_of_asset / parse_pool_of_asset (chain: &ChainId, asset: &AssetId);
    /// One entry of the audit log: in the service partition, and in the control partition of the pool that it is about.
    AUDIT = 0x0c, audit / parse_audit (sequence: u64);
    /// The last number given out of a series.
    COUNTER = 0x0d, counter / parse_counter (name: &str);
    /// How far the journals of a pool's book are acknowledged: a group and a chain per partition.
    JOURNAL_HEADS = 0x0e, journal_heads / parse_journal_heads (pool_number: u16);
    /// What waits for a second person, or has had one: corrections here, what else changes a pool in its control partition.
    APPROVAL = 0x0f, approval / parse_approval (number: u64);
    /// An approved correction.
    CORRECTION = 0x10, correction / parse_correction (sequence: u64);
    /// A snapshot of a source that is being applied, or was.
    SNAPSHOT = 0x11, snapshot / parse_snapshot (source_number: u16, snapshot: &RequestId);
    /// Differences that a snapshot was answered with.
    SNAPSHOT_DIFFERENCES = 0x12, snapshot_differences / parse_snapshot_differences
        (source_number: u16, snapshot: &RequestId, chunk: u32);
    /// The end of the audit log of a partition; where that stands, see the entries.
    AUDIT_HEAD = 0x13, audit_head / is_audit_head ();
    /// That a decision of the enrolment log is of or about an account.
    ENROLMENT_OF_ACCOUNT = 0x14, enrolment_of_account / parse_enrolment_of_account (account: &AccountId, sequence: u64);

    // A pool's control partition.

    /// The balances of the pool's own accounts.
    LEDGER = 0x40, ledger / is_ledger ();
    /// One posting.
    POSTING = 0x41, posting / parse_posting (sequence: u64);
    /// That an effect was booked, and as what.
    BOOKED_EFFECT = 0x42, booked_effect / parse_booked_effect (effect: &EffectKey);
    /// An operation.
    OPERATION = 0x43, operation / parse_operation (operation: &OperationId);
    /// That an operation is not terminal.
    OPEN_OPERATION = 0x44, open_operation / parse_open_operation (operation: &OperationId);
    /// Operations in the order they were planned.
    OPERATION_BY_SEQUENCE = 0x45, operation_by_sequence / parse_operation_by_sequence (sequence: u64);
    /// A transfer.
    TRANSFER = 0x46, transfer / parse_transfer (transfer: &TransferId);
    /// That a transfer is not complete.
    OPEN_TRANSFER = 0x47, open_transfer / parse_open_transfer (transfer: &TransferId);
    /// Transfers in the order they were asked for.
    TRANSFER_BY_SEQUENCE = 0x48, transfer_by_sequence / parse_transfer_by_sequence (sequence: u64);
    /// A period, by its index.
    PERIOD = 0x49, period / parse_period (period: u64);
    /// One revision of a period's distribution.
    DISTRIBUTION = 0x4a, distribution / parse_distribution (period: u64, revision: u32);
    /// Which revision of a period's distribution is not voided.
    LIVE_DISTRIBUTION = 0x4b, live_distribution / parse_live_distribution (period: u64);
    /// A reward receipt, by the chain's time.
    RECEIPT = 0x4c, receipt / parse_receipt (at: UnixSeconds, effect: &EffectKey);
    /// That a receipt belongs to no distribution yet.
    UNASSIGNED_RECEIPT = 0x4d, unassigned_receipt / parse_unassigned_receipt (at: UnixSeconds, effect: &EffectKey);
    /// The policies that hold from a period on.
    POLICY = 0x4e, policy / parse_policy (from_period: u64);
    /// A validator that the pool may use.
    VALIDATOR = 0x4f, validator / parse_validator (validator: &ValidatorId);
    /// How far the payouts of a distribution are acknowledged.
    PAYOUT_ACK = 0x50, payout_ack / parse_payout_ack (period: u64, revision: u32);
    /// A payout that the ledger service rejected.
    REJECTED_PAYOUT = 0x51, rejected_payout / parse_rejected_payout (period: u64, account: &AccountId);
    /// A change of what was staked, by when it took effect.
    STAKED_SERIES = 0x52, staked_series / parse_staked_series (at: UnixSeconds, sequence: u64);
    /// Up to which height the chain's effects are booked.
    CHAIN_MARK = 0x53, chain_mark / is_chain_mark ();
    /// Whether the pool is paused, and why.
    POOL_STATE = 0x54, pool_state / is_pool_state ();
    /// Where the book's recovery begins.
    CHECKPOINT_MANIFEST = 0x55, checkpoint_manifest / is_checkpoint_manifest ();
    /// A page of the curve of eligible totals, as of one checkpoint.
    CURVE_PAGE = 0x56, curve_page / parse_curve_page (generation: u64, page: u32);
    /// A page of the curve of a frozen period.
    FROZEN_CURVE = 0x57, frozen_curve / parse_frozen_curve (period: u64, page: u32);
    /// When the pool was last rebalanced.
    REBALANCE_MARK = 0x58, rebalance_mark / is_rebalance_mark ();
    /// That payouts of a released distribution are neither acknowledged nor unclaimed.
    UNSETTLED_DISTRIBUTION = 0x59, unsettled_distribution / parse_unsettled_distribution (period: u64, revision: u32);
    /// Transfers in the order of their last changes.
    TRANSFER_BY_CHANGE = 0x5a, transfer_by_change / parse_transfer_by_change (version: u64, transfer: &TransferId);
    /// What custody last said that it holds.
    CUSTODY_REPORT = 0x5b, custody_report / is_custody_report ();
    /// A slash, by the effect or the reconciliation that showed it.
    SLASH = 0x5c, slash / parse_slash (effect: &EffectKey);
    /// What unbonds from a validator.
    UNBONDING = 0x5d, unbonding / parse_unbonding (validator: &ValidatorId);
    /// How the eligible total ran through a frozen period.
    OUTFLOW = 0x5f, outflow / parse_outflow (period: u64);
    /// That a reward was recorded by evidence.
    RECORDED_RECEIPT = 0x60, recorded_receipt / parse_recorded_receipt (effect: &EffectKey);

    // A pool's book partitions.

    /// A part of a journal group.
    JOURNAL = 0xa0, journal / parse_journal (group: u64, part: u16);
    /// A page of positions, as of a checkpoint.
    PAGE = 0xa1, page / parse_page (number: u32);
    /// The frozen weights of 256 ordinals.
    WEIGHT_CHUNK = 0xa2, weight_chunk / parse_weight_chunk (period: u64, chunk: u32);
    /// Count, sum and hash of a period's frozen weights.
    FREEZE_SEAL = 0xa3, freeze_seal / parse_freeze_seal (period: u64);
    /// The payouts of 256 ordinals: one account's year is one short scan.
    PAYOUT_CHUNK = 0xa4, payout_chunk / parse_payout_chunk (chunk: u32, period: u64, revision: u32);
    /// Count, sum and hash of a distribution's payouts in this partition.
    PAYOUT_SEAL = 0xa5, payout_seal / parse_payout_seal (period: u64, revision: u32);
    /// A part of the archive of a run of journal groups, by the first of them.
    ARCHIVE = 0xa6, archive / parse_archive (group: u64, part: u16);
}

/// All keys of one tag.
pub fn range_of_tag(tag: u8) -> KeyRange {
    prefix_range(&[tag])
}

/// All keys that begin with `prefix`; all keys, for the empty prefix.
pub fn prefix_range(prefix: &[u8]) -> KeyRange {
    KeyRange { from: prefix.to_vec(), to: after_prefix(prefix) }
}

/// The first key past all those that begin with `prefix`.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut to = prefix.to_vec();
    while let Some(last) = to.pop() {
        if last < u8::MAX {
            to.push(last + 1);
            return to;
        }
    }
    // Nothing but 0xff, or nothing at all: no tag is 0xff, so this lies past every key.
    vec![u8::MAX; super::MAX_KEY_BYTES + 1]
}

/// The keys from `first` on that have its tag.
///
/// With the key after the last one that was read, this resumes a scan.
pub fn range_from(first: &[u8]) -> KeyRange {
    KeyRange { from: first.to_vec(), to: after_prefix(&first[..first.len().min(1)]) }
}

/// The smallest key after `key`.
pub fn after(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

macro_rules! begins {
    ($tag:ident $(, $part:expr)*) => {{
        let mut prefix = vec![tag::$tag];
        $(KeyPart::write(&$part, &mut prefix);)*
        prefix_range(&prefix)
    }};
}

macro_rules! before {
    ($tag:ident, $part:expr) => {{
        let mut to = vec![tag::$tag];
        KeyPart::write(&$part, &mut to);
        KeyRange { from: vec![tag::$tag], to }
    }};
}

/// The entries of an audit log before `sequence`.
pub fn audit_before(sequence: u64) -> KeyRange {
    before!(AUDIT, sequence)
}

/// The hashes of the bodies of one source's events.
pub fn body_hashes_of(number: u16) -> KeyRange {
    begins!(BODY_HASHES, number)
}

/// The enrolments of one account.
pub fn account_enrolments_of(account: &AccountId) -> KeyRange {
    begins!(ACCOUNT_ENROLMENT, account)
}

/// The decisions of or about one account before `sequence`.
pub fn enrolments_before(account: &AccountId, sequence: u64) -> KeyRange {
    KeyRange { to: enrolment_of_account(account, sequence), ..begins!(ENROLMENT_OF_ACCOUNT, account) }
}

/// The answered requests of one scope.
pub fn requests_of(scope: &str) -> KeyRange {
    begins!(REQUEST, scope)
}

/// The rejected events of one source.
pub fn rejected_events_of(source_number: u16) -> KeyRange {
    begins!(REJECTED_EVENT, source_number)
}

/// The revisions of one period's distribution.
pub fn distributions_of(period: u64) -> KeyRange {
    begins!(DISTRIBUTION, period)
}

/// The differences that a snapshot was answered with.
pub fn snapshot_differences_of(source_number: u16, snapshot: &RequestId) -> KeyRange {
    begins!(SNAPSHOT_DIFFERENCES, source_number, snapshot)
}

/// The receipts with a chain time before `at`.
pub fn receipts_before(at: UnixSeconds) -> KeyRange {
    before!(RECEIPT, at)
}

/// The receipts without a distribution with a chain time before `at`.
pub fn unassigned_receipts_before(at: UnixSeconds) -> KeyRange {
    before!(UNASSIGNED_RECEIPT, at)
}

/// The transfers whose last change made `version` of the pool's ledger.
pub fn transfers_changed_in(version: u64) -> KeyRange {
    begins!(TRANSFER_BY_CHANGE, version)
}

/// The rejected payouts of one period.
pub fn rejected_payouts_of(period: u64) -> KeyRange {
    begins!(REJECTED_PAYOUT, period)
}

/// The changes of what was staked before `at`.
pub fn staked_series_before(at: UnixSeconds) -> KeyRange {
    before!(STAKED_SERIES, at)
}

/// The changes of what was staked in `[from, to)`.
pub fn staked_series_between(from: UnixSeconds, to: UnixSeconds) -> KeyRange {
    KeyRange { from: before!(STAKED_SERIES, from).to, to: before!(STAKED_SERIES, to).to }
}

/// The pages of the curve of one generation.
pub fn curve_pages_of(generation: u64) -> KeyRange {
    begins!(CURVE_PAGE, generation)
}

/// The pages of the curve of a frozen period.
pub fn frozen_curve_of(period: u64) -> KeyRange {
    begins!(FROZEN_CURVE, period)
}

/// The parts of one journal group.
pub fn journal_group(group: u64) -> KeyRange {
    begins!(JOURNAL, group)
}

/// The journal groups before `group`.
pub fn journal_before(group: u64) -> KeyRange {
    before!(JOURNAL, group)
}

/// The parts of the archive that begins with one journal group.
pub fn archive_of(group: u64) -> KeyRange {
    begins!(ARCHIVE, group)
}

/// The frozen weights of one period.
pub fn weight_chunks_of(period: u64) -> KeyRange {
    begins!(WEIGHT_CHUNK, period)
}

/// The payouts of the accounts of one chunk, through all periods.
pub fn payout_chunks_of(chunk: u32) -> KeyRange {
    begins!(PAYOUT_CHUNK, chunk)
}

/// The payouts of the accounts of one chunk in the periods `[from, to)`.
pub fn payout_chunks_between(chunk: u32, from: u64, to: u64) -> KeyRange {
    KeyRange { from: begins!(PAYOUT_CHUNK, chunk, from).from, to: begins!(PAYOUT_CHUNK, chunk, to).from }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
