//! The state hash of a pool: the same for any partitioning, page layout or grouping.

use ruint::aliases::U256;

use super::bytes::Put;
use super::journal::{write_period, write_policy};
use super::partition::Partition;
use super::pool::Meta;

/// The hash of one position's logical fields.
pub(super) fn position_hash(rows: &Partition, ordinal: u32) -> U256 {
    let Some(row) = rows.row(ordinal) else { return U256::ZERO };
    let fields = row.fields();
    let mut out = Vec::with_capacity(144);
    out.short_text(rows.id(ordinal));
    out.u128(fields.available);
    out.u128(fields.weight);
    out.u128(fields.weight_before);
    out.u64(fields.last_sequence);
    out.u32(fields.last_second);
    out.u16(fields.owner);
    out.u8(fields.standing);
    out.u8(fields.flags);
    out.short_u256(rows.rest(ordinal).get());
    U256::from_le_bytes(*blake3::hash(&out).as_bytes())
}

/// The hash of what the pool itself has.
pub(super) fn meta_hash(meta: &Meta) -> U256 {
    let mut out = Vec::new();
    out.i128(meta.eligible);
    out.u64(meta.positions);
    out.short_u256(meta.rests);
    if let Some(calendar) = &meta.calendar {
        out.i64(calendar.origin.get());
        out.u8(u8::from(calendar.frozen_any));
        for run in calendar.past.runs() {
            out.i64(run.from.get());
            out.i64(run.until.get());
            write_policy(&run.policy, &mut out);
            out.short_u128(run.ceiling.get());
        }
        write_period(&calendar.oldest, &mut out);
        if let Some(next) = &calendar.next {
            write_period(next, &mut out);
        }
        for (index, period) in meta.curves.range(calendar.oldest.index..) {
            out.u64(index.0);
            out.i128(period.curve.start_total());
            out.i128(period.crossing);
            out.short_u256(period.adjusted.up);
            out.short_u256(period.adjusted.down);
            for (second, change) in period.curve.changes() {
                out.u32(second);
                out.i128(change);
            }
        }
    }
    U256::from_le_bytes(*blake3::hash(&out).as_bytes())
}
