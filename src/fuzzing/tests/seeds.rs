//! Seeds out of the golden files, the sample settings, and what the code writes by itself.

use std::sync::Arc;

use prost::Message;

use crate::book::column;
use crate::chain::simulated::{MemoryLog, SimulatedChain, SimulatedFault, presets};
use crate::clock::Clock;
use crate::domain::audit_log::{Act, AuditEntry, Log, Note, RefusedCalls};
use crate::domain::ids::Principal;
use crate::domain::time::UnixSeconds;
use crate::node::fuzzing::{MAX_CALLS, exported, methods};
use crate::store::fuzzing::READERS;
use crate::store::keys;
use crate::store::records::Record;

type Seed = (&'static str, String, Vec<u8>);

/// Every seed that is made here: its target, its name and its bytes.
pub fn all() -> Vec<Seed> {
    [book(), store(), audit(), surface(), texts(), chain()].concat()
}

fn hex(text: &str) -> Vec<u8> {
    let text = text.trim();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The first byte says how the rest is meant.
fn mode(mode: u8, rest: &[u8]) -> Vec<u8> {
    [&[mode], rest].concat()
}

/// A piece after its length.
fn piece(length: [u8; 2], piece: &[u8]) -> Vec<u8> {
    [&length, piece].concat()
}

fn book() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (layout, line) in (0..).zip(include_str!("../../book/records_golden.txt").lines()) {
        let (name, stored) = line.split_once(' ').unwrap();
        let stored = hex(stored);
        seeds.push(("book_records", name.to_owned(), mode(layout, &stored[..stored.len() - 4])));
        seeds.push(("book_records", format!("{name}-stored"), mode(0x80 | layout, &stored)));
    }
    let journal = hex(include_str!("../../book/journal_golden.hex"));
    seeds.push(("book_journal", "group".to_owned(), mode(0, &journal[12..journal.len() - 16])));
    let length = (journal.len() as u16).to_le_bytes();
    seeds.push(("book_journal", "group-stored".to_owned(), mode(0x80, &piece(length, &journal))));
    for line in include_str!("../../book/archive_golden.txt").lines() {
        let (name, stored) = line.split_once(' ').unwrap();
        let stored = hex(stored);
        let run = &stored[30..stored.len() - 4];
        seeds.push(("book_archive", name.to_owned(), mode(stored[1], run)));
        seeds.push(("book_archive", format!("{name}-in-parts"), mode(stored[1] | 3 << 2, run)));
        let length = (stored.len() as u16).to_le_bytes();
        seeds.push(("book_archive", format!("{name}-stored"), mode(0x80, &piece(length, &stored))));
    }
    for (name, values) in [("none", &[][..]), ("few", &[1, 0, 255, u128::MAX]), ("full", &[7; 256])] {
        let stored = column::encode(values).unwrap();
        seeds.push(("book_column", name.to_owned(), mode(0, &stored[..stored.len() - 4])));
        seeds.push(("book_column", format!("{name}-stored"), mode(0x80, &stored)));
    }
    let page = hex(concat!(
        "01030000000000000009000000000000000105616c69636507f7e6d5c4b3a29108efcdab896745230107a5443983221761ef",
        "9bafcdf8acd19101ef9bafcd08efcd3f"
    ));
    seeds.push(("book_page", "row".to_owned(), mode(0, &page)));
    let rest = [&page[..page.len() - 1], &[0x7f, 2, 0x23, 1]].concat();
    seeds.push(("book_page", "row-with-rest".to_owned(), mode(0, &rest)));
    seeds
}

fn store() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let names = ["pools/atom", "atom", "7", "valoper1", "alice", "100"];
    let piece = |bytes: &[u8]| piece((bytes.len() as u16).to_le_bytes(), bytes);
    let (mut of_texts, mut of_numbers) = (Vec::new(), Vec::new());
    for (kind, _) in (0..).zip(READERS) {
        // Fields of every kind under the first numbers: some of them fit every record.
        let (mut texts, mut numbers) = (vec![kind], vec![kind]);
        for (field, text) in (1..).zip(names) {
            texts.extend_from_slice(&[field << 3 | 2, text.len() as u8]);
            texts.extend_from_slice(text.as_bytes());
            numbers.extend_from_slice(&[field << 3, field]);
        }
        of_texts.extend(piece(&texts));
        of_numbers.extend(piece(&numbers));
    }
    seeds.push(("store_record", "texts".to_owned(), of_texts));
    seeds.push(("store_record", "numbers".to_owned(), of_numbers));
    let numbers = [&7u64.to_be_bytes()[..], &3u32.to_be_bytes()].concat();
    let keys = |rest: &[u8]| keys::tag::ALL.iter().flat_map(|(tag, _)| piece(&mode(*tag, rest))).collect();
    seeds.push(("store_key", "numbers".to_owned(), keys(&numbers)));
    seeds.push(("store_key", "texts".to_owned(), keys(b"atom\0ATOM\0")));
    let (key, value) = (&[1, 0, 1, 0, 0, 0x40][..], b"value");
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(value);
    let framed = [&crc.finalize().to_le_bytes()[..], value].concat();
    seeds.push(("store_engine", "frame".to_owned(), [key, &framed].concat()));
    seeds.push(("store_engine", "summary".to_owned(), mode(1, &[7; 40])));
    seeds.push(("store_engine", "key".to_owned(), key.to_vec()));
    let (length, size) = ((key.len() as u16).to_be_bytes(), (framed.len() as u32).to_be_bytes());
    let put = [&[1][..], &length, key, &size, &framed].concat();
    let changes = [&put[..], &[0], &length, key].concat();
    let block = piece(&changes);
    seeds.push(("store_backup", "block".to_owned(), mode(0, &block)));
    seeds.push(("store_backup", "blocks".to_owned(), mode(0, &[&block[..], &block].concat())));
    seeds.push(("store_backup", "head".to_owned(), mode(0x80, b"softstake-backup\x01B")));
    seeds
}

fn audit() -> Vec<Seed> {
    let act = |summary: &str, refused| Act {
        principal: Principal::new("operator").unwrap(),
        peer: "10.0.0.7:4711".into(),
        method: "softstake.v1.AdminService/PausePool".to_owned(),
        request_id: "r1".to_owned(),
        request_hash: [9; 32],
        note: Note::of("pools/atom", summary).changed("OPEN", "PAUSED"),
        refused,
    };
    let refused = RefusedCalls { reason: "ROLE_MISSING".to_owned(), count: 17 };
    let entry = |act| AuditEntry::following(None, &Log::Service, UnixSeconds::new(1_795_305_600), act).encode();
    let records = [entry(act("paused", None)), entry(act("", Some(refused)))];
    let records: Vec<u8> =
        records.iter().flat_map(|record| piece((record.len() as u16).to_le_bytes(), record)).collect();
    let (export, _) = exported(&records);
    vec![
        ("audit_export", "entries".to_owned(), mode(0, &records)),
        ("audit_export", "export".to_owned(), mode(0x80, &export)),
    ]
}

fn surface() -> Vec<Seed> {
    use crate::pb::v1;
    use v1::stream_balances_request::Batch;
    let mut seeds = Vec::new();
    let amount = |asset: &str, units: &str| Some(v1::Amount { asset: asset.to_owned(), base_units: units.to_owned() });
    let time = Some(prost_types::Timestamp { seconds: 1_795_320_000, nanos: 0 });
    let row = |account: &str, timed: bool| v1::BalanceRow {
        account: account.to_owned(),
        balance: amount("ATOM", "1000000"),
        event_time: time.filter(|_| timed),
    };
    let packed = v1::PackedBalances {
        count: 2,
        assets: vec!["ATOM".to_owned(), "NEAR".to_owned()],
        account_lengths: vec![5, 3].into(),
        accounts: b"alicebob".to_vec().into(),
        asset_indices: vec![0, 1].into(),
        balances_low: [1u64.to_le_bytes(), 2u64.to_le_bytes()].concat().into(),
        balances_high: Vec::new().into(),
        event_times: [1_795_320_000i64.to_le_bytes(); 2].concat().into(),
    };
    let snapshot = |content| v1::BalanceSnapshot {
        snapshot_id: "night-1".to_owned(),
        assets: vec!["ATOM".to_owned(), "NEAR".to_owned()],
        as_of_time: time,
        part: 0,
        last: true,
        apply: true,
        content: Some(content),
    };
    let rows = |timed| v1::BalanceRows { events: vec![row("alice", timed), row("bob", timed)] };
    let columns = v1::PackedBalances { event_times: Vec::new().into(), ..packed.clone() };
    for (name, batch) in [
        ("rows", Some(Batch::Rows(rows(true)))),
        ("packed", Some(Batch::Packed(packed))),
        ("snapshot-rows", Some(Batch::Snapshot(snapshot(v1::balance_snapshot::Content::Rows(rows(false)))))),
        ("snapshot-packed", Some(Batch::Snapshot(snapshot(v1::balance_snapshot::Content::Packed(columns))))),
        ("watermark", None),
    ] {
        let (source, watermark) = ("sources/ledger".to_owned(), time);
        let message = v1::StreamBalancesRequest { source, first_sequence: 1, batch, watermark }.encode_to_vec();
        let call = call("/softstake.v1.BalanceFeedService/StreamBalances", &message);
        seeds.push(("calls", format!("stream-balances-{name}"), call));
        seeds.push(("feed", name.to_owned(), message));
    }
    // A request id and a name, under the numbers that most requests have them under.
    let field = |number: u8, text: &str| [&[number << 3 | 2, text.len() as u8], text.as_bytes()].concat();
    let change = [field(1, "seed-1"), field(2, "pools/atom"), field(3, "reason")].concat();
    let read = [field(1, "pools/atom"), field(2, "ATOM")].concat();
    for (number, paths) in (1..).zip(methods().chunks(MAX_CALLS)) {
        for (name, message) in [("changes", &change), ("reads", &read)] {
            let calls = paths.iter().flat_map(|path| call(path, message)).collect();
            seeds.push(("calls", format!("{name}-{number}"), calls));
        }
    }
    let put = v1::PutBalanceRequest {
        request_id: "seed-2".to_owned(),
        account: "alice".to_owned(),
        balance: amount("ATOM", "5000000"),
        event_time: None,
    };
    let put = call("/softstake.v1.BalanceFeedService/PutBalance", &put.encode_to_vec());
    seeds.push(("calls", "put-balance".to_owned(), put));
    seeds
}

fn call(path: &str, message: &[u8]) -> Vec<u8> {
    let method = methods().iter().position(|known| known == path).unwrap();
    mode(method as u8, &piece((message.len() as u16).to_le_bytes(), message))
}

fn texts() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, text) in [
        ("pool", "pools/atom"),
        ("validator", "pools/atom/validators/cosmosvaloper1"),
        ("period", "pools/atom/periods/2026-11-22"),
        ("period-with-time", "pools/atom/periods/20261122T000000Z"),
        ("payout", "pools/atom/distributions/2026-11-22/payouts/alice/1"),
        ("operation", "pools/atom/operations/claim:7"),
        ("transfer", "pools/atom/transfers/t1"),
        ("position", "accounts/a/positions/b/positions/atom"),
        ("approval", "approvals/7"),
        ("largest-amount", "170141183460469231731687303715884105727"),
        ("rate", "0.0525"),
    ] {
        seeds.push(("name", name.to_owned(), text.as_bytes().to_vec()));
    }
    let binding = crate::api::parse::token::Binding::new("list", b"filter");
    for (name, position) in [("none", &[][..]), ("place", b"\0\0\0\0\0\0\0\x07atom"), ("places", &[0; 26])] {
        seeds.push(("token", name.to_owned(), position.to_vec()));
        seeds.push(("token", format!("{name}-as-text"), binding.token(position).into_bytes()));
    }
    let body = "softstake-clock 1 1795305600000 ";
    let clock = format!("{body}{:08x}\n", crc32fast::hash(body.as_bytes()));
    seeds.push(("clock", "midnight".to_owned(), clock.into_bytes()));
    let sample = include_str!("../../../deploy/softstake.toml").lines();
    let sample: Vec<&str> = sample.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    seeds.push(("config", "sample".to_owned(), sample.join("\n").into_bytes()));
    let pool = "[[pools]]\nid = \"atom\"\nasset = \"ATOM\"\n[pools.chain]\nkind = \"simulated\"\npreset = \"atom\"\n";
    seeds.push(("config", "pool".to_owned(), pool.as_bytes().to_vec()));
    let variables = format!("{pool}\n---\nLISTEN=127.0.0.1:1\nLOG__LEVEL=info\nSOURCES=a,b\n");
    seeds.push(("config", "variables".to_owned(), variables.into_bytes()));
    // Found by a run: reading the filter panicked.
    let filter = format!("{pool}\n---\nLOG__LEVEL=info, \u{e9}[x]\n");
    seeds.push(("config", "filter".to_owned(), filter.into_bytes()));
    let hash =
        crate::api::access::identities::sha256(b"token").iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let identity = format!(
        "[[principals]]\nname = \"ledger-1\"\nroles = [\"ledger\"]\nsans = [\"URI:softstake://ledger-1\"]\n\
         [[principals.tokens]]\nsha256 = \"{hash}\"\nexpires = \"2027-01-31T00:00:00Z\"\n\n---\nBearer token"
    );
    seeds.push(("identity", "file".to_owned(), mode(0, identity.as_bytes())));
    let balances = "account,asset,base_units\nalice,ATOM,7\nbob,NEAR,80000000000000000000000000000\n";
    seeds.push(("csv", "balances".to_owned(), balances.as_bytes().to_vec()));
    let validators = "operator_address,moniker,status,jailed,tokens_base_units,commission_rate\n\
                      valoper1,\"A, B\",BONDED,false,1000,0.1\nvaloper2,C,UNBONDING,true,1,0\n";
    seeds.push(("csv", "validators".to_owned(), validators.as_bytes().to_vec()));
    seeds
}

struct Midnight;

impl Clock for Midnight {
    fn now_ms(&self) -> i64 {
        1_795_305_600_000
    }
}

/// The log of a chain on which a little happened.
fn chain() -> Vec<Seed> {
    let disk = MemoryLog::new();
    let chain = SimulatedChain::open_memory(disk.clone(), presets::atom(), Arc::new(Midnight)).unwrap();
    let amount = crate::domain::amount::BaseUnits::from_u64(1_000_000);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(chain.set_fault(SimulatedFault::Donate { amount })).unwrap();
    let log = disk.contents();
    vec![
        ("chain_log", "log".to_owned(), mode(0x80, &log)),
        ("chain_log", "genesis".to_owned(), mode(0, &log[20..log.len().min(72)])),
    ]
}
