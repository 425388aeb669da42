//! Parts of snapshots: balances without times, of the assets that the snapshot covers.

use super::amount::saturating_base_units;
use super::feed::{Event, Events, check_account, check_asset, check_count};
use super::packed::Packed;
use super::{Parsed, Path, field};
use crate::domain::ids::{AssetId, RequestId};
use crate::domain::time::UnixSeconds;
use crate::pb::v1;
use v1::balance_snapshot::Content;

/// The most assets that a snapshot covers.
const MAX_ASSETS: usize = 256;

/// One part of a snapshot, well formed by itself.
#[derive(Clone, Debug)]
pub struct SnapshotPart<'a> {
    /// The caller's id of the snapshot.
    pub id: RequestId,
    /// What it covers.
    pub assets: Vec<AssetId>,
    /// When the balances hold.
    pub as_of: UnixSeconds,
    /// The place of the part, from 0.
    pub part: u32,
    /// Whether it is the last one.
    pub last: bool,
    /// Whether differences are applied.
    pub apply: bool,
    /// The balances; their times mean nothing.
    pub balances: Events<'a>,
}

/// Reads a part, whole or not at all.
pub fn part<'a>(path: &Path<'_>, part: &'a v1::BalanceSnapshot) -> Parsed<SnapshotPart<'a>> {
    let id = path.field("snapshot_id");
    let id = field::request_id(&id, &part.snapshot_id).map_err(|mut wrong| {
        if wrong.reason == "REQUEST_ID_MALFORMED" {
            wrong.reason = "SNAPSHOT_ID_MALFORMED";
        }
        wrong
    })?;
    let assets = assets(&path.field("assets"), &part.assets)?;
    let as_of = field::time(&path.field("as_of_time"), part.as_of_time.as_ref())?;
    let balances = match &part.content {
        None => return Err(path.field("rows").missing()),
        Some(Content::Rows(rows)) => Events::Rows(balances(&path.field("rows"), &rows.events, &assets)?),
        Some(Content::Packed(packed)) => {
            let path = path.field("packed");
            let columns = Packed::read_balances(&path, packed)?;
            for (place, asset) in columns.of().iter().enumerate() {
                covered(&path.field("assets").item(place), asset, &assets)?;
            }
            Events::Columns(columns)
        }
    };
    Ok(SnapshotPart { id, assets, as_of, part: part.part, last: part.last, apply: part.apply, balances })
}

fn assets(path: &Path<'_>, texts: &[String]) -> Parsed<Vec<AssetId>> {
    if texts.is_empty() {
        return Err(path.missing());
    }
    if texts.len() > MAX_ASSETS {
        return Err(path.wrong("SNAPSHOT_MALFORMED", format!("has at most {MAX_ASSETS} entries")));
    }
    let mut assets = Vec::with_capacity(texts.len());
    for (place, text) in texts.iter().enumerate() {
        let asset = field::asset(&path.item(place), text)?;
        if assets.contains(&asset) {
            return Err(path.item(place).wrong("SNAPSHOT_MALFORMED", "is there twice"));
        }
        assets.push(asset);
    }
    Ok(assets)
}

fn balances<'a>(path: &Path<'_>, rows: &'a [v1::BalanceRow], assets: &[AssetId]) -> Parsed<Vec<Event<'a>>> {
    let path = path.field("events");
    check_count(&path, rows.len())?;
    let balance = |(place, row): (usize, &'a v1::BalanceRow)| {
        let path = path.item(place);
        check_account(&path.field("account"), &row.account)?;
        let balance = path.field("balance");
        let amount = row.balance.as_ref().ok_or_else(|| balance.missing())?;
        let asset = balance.field("asset");
        check_asset(&asset, &amount.asset)?;
        covered(&asset, &amount.asset, assets)?;
        if row.event_time.is_some() {
            let description = "is empty: as_of_time is the time of all";
            return Err(path.field("event_time").wrong("TIME_NOT_EMPTY", description));
        }
        let balance = saturating_base_units(&balance.field("base_units"), &amount.base_units)?;
        Ok(Event { account: &row.account, asset: &amount.asset, balance, at: UnixSeconds::new(0) })
    };
    rows.iter().enumerate().map(balance).collect()
}

fn covered(path: &Path<'_>, asset: &str, assets: &[AssetId]) -> Parsed<()> {
    if assets.iter().any(|covered| covered.as_str() == asset) {
        return Ok(());
    }
    Err(path.wrong("ASSET_NOT_COVERED", "is none of snapshot.assets"))
}
