use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::store::{MAX_KEY_BYTES, MAX_VALUE_BYTES, keys};

mod backup;
mod child;
mod damage;
mod durability;

const A: PartitionId = PartitionId(0x1_0000);
const B: PartitionId = PartitionId(0x1_0001);

fn options() -> SledOptions {
    SledOptions { cache_bytes: 32 << 20, verify: false }
}

fn open_store(directory: &Path) -> SledStore {
    SledStore::open(directory, options()).unwrap()
}

fn put(partition: PartitionId, key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new(partition);
    batch.put(key, value);
    batch
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[tokio::test]
async fn one_process_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(root.path());
    let error = SledStore::open(root.path(), options()).unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)));
    assert!(error.to_string().contains("another softstake has it open"), "{error}");
    drop(store);
    // At once, though sled takes a moment to let go.
    for round in 0u8..20 {
        let store = open_store(root.path());
        store.commit(vec![put(A, b"k", &[round])]).await.unwrap();
    }
}

#[tokio::test]
async fn an_unfinished_snapshot_is_removed_before_sled_sees_it() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(root.path());
    store.commit(vec![put(A, b"k", b"v")]).await.unwrap();
    drop(store);
    drop(open_store(root.path()));
    let leftover = root.path().join("snap.FFFFFFFFFFFFFFFF.generating");
    std::fs::write(&leftover, b"half").unwrap();
    let store = open_store(root.path());
    assert!(!leftover.exists());
    assert_eq!(store.get(A, b"k").await, Ok(Some(b"v".to_vec())));
}

/// What the guard above is for: if sled learns to do this itself, the guard can go.
#[test]
fn sled_alone_stumbles_over_an_unfinished_snapshot() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("snap.FFFFFFFFFFFFFFFF.generating"), b"half").unwrap();
    let opened = ::sled::Config::new().path(root.path()).flush_every_ms(None).open();
    assert!(matches!(opened, Err(::sled::Error::Corruption { .. })));
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(root.path());
    let mut newer = store.summary().encode();
    newer[0] = frame::FORMAT + 1;
    newer.push(0);
    store.shared.tree.insert(frame::SUMMARY_KEY, frame::seal(&frame::SUMMARY_KEY, &newer)).unwrap();
    drop(store);
    let error = SledStore::open(root.path(), options()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 2, known: 1, .. }), "{error}");
}

/// Every size and order that makes a leaf large: full-size values, overwrites, and merges of leaves that were thinned
/// out to the last few.
fn fill_and_thin(tree: &::sled::Tree) {
    let key = |index: u32| [vec![7; MAX_KEY_BYTES], index.to_be_bytes().to_vec()].concat();
    let value = vec![9; MAX_VALUE_BYTES + 4];
    let apply = |batch: ::sled::Batch| tree.apply_batch(batch).unwrap();
    for start in (0..2000).step_by(100) {
        let mut batch = ::sled::Batch::default();
        (start..start + 100).for_each(|index| batch.insert(key(index), value.as_slice()));
        apply(batch);
    }
    // Runs of ten go and a few stay, in ever new places, so that small leaves meet full ones.
    let mut numbers = Numbers(1);
    for _ in 0..200 {
        let start = u32::try_from(numbers.below(2000)).unwrap();
        let mut batch = ::sled::Batch::default();
        (start..start + 10).for_each(|index| batch.remove(key(index)));
        apply(batch);
        let mut batch = ::sled::Batch::default();
        let from = u32::try_from(numbers.below(2000)).unwrap();
        (from..from + 9).for_each(|index| batch.insert(key(index), value.as_slice()));
        apply(batch);
    }
    tree.flush().unwrap();
}

fn blobs(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("blobs")).unwrap().count()
}

#[test]
fn no_value_goes_to_a_blob_file() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(root.path());
    fill_and_thin(&store.shared.tree);
    assert_eq!(blobs(root.path()), 0);
}

/// Why the segment is larger than sled's default.
#[test]
fn at_the_default_segment_size_values_do_go_to_blob_files() {
    let root = tempfile::tempdir().unwrap();
    let database = ::sled::Config::new().path(root.path()).flush_every_ms(None).open().unwrap();
    fill_and_thin(&database);
    assert!(blobs(root.path()) > 0);
}

#[tokio::test]
async fn the_disk_is_used_again() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(root.path());
    let value = vec![5; 6000];
    // A journal that is trimmed: 2 MB live of 60 MB written.
    let mut largest = 0;
    for group in 0u64..600 {
        let mut batch = Batch::new(B);
        (0u16..16).for_each(|part| {
            batch.put(keys::journal(group, part), value.as_slice());
        });
        if group >= 20 {
            (0u16..16).for_each(|part| {
                batch.delete(keys::journal(group - 20, part));
            });
        }
        store.commit(vec![batch]).await.unwrap();
        largest = largest.max(store.disk_bytes().unwrap());
    }
    assert!(largest < 40 << 20, "{largest} bytes");
    assert_eq!(store.verify().await.unwrap().records, 20 * 16);
    assert_eq!(blobs(root.path()), 0);
}
