//! The position book: apply, journal, freeze, and a whole group through the committer.

use std::hint::black_box;
use std::sync::Arc;

use async_trait::async_trait;
use criterion::{BatchSize, Criterion};
use softstake::book::bench::{Journal, Rows, decode_first, slot_of};
use softstake::book::{
    Book, BookConfig, Committer, EventBatch, EventPool, FeedEvent, JournalRecord, MAX_BATCH_EVENTS, PoolSpec,
};
use softstake::domain::amount::BaseUnits;
use softstake::domain::feed::SourceNumber;
use softstake::domain::ids::AccountId;
use softstake::domain::time::UnixSeconds;
use softstake::store::{Batch, Direction, KeyRange, PartitionId, Store, StoreError};

use crate::input::{EVENTS, Numbers, START, account, group, period};

/// Positions of a book: 270 MB of rows, far past the caches.
const POSITIONS: usize = 4 << 20;

const SOURCE: SourceNumber = SourceNumber(16);

/// Records of random accounts, as a feed brings them.
struct Feed {
    numbers: Numbers,
    sequence: u64,
}

impl Feed {
    fn new() -> Self {
        Self { numbers: Numbers(3), sequence: 0 }
    }

    fn now(&self) -> UnixSeconds {
        UnixSeconds::new(START + (self.sequence / EVENTS as u64) as i64)
    }

    fn next(&mut self) -> (AccountId, u64, BaseUnits) {
        self.sequence += 1;
        let account = AccountId::new(&account(self.numbers.below(POSITIONS))).expect("an account");
        (account, self.sequence, BaseUnits::from_u64(self.numbers.next() >> 24))
    }

    fn records(&mut self) -> (Vec<JournalRecord>, Vec<u64>) {
        let at = self.now();
        let record = |_| {
            let (account, sequence, balance) = self.next();
            JournalRecord::Balance { account, source: SOURCE, sequence, at, balance, pool_full: false }
        };
        let records: Vec<JournalRecord> = (0..EVENTS).map(record).collect();
        let slots = records.iter().filter_map(|record| Some(slot_of(record.account()?.as_str()))).collect();
        (records, slots)
    }
}

fn rows() -> Rows {
    Rows::new(period(0), (0..POSITIONS).map(account))
}

/// What a position takes in memory, for bounds: its place in the index, the end of its id, its id, its row.
struct Memory {
    index: Vec<u32>,
    ends: Vec<u32>,
    ids: Vec<[u8; 16]>,
    rows: Vec<[u64; 8]>,
}

impl Memory {
    fn new() -> Self {
        let mut numbers = Numbers(4);
        let slots = (POSITIONS * 8 / 7).next_power_of_two();
        Self {
            index: (0..slots).map(|_| numbers.below(POSITIONS) as u32).collect(),
            ends: (0..POSITIONS as u32).collect(),
            ids: (0..POSITIONS).map(|number| (number as u128).to_le_bytes()).collect(),
            rows: vec![[1; 8]; POSITIONS],
        }
    }

    fn slots(&self, numbers: &mut Numbers) -> Vec<usize> {
        (0..EVENTS).map(|_| numbers.below(self.index.len())).collect()
    }
}

/// Events of random accounts, applied to 4 million positions.
pub fn apply(criterion: &mut Criterion) {
    let mut group = group(criterion, "apply to random positions", EVENTS);
    let mut memory = Memory::new();
    let mut numbers = Numbers(5);
    group.bench_function("bound: a row each, all at once", |bencher| {
        let setup = || (0..EVENTS).map(|_| numbers.below(POSITIONS)).collect::<Vec<_>>();
        let write = |places: Vec<usize>| places.iter().for_each(|place| memory.rows[*place][0] += 1);
        bencher.iter_batched(setup, write, BatchSize::PerIteration);
    });
    let slots: Vec<Vec<usize>> = (0..64).map(|_| memory.slots(&mut numbers)).collect();
    let mut next = 0;
    let mut setup = || {
        next += 1;
        slots[next % slots.len()].clone()
    };
    group.bench_function("bound: index, end, id and row, all at once", |bencher| {
        let walk = |slots: Vec<usize>| {
            let mut sum = 0_u64;
            for slot in &slots {
                // The four places do not hang on each other.
                let place = slot % POSITIONS;
                sum += u64::from(memory.index[*slot]) + u64::from(memory.ends[place]) + u64::from(memory.ids[place][0]);
                memory.rows[place][0] += 1;
            }
            (slots, sum)
        };
        bencher.iter_batched(&mut setup, walk, BatchSize::PerIteration);
    });
    group.bench_function("bound: index, end, id and row, one after the other", |bencher| {
        let walk = |slots: Vec<usize>| {
            let mut before = 0;
            for slot in &slots {
                // Each place hangs on what was read before it, without being another for it.
                let ordinal = memory.index[slot ^ (before >> 60)] as usize;
                let end = memory.ends[ordinal] as usize;
                let id = memory.ids[end][15];
                let row = &mut memory.rows[ordinal ^ usize::from(id)];
                row[0] += 1;
                before = row[0] as usize;
            }
            (slots, before)
        };
        bencher.iter_batched(&mut setup, walk, BatchSize::PerIteration);
    });
    drop(memory);
    let (mut rows, mut feed) = (rows(), Feed::new());
    group.bench_function("ours", |bencher| {
        let setup = || (feed.now(), feed.records());
        let apply = |(now, (records, slots)): (UnixSeconds, (Vec<JournalRecord>, Vec<u64>))| {
            assert_eq!(rows.apply(now, &records, &slots), EVENTS);
            records
        };
        bencher.iter_batched(setup, apply, BatchSize::PerIteration);
    });
    group.finish();
}

/// A group into the values of a journal, and back.
pub fn journal(criterion: &mut Criterion) {
    let mut feed = Feed::new();
    let (now, (records, _)) = (feed.now(), feed.records());
    let values = Journal::default().encode(now, &records);
    let mut group = group(criterion, "journal", EVENTS);
    group.bench_function("bound: copy and hash its bytes", |bencher| {
        bencher.iter(|| {
            for value in &values {
                let copy = black_box(&value[..]).to_vec();
                black_box((blake3::hash(&copy), copy));
            }
        });
    });
    group.bench_function("ours: encode", |bencher| {
        let mut journal = Journal::default();
        bencher.iter(|| journal.encode(now, black_box(&records)));
    });
    group.bench_function("ours: decode", |bencher| {
        bencher.iter(|| decode_first(black_box(&values)).expect("a group"));
    });
    group.finish();
}

/// The weights of 4 million positions.
pub fn freeze(criterion: &mut Criterion) {
    let memory = Memory::new().rows;
    let mut group = group(criterion, "freeze", POSITIONS);
    group.bench_function("bound: read the rows, write a weight each", |bencher| {
        bencher.iter(|| {
            let weight = |row: &[u64; 8]| u128::from(row[0]) << 64 | u128::from(row[4]);
            black_box(&memory).iter().map(weight).collect::<Vec<u128>>()
        });
    });
    drop(memory);
    let (mut rows, mut feed) = (rows(), Feed::new());
    for _ in 0..POSITIONS / EVENTS {
        let (now, (records, slots)) = (feed.now(), feed.records());
        rows.apply(now, &records, &slots);
    }
    let mut index = 0;
    group.bench_function("ours", |bencher| {
        bencher.iter(|| {
            index += 1;
            let weights = rows.freeze(period(index));
            assert_eq!(weights.len(), POSITIONS);
            weights
        });
    });
    group.finish();
}

/// A store that keeps nothing, so that what the committer does is seen alone.
struct Nothing;

#[async_trait]
impl Store for Nothing {
    async fn get(&self, _: PartitionId, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    async fn scan(
        &self,
        _: PartitionId,
        _: KeyRange,
        _: usize,
        _: Direction,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        Ok(Vec::new())
    }

    async fn commit(&self, batches: Vec<Batch>) -> Result<(), StoreError> {
        drop(black_box(batches));
        Ok(())
    }
}

/// The most events of one batch of the book.
const BATCH: usize = MAX_BATCH_EVENTS;

/// A book of 1 million positions in 8 partitions.
async fn open(feed: &mut Feed) -> (Book, Committer) {
    let spec = PoolSpec { number: 1, partitions: 8, first_start: UnixSeconds::new(START) };
    let (book, mut committer) =
        Book::open(Arc::new(Nothing), vec![spec], BookConfig::default()).await.expect("an empty store opens");
    book.add_source(SOURCE);
    let receipt = book.sender().open_period(1, period(0)).expect("room");
    committer.step(UnixSeconds::new(START)).await.expect("it opens a period");
    receipt.await.expect("it opens");
    for first in (0..POSITIONS / 4).step_by(BATCH) {
        let events = (first..first + BATCH).map(|number| FeedEvent {
            pool: EventPool::Pool(1),
            account: AccountId::new(&account(number)).expect("an account"),
            balance: BaseUnits::from_u64(number as u64 + 1),
            at: UnixSeconds::new(START),
        });
        let first_sequence = feed.sequence + 1;
        feed.sequence += BATCH as u64;
        let batch = EventBatch { source: SOURCE, first_sequence, events: events.collect(), watermark: None };
        let receipt = book.sender().submit_events(batch).expect("room");
        committer.step(feed.now()).await.expect("it commits");
        receipt.await.expect("it takes them");
    }
    (book, committer)
}

/// One batch through the book's queue and committer, on a store that does nothing.
pub fn commit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut feed = Feed::new();
    let (book, mut committer) = runtime.block_on(open(&mut feed));
    let sender = book.sender();
    let mut group = group(criterion, "a group through the book", BATCH);
    let mut batch = || {
        let (at, first_sequence) = (feed.now(), feed.sequence + 1);
        let event = |_| {
            feed.sequence += 1;
            let account = AccountId::new(&account(feed.numbers.below(POSITIONS / 4))).expect("an account");
            let balance = BaseUnits::from_u64(feed.numbers.next() >> 24);
            FeedEvent { pool: EventPool::Pool(1), account, balance, at }
        };
        let events = (0..BATCH).map(event).collect();
        (at, EventBatch { source: SOURCE, first_sequence, events, watermark: None })
    };
    group.bench_function("ours: hand in and commit", |bencher| {
        let commit = |(now, batch): (UnixSeconds, EventBatch)| {
            runtime.block_on(async {
                let receipt = sender.submit_events(batch).expect("room");
                committer.step(now).await.expect("it commits");
                receipt.await.expect("it takes them")
            })
        };
        bencher.iter_batched(&mut batch, commit, BatchSize::PerIteration);
    });
    group.bench_function("of that: hand in", |bencher| {
        let setup = || {
            let (now, batch) = batch();
            // What was handed in before is committed now.
            runtime.block_on(committer.step(now)).expect("it commits");
            batch
        };
        let hand_in = |batch: EventBatch| sender.submit_events(batch).expect("room");
        bencher.iter_batched(setup, hand_in, BatchSize::PerIteration);
    });
    group.finish();
}
