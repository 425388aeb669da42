//! The contract of a store as a suite that every engine passes: ordinary code, so that an engine anywhere can run it.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Batch, Direction, KeyRange, MAX_COMMIT_BYTES, MAX_COMMIT_KEYS, MAX_KEY_BYTES, MAX_VALUE_BYTES, PartitionId, Store,
    StoreError, keys,
};

/// How the suite gets at an engine.
#[async_trait]
pub trait Harness: Sync {
    /// An empty store.
    async fn create(&self) -> Result<Arc<dyn Store>, String>;

    /// What is durable of `store`, opened again after it was dropped; `None` where the engine has nothing that outlives
    /// it.
    async fn reopen(&self, store: Arc<dyn Store>) -> Result<Option<Arc<dyn Store>>, String>;
}

/// What a run of the suite has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The checks that passed.
    pub passed: Vec<&'static str>,
    /// The checks that the engine has no use for.
    pub skipped: Vec<&'static str>,
}

const A: PartitionId = PartitionId(0x1_0000);
const B: PartitionId = PartitionId(0x1_0001);

/// Runs every check on a store of its own. `Err` names the first that failed and says how.
pub async fn check(harness: &dyn Harness) -> Result<Report, String> {
    let mut report = Report::default();
    macro_rules! run {
        ($($name:ident),*) => {$({
            let store = harness.create().await?;
            $name(store).await.map_err(|why| format!("{}: {why}", stringify!($name)))?;
            report.passed.push(stringify!($name));
        })*};
    }
    run!(
        expectations,
        expectations_see_the_state_before_the_commit,
        batches_are_whole,
        scans,
        partitions_are_apart,
        limits_are_kept,
        largest_commit,
        concurrent_counters
    );
    let store = harness.create().await?;
    if durability(harness, store).await.map_err(|why| format!("durability: {why}"))? {
        report.passed.push("durability");
    } else {
        report.skipped.push("durability");
    }
    Ok(report)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, and should be {expected:?}")) }
}

fn fine<T>(what: &str, result: Result<T, StoreError>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

fn put(partition: PartitionId, key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new(partition);
    batch.put(key, value);
    batch
}

async fn value(store: &Arc<dyn Store>, partition: PartitionId, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
    fine("get", store.get(partition, key).await)
}

async fn expectations(store: Arc<dyn Store>) -> Result<(), String> {
    let mut create = put(A, b"k", b"1");
    create.expect_absent(b"k".as_slice());
    fine("create", store.commit(vec![create.clone()]).await)?;
    let conflict = Err(StoreError::Conflict { partition: A.0 });
    same("create again", store.commit(vec![create]).await, conflict.clone())?;
    same("value", value(&store, A, b"k").await?, Some(b"1".to_vec()))?;

    let mut swap = put(A, b"k", b"2");
    swap.expect_equals(b"k".as_slice(), b"1".as_slice());
    fine("swap", store.commit(vec![swap.clone()]).await)?;
    same("swap again", store.commit(vec![swap]).await, conflict.clone())?;

    let mut absent = put(A, b"other", b"1");
    absent.expect_equals(b"none".as_slice(), b"".as_slice());
    same("an absent key has no empty value", store.commit(vec![absent]).await, conflict)?;
    fine("put empty", store.commit(vec![put(A, b"empty", b"")]).await)?;
    same("an empty value is a value", value(&store, A, b"empty").await?, Some(Vec::new()))?;

    let mut guard_only = Batch::new(A);
    guard_only.expect_equals(b"k".as_slice(), b"2".as_slice());
    fine("a batch without changes", store.commit(vec![guard_only]).await)?;
    fine("a commit without batches", store.commit(Vec::new()).await)?;

    let mut remove = Batch::new(A);
    remove.delete(b"k".as_slice()).delete(b"was never there".as_slice());
    fine("delete", store.commit(vec![remove]).await)?;
    same("deleted", value(&store, A, b"k").await?, None)
}

async fn expectations_see_the_state_before_the_commit(store: Arc<dyn Store>) -> Result<(), String> {
    let mut second = put(A, b"k", b"2");
    second.expect_equals(b"k".as_slice(), b"1".as_slice());
    let result = store.commit(vec![put(A, b"k", b"1"), second]).await;
    same("the second batch expects what the first puts", result, Err(StoreError::Conflict { partition: A.0 }))?;
    fine("in order", store.commit(vec![put(A, b"k", b"1"), put(A, b"k", b"2")]).await)?;
    same("the later batch wins", value(&store, A, b"k").await?, Some(b"2".to_vec()))
}

async fn batches_are_whole(store: Arc<dyn Store>) -> Result<(), String> {
    let mut second = put(B, b"k", b"1");
    second.expect_equals(b"missing".as_slice(), b"x".as_slice());
    let result = store.commit(vec![put(A, b"k", b"1"), second]).await;
    same("a conflict in the second", result, Err(StoreError::Conflict { partition: B.0 }))?;
    same("leaves the first undone", value(&store, A, b"k").await?, None)?;

    // A scan sees a batch whole or not at all, however many are under way.
    let writer = Arc::clone(&store);
    let writing = async move {
        for round in 0u32..50 {
            let mut batch = Batch::new(A);
            for index in 0u16..40 {
                batch.put(keys::source_cursor(index), round.to_be_bytes());
            }
            fine("put", writer.commit(vec![batch]).await)?;
        }
        Ok::<(), String>(())
    };
    let reading = async {
        for _ in 0..50 {
            let range = keys::range_of_tag(keys::tag::SOURCE_CURSOR);
            let pairs = fine("scan", store.scan(A, range, 100, Direction::Forward).await)?;
            if !pairs.is_empty() {
                same("records of one batch", pairs.len(), 40)?;
            }
            if let Some(pair) = pairs.windows(2).find(|pair| pair[0].1 != pair[1].1) {
                return Err(format!("a batch was seen in part: {pair:?}"));
            }
        }
        Ok(())
    };
    let (wrote, read) = tokio::join!(writing, reading);
    wrote.and(read)
}

/// What, its range, limit and direction, and the keys it should give.
type ScanCase = (&'static str, KeyRange, usize, Direction, &'static [&'static [u8]]);

async fn scans(store: Arc<dyn Store>) -> Result<(), String> {
    let mut batch = Batch::new(A);
    for key in [[1u8].as_slice(), &[1, 0], &[1, 1], &[2], &[2, 0xff], &[0xff], &[0xff, 0xff]] {
        batch.put(key, key);
    }
    fine("put", store.commit(vec![batch]).await)?;
    let range = |from: &[u8], to: &[u8]| KeyRange { from: from.to_vec(), to: to.to_vec() };
    let all = || keys::prefix_range(&[]);
    let cases: [ScanCase; 9] = [
        ("all", all(), 100, Direction::Forward, &[&[1], &[1, 0], &[1, 1], &[2], &[2, 0xff], &[0xff], &[0xff, 0xff]]),
        ("the first two", all(), 2, Direction::Forward, &[&[1], &[1, 0]]),
        ("the last two", all(), 2, Direction::Reverse, &[&[0xff, 0xff], &[0xff]]),
        ("half-open", range(&[1, 0], &[2]), 100, Direction::Forward, &[&[1, 0], &[1, 1]]),
        ("half-open, reverse", range(&[1, 0], &[2]), 100, Direction::Reverse, &[&[1, 1], &[1, 0]]),
        ("a prefix", keys::prefix_range(&[2]), 100, Direction::Forward, &[&[2], &[2, 0xff]]),
        ("after a key", range(&keys::after(&[1]), &[2]), 1, Direction::Forward, &[&[1, 0]]),
        ("nothing wanted", all(), 0, Direction::Forward, &[]),
        ("the wrong way round", range(&[2], &[1]), 100, Direction::Forward, &[]),
    ];
    for (what, range, limit, direction, expected) in cases {
        let pairs = fine(what, store.scan(A, range, limit, direction).await)?;
        let found: Vec<&[u8]> = pairs.iter().map(|(key, _)| key.as_slice()).collect();
        same(what, found.as_slice(), expected)?;
        if let Some((key, value)) = pairs.iter().find(|(key, value)| key != value) {
            return Err(format!("{what}: {key:?} has the value {value:?}"));
        }
    }
    Ok(())
}

async fn partitions_are_apart(store: Arc<dyn Store>) -> Result<(), String> {
    let ends = [PartitionId(0), PartitionId(1), PartitionId(0xff), PartitionId(0x100), A, B, PartitionId(u32::MAX)];
    for partition in ends {
        let mut batch = put(partition, b"k", &partition.0.to_be_bytes());
        batch.expect_absent(b"k".as_slice()).put([0xff; 8], partition.0.to_be_bytes());
        fine("put", store.commit(vec![batch]).await)?;
    }
    let mut remove = Batch::new(A);
    remove.delete(b"k".as_slice());
    fine("delete", store.commit(vec![remove]).await)?;
    for partition in ends {
        let expected = (partition != A).then(|| partition.0.to_be_bytes().to_vec());
        same("get", value(&store, partition, b"k").await?, expected)?;
        let pairs = fine("scan", store.scan(partition, keys::prefix_range(&[]), 9, Direction::Reverse).await)?;
        same("scan", pairs.len(), if partition == A { 1 } else { 2 })?;
    }
    Ok(())
}

async fn limits_are_kept(store: Arc<dyn Store>) -> Result<(), String> {
    let refused = |what: &str, result: Result<(), StoreError>| match result {
        Err(StoreError::Refused(_)) => Ok(()),
        other => Err(format!("{what}: {other:?}, and should be refused")),
    };
    let long_value = vec![7; MAX_VALUE_BYTES + 1];
    refused("a long value", store.commit(vec![put(A, b"k", &long_value)]).await)?;
    refused("a long key", store.commit(vec![put(A, &[7; MAX_KEY_BYTES + 1], b"")]).await)?;
    refused("an empty key", store.commit(vec![put(A, b"", b"")]).await)?;
    let mut twice = put(A, b"k", b"1");
    twice.delete(b"k".as_slice());
    refused("a key twice", store.commit(vec![twice]).await)?;
    let value = &long_value[..MAX_VALUE_BYTES];
    let count = u16::try_from(MAX_COMMIT_BYTES / MAX_VALUE_BYTES + 1).unwrap_or(u16::MAX);
    let many = (0..count).map(|index| put(A, &index.to_be_bytes(), value)).collect();
    refused("a large commit", store.commit(many).await)?;
    let keys = u16::try_from(MAX_COMMIT_KEYS + 1).unwrap_or(u16::MAX);
    refused("many keys", store.commit((0..keys).map(|index| put(A, &index.to_be_bytes(), b"")).collect()).await)?;
    let left = fine("scan", store.scan(A, keys::prefix_range(&[]), 1, Direction::Forward).await)?;
    same("nothing was changed", left.len(), 0)?;
    fine("at the limits", store.commit(vec![put(A, &[7; MAX_KEY_BYTES], value)]).await)?;
    same("read back", self::value(&store, A, &[7; MAX_KEY_BYTES]).await?, Some(value.to_vec()))
}

async fn largest_commit(store: Arc<dyn Store>) -> Result<(), String> {
    let value = vec![3; MAX_VALUE_BYTES];
    let count = u16::try_from(MAX_COMMIT_BYTES / (MAX_VALUE_BYTES + 2)).unwrap_or(u16::MAX);
    let mut batch = Batch::new(A);
    (0..count).for_each(|index| {
        batch.put(index.to_be_bytes(), value.as_slice());
    });
    fine("put", store.commit(vec![batch]).await)?;
    let pairs = fine("scan", store.scan(A, keys::prefix_range(&[]), usize::MAX, Direction::Forward).await)?;
    same("records", pairs.len(), count.into())?;
    let keys = u16::try_from(MAX_COMMIT_KEYS).unwrap_or(u16::MAX);
    fine("many keys", store.commit((0..keys).map(|index| put(B, &index.to_be_bytes(), b"x")).collect()).await)
}

/// Whoever commits at the same time: one wins, the others read again, and nothing is lost.
async fn concurrent_counters(store: Arc<dyn Store>) -> Result<(), String> {
    const WORKERS: u64 = 8;
    const ROUNDS: u64 = 10;
    fine("put", store.commit(vec![put(A, b"n", &0u64.to_be_bytes())]).await)?;
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let store = Arc::clone(&store);
        workers.spawn(async move {
            let mut left = ROUNDS;
            while left > 0 {
                let old = value(&store, A, b"n").await?.ok_or("the counter is gone")?;
                let number = old.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)) + 1;
                let mut batch = put(A, b"n", &number.to_be_bytes());
                batch.expect_equals(b"n".as_slice(), old).put(number.to_be_bytes(), b"");
                match store.commit(vec![batch]).await {
                    Ok(()) => left -= 1,
                    Err(StoreError::Conflict { .. }) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
            Ok::<(), String>(())
        });
    }
    while let Some(done) = workers.join_next().await {
        done.map_err(|error| error.to_string())??;
    }
    let expected = (WORKERS * ROUNDS).to_be_bytes().to_vec();
    same("the counter", value(&store, A, b"n").await?, Some(expected))?;
    let pairs = fine("scan", store.scan(A, keys::prefix_range(&[0]), 1000, Direction::Forward).await)?;
    same("one record for each", pairs.len() as u64, WORKERS * ROUNDS)
}

async fn durability(harness: &dyn Harness, store: Arc<dyn Store>) -> Result<bool, String> {
    let mut store = store;
    for round in 0u64..4 {
        for index in 0u64..25 {
            let mut batch = put(A, &keys::posting(round * 25 + index), &[7; 3000]);
            batch.delete(keys::posting(round * 25 + index).split_at(3).0.to_vec());
            let mut cursor = put(B, b"cursor", &(round * 25 + index).to_be_bytes());
            if index > 0 {
                cursor.expect_equals(b"cursor".as_slice(), (round * 25 + index - 1).to_be_bytes());
            }
            fine("commit", store.commit(vec![batch, cursor]).await)?;
        }
        let Some(again) = harness.reopen(store).await? else { return Ok(false) };
        store = again;
        let last = (round * 25 + 24).to_be_bytes().to_vec();
        same("the cursor", value(&store, B, b"cursor").await?, Some(last))?;
        let range = keys::range_of_tag(keys::tag::POSTING);
        let pairs = fine("scan", store.scan(A, range, 1000, Direction::Forward).await)?;
        same("records", pairs.len() as u64, round * 25 + 25)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::model::{Crash, ModelStore};
    use crate::store::sled::{SledOptions, SledStore};
    use std::sync::Mutex;

    /// Every store that it made, so that one can be gone on with.
    #[derive(Default)]
    struct Model(Mutex<Option<Arc<ModelStore>>>);

    #[async_trait]
    impl Harness for Model {
        async fn create(&self) -> Result<Arc<dyn Store>, String> {
            let store = Arc::new(ModelStore::new());
            *self.0.lock().unwrap() = Some(Arc::clone(&store));
            Ok(store)
        }

        async fn reopen(&self, store: Arc<dyn Store>) -> Result<Option<Arc<dyn Store>>, String> {
            drop(store);
            let mut last = self.0.lock().unwrap();
            let next = Arc::new(last.take().ok_or("nothing to reopen")?.after(Crash::Power));
            *last = Some(Arc::clone(&next));
            Ok(Some(next))
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_model_keeps_the_contract() {
        let report = check(&Model::default()).await.unwrap();
        assert_eq!((report.passed.len(), report.skipped.len()), (9, 0));
    }

    struct Sled {
        root: tempfile::TempDir,
        made: Mutex<u32>,
    }

    impl Sled {
        fn open(&self, number: u32) -> Result<Arc<dyn Store>, String> {
            let directory = self.root.path().join(number.to_string());
            let options = SledOptions { cache_bytes: 16 << 20, verify: true };
            Ok(Arc::new(SledStore::open(&directory, options).map_err(|error| error.to_string())?))
        }
    }

    #[async_trait]
    impl Harness for Sled {
        async fn create(&self) -> Result<Arc<dyn Store>, String> {
            let mut made = self.made.lock().unwrap();
            *made += 1;
            self.open(*made)
        }

        async fn reopen(&self, store: Arc<dyn Store>) -> Result<Option<Arc<dyn Store>>, String> {
            drop(store);
            self.open(*self.made.lock().unwrap()).map(Some)
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sled_keeps_the_contract() {
        let harness = Sled { root: tempfile::tempdir().unwrap(), made: Mutex::new(0) };
        let report = check(&harness).await.unwrap();
        assert_eq!((report.passed.len(), report.skipped.len()), (9, 0));
    }
}
