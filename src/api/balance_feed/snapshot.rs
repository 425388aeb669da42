//! Snapshots in a balance stream: parts put together in order, and the answer in messages that fit.

use super::{show_reason, show_rejected};
use crate::api::parse::feed::Events;
use crate::api::parse::snapshot::SnapshotPart;
use crate::api::parse::{Path, names};
use crate::api::status::ApiError;
use crate::api::{failure, show};
use crate::app::snapshot::{Snapshot, SnapshotAnswer, SnapshotHead};
use crate::app::{App, AppError};
use crate::domain::ids::{AccountId, AssetId, SourceId};
use crate::domain::snapshot::{Difference, DifferenceCause};
use crate::pb::v1;

/// The most differences of one answer, so that it fits a message.
const DIFFERENCES_PER_ANSWER: usize = 512;

/// A snapshot of which not all parts are there.
#[derive(Debug)]
pub(super) struct Gathering {
    snapshot: Snapshot,
    next_part: u32,
}

/// Checks a part against the limit of this service, which may be below that of the wire.
pub(super) fn check_count(part: &SnapshotPart<'_>, most: usize) -> Result<(), ApiError> {
    let count = part.balances.len();
    if count <= most {
        return Ok(());
    }
    let description = format!("has {count} balances; this service takes at most {most} in a message");
    let snapshot = Path::of("snapshot");
    let (form, field) = match part.balances {
        Events::Rows(_) => (snapshot.field("rows"), "events"),
        Events::Columns(_) => (snapshot.field("packed"), "count"),
    };
    Err(form.field(field).wrong("BATCH_TOO_LARGE", description).into())
}

/// Takes the next part in. Whole snapshots come back; what is gathered so far stays in `gathering`.
pub(super) fn gather(
    app: &App,
    gathering: &mut Option<Gathering>,
    source: &SourceId,
    next_sequence: u64,
    part: SnapshotPart<'_>,
) -> Result<Option<Snapshot>, ApiError> {
    let SnapshotPart { id, assets, as_of, part, last, apply, balances } = part;
    let head = SnapshotHead { source: source.clone(), id, next_sequence, assets, as_of, apply };
    let path = Path::of("snapshot");
    let mut gathered = match gathering.take() {
        None => Gathering { snapshot: app.begin_snapshot(head.clone())?, next_part: 0 },
        Some(gathered) => gathered,
    };
    if part != gathered.next_part {
        let description = format!("is {part}; part {} comes next", gathered.next_part);
        return Err(path.field("part").wrong("SNAPSHOT_PART_OUT_OF_ORDER", description).into());
    }
    if let Some(field) = changed(gathered.snapshot.head(), &head) {
        let at = if field == "first_sequence" { Path::of(field) } else { path.field(field) };
        return Err(at.wrong("SNAPSHOT_CHANGED", "is not what the first part of the snapshot said").into());
    }
    let mut wrong: Option<ApiError> = None;
    balances.for_each(|balance| {
        let pushed = AccountId::new(balance.account)
            .map(|account| gathered.snapshot.push(app, account, balance.asset, balance.balance));
        match pushed {
            Ok(true) => {}
            Ok(false) => wrong = Some(failure::broken(&"a balance of an asset that the snapshot does not cover")),
            Err(error) => wrong = Some(failure::broken(&error)),
        }
    });
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    gathered.snapshot.check_room()?;
    if last {
        return Ok(Some(gathered.snapshot));
    }
    gathered.next_part = gathered.next_part.saturating_add(1);
    *gathering = Some(gathered);
    Ok(None)
}

/// The field in which a part contradicts the first one.
fn changed(first: &SnapshotHead, head: &SnapshotHead) -> Option<&'static str> {
    let fields = [
        ("snapshot_id", first.id == head.id),
        ("first_sequence", first.next_sequence == head.next_sequence),
        ("assets", first.assets == head.assets),
        ("as_of_time", first.as_of == head.as_of),
        ("apply", first.apply == head.apply),
    ];
    fields.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
}

/// The answers to a snapshot: the differences in order, and with the last of them what it came to.
pub(super) fn responses(
    app: &App,
    head: &SnapshotHead,
    answer: SnapshotAnswer,
) -> Result<Vec<v1::StreamBalancesResponse>, AppError> {
    let watermark = app.cursor(&head.source)?.watermark;
    let pools = app.pools();
    let asset_of = |pool: u16| pools.iter().find(|one| one.number() == pool).map(|one| one.record.asset.clone());
    let shown = answer.differences.iter().map(|difference| {
        let unknown = || AppError::Broken(format!("a difference is of pool number {}", difference.seen.pool));
        Ok(show_difference(app, difference, &asset_of(difference.seen.pool).ok_or_else(unknown)?))
    });
    let mut shown: Vec<v1::SnapshotDifference> = shown.collect::<Result<_, AppError>>()?;
    let mut all = Vec::new();
    loop {
        let rest = shown.split_off(shown.len().min(DIFFERENCES_PER_ANSWER));
        let differences = std::mem::replace(&mut shown, rest);
        all.push(v1::StreamBalancesResponse {
            source: names::show::source(&head.source),
            durable_sequence: answer.sequence,
            watermark: watermark.map(show::time),
            differences,
            ..Default::default()
        });
        if shown.is_empty() {
            break;
        }
    }
    if let Some(last) = all.last_mut() {
        last.snapshot = Some(v1::SnapshotResult {
            snapshot_id: head.id.to_string(),
            difference_count: answer.difference_count,
            applied_count: answer.applied_count,
            refused_count: answer.refused_count,
            repeated: answer.repeated,
        });
    }
    Ok(all)
}

fn show_difference(app: &App, difference: &Difference, asset: &AssetId) -> v1::SnapshotDifference {
    use v1::SnapshotDifferenceCause as Shown;
    let Difference { seen, cause, rejected, refused } = difference;
    let held = seen.held;
    let owner = held.and_then(|held| held.owner).and_then(|owner| app.source_name(owner));
    let cause = match cause {
        DifferenceCause::AbsentInSnapshot => Shown::AbsentInSnapshot,
        DifferenceCause::AbsentInBook => Shown::AbsentInBook,
        DifferenceCause::OtherBalance => Shown::OtherBalance,
        DifferenceCause::OtherSource => Shown::OtherSource,
        DifferenceCause::EventRejected => Shown::EventRejected,
        DifferenceCause::EventTooOld => Shown::EventTooOld,
        DifferenceCause::BookAhead => Shown::BookAhead,
    };
    v1::SnapshotDifference {
        account: seen.account.to_string(),
        snapshot_balance: Some(show::amount(asset, seen.snapshot.unwrap_or_default())),
        position_balance: Some(show::amount(asset, held.map(|held| held.balance).unwrap_or_default())),
        cause: cause.into(),
        owner: owner.map(|owner| names::show::source(&owner)).unwrap_or_default(),
        position_sequence: held.map_or(0, |held| held.last_sequence),
        position_time: held.map(|held| show::time(held.last_at)),
        rejected: rejected.map(|(sequence, reason)| show_rejected(sequence, reason)),
        refused: refused.map_or(0, |reason| show_reason(reason).into()),
        refused_message: refused.map(|reason| reason.to_string()).unwrap_or_default(),
    }
}
