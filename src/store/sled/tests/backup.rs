use super::*;
use std::collections::BTreeMap;
use std::fs;

async fn everything(store: &SledStore, partition: PartitionId) -> BTreeMap<Vec<u8>, Vec<u8>> {
    store.scan(partition, keys::prefix_range(&[]), usize::MAX, Direction::Forward).await.unwrap().into_iter().collect()
}

fn restored(archive: &Path, directory: &Path) -> Result<BackupReport, ArchiveError> {
    std::thread::scope(|scope| scope.spawn(|| restore(archive, directory)).join().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_comes_back_and_is_fenced_at_first() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(&root.path().join("live"));
    for index in 0u64..300 {
        let mut batch = put(A, &keys::posting(index), &vec![index as u8; (index * 20) as usize]);
        if index % 7 == 0 && index > 0 {
            batch.delete(keys::posting(index - 1));
        }
        store.commit(vec![batch, put(B, &keys::posting(index), b"")]).await.unwrap();
    }
    let archive = root.path().join("archive");
    let report = store.backup(&archive, Origin::default()).await.unwrap();
    assert!(report.summary.same_records(&store.summary()));
    assert_eq!(report.bytes, fs::metadata(&archive).unwrap().len());
    let hash = *blake3::hash(&fs::read(&archive).unwrap()).as_bytes();
    assert_eq!((report.hash, super::super::check(&archive).unwrap().hash), (hash, hash), "as written, and as read");
    assert!(matches!(store.backup(&archive, Origin::default()).await, Err(ArchiveError::Exists(_))));

    let directory = root.path().join("restored");
    let report = restored(&archive, &directory).unwrap();
    assert!(report.summary.same_records(&store.summary()));
    let error = SledStore::open(&directory, options()).unwrap_err();
    assert!(matches!(error, OpenError::Fenced(_)));
    assert!(error.to_string().contains("softstake restore --unfence --to"), "{error}");
    assert!(matches!(restored(&archive, &directory), Err(ArchiveError::Exists(_))));
    unfence(&directory).unwrap();
    unfence(&directory).unwrap();
    let again = open_store(&directory);
    for partition in [A, B] {
        assert_eq!(everything(&again, partition).await, everything(&store, partition).await);
    }
    again.commit(vec![put(A, b"k", b"v")]).await.unwrap();
    assert!(!root.path().join("restored.unfinished").exists() && !root.path().join("archive.unfinished").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_has_a_backup() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(&root.path().join("live"));
    store.backup(&root.path().join("archive"), Origin::default()).await.unwrap();
    let report = restored(&root.path().join("archive"), &root.path().join("restored")).unwrap();
    assert_eq!(report.summary.records, 0);
}

/// Commits between all steps of the walk, behind it, ahead of it and on both sides: the archive has every one of them
/// but those after the last step.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_between_the_steps_is_in_the_archive() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(open_store(&root.path().join("live")));
    for start in (0u64..1200).step_by(100) {
        store.commit((start..start + 100).map(|n| put(A, &keys::posting(n), &vec![1; 6000])).collect()).await.unwrap();
    }
    let walked = Arc::clone(&store);
    let archive = root.path().join("archive");
    let target = archive.clone();
    let steps = tokio::task::spawn_blocking(move || {
        let mut numbers = Numbers(13);
        let mut states = vec![walked.summary()];
        crate::store::sled::backup::backup_with(&walked.shared, &walked.ended, &target, Origin::default(), || {
            let mut batch = Batch::new(A);
            let start = numbers.below(1100);
            batch.put(keys::ledger(), (states.len() as u64).to_be_bytes());
            batch.put(keys::posting(start), vec![2; 3000]).delete(keys::posting(start + 1));
            batch.put(keys::payout_seal(numbers.next(), 0), b"new");
            tokio::runtime::Handle::current().block_on(walked.commit(vec![batch])).unwrap();
            states.push(walked.summary());
        })
        .map(|report| (report, states))
    });
    let (report, states) = steps.await.unwrap().unwrap();
    assert!(states.len() > 20, "{} steps", states.len());
    assert_eq!(report.summary, states[states.len() - 2], "as of the last step, before what came after it");
    assert!(restored(&archive, &root.path().join("restored")).unwrap().summary.same_records(&report.summary));
}

/// Every commit sets records at both ends and in two partitions to its number: an archive of anything but one moment
/// shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_of_one_moment() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(open_store(&root.path().join("live")));
    let mut fill = Vec::new();
    for index in 0u64..1200 {
        fill.push(put(A, &keys::posting(index), &vec![1; 6000]));
        if fill.len() == 100 {
            store.commit(std::mem::take(&mut fill)).await.unwrap();
        }
    }
    let stop = Arc::new(AtomicUsize::new(0));
    let (writer, stopping) = (Arc::clone(&store), Arc::clone(&stop));
    let writing = tokio::spawn(async move {
        let mut numbers = Numbers(11);
        let mut round = 0u64;
        while stopping.load(Ordering::SeqCst) == 0 {
            round += 1;
            let mut batch = Batch::new(A);
            // The first and the last key of the walk, and some between, all with the same round.
            for key in [keys::ledger(), keys::payout_seal(u64::MAX, 0)] {
                batch.put(key, round.to_be_bytes());
            }
            let index = numbers.below(1200);
            batch.put(keys::posting(index), vec![round as u8; 3000]);
            batch.delete(keys::posting((index + 1) % 1200));
            let mut second = Batch::new(B);
            second.put(keys::posting(round), b"").put(keys::ledger(), round.to_be_bytes());
            writer.commit(vec![batch, second]).await.unwrap();
        }
        round
    });
    for number in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        let archive = root.path().join(format!("archive{number}"));
        store.backup(&archive, Origin::default()).await.unwrap();
        let directory = root.path().join(format!("restored{number}"));
        restored(&archive, &directory).unwrap();
        unfence(&directory).unwrap();
        let again = open_store(&directory);
        let round = again.get(A, &keys::ledger()).await.unwrap().unwrap();
        assert_eq!(again.get(A, &keys::payout_seal(u64::MAX, 0)).await.unwrap().as_ref(), Some(&round));
        assert_eq!(again.get(B, &keys::ledger()).await.unwrap().as_ref(), Some(&round));
        let count = again.scan(B, keys::range_of_tag(keys::tag::POSTING), usize::MAX, Direction::Forward).await;
        assert_eq!(count.unwrap().len() as u64, u64::from_be_bytes(round.try_into().unwrap()));
    }
    stop.store(1, Ordering::SeqCst);
    assert!(writing.await.unwrap() > 0);
    assert!(store.shared.read().capture.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damaged_byte_of_an_archive_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(&root.path().join("live"));
    for index in 0u64..6 {
        store.commit(vec![put(A, &keys::posting(index), &[index as u8; 9])]).await.unwrap();
    }
    let archive = root.path().join("archive");
    store.backup(&archive, Origin::default()).await.unwrap();
    let good = fs::read(&archive).unwrap();
    let bad = root.path().join("bad");
    let target = root.path().join("target");
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&bad, bytes).unwrap();
        let error = restore(&bad, &target).expect_err(what);
        assert!(matches!(error, ArchiveError::Damaged { .. } | ArchiveError::Newer { .. }), "{what}: {error}");
        assert!(error.to_string().contains(&bad.display().to_string()), "{error}");
        assert!(!target.exists() && !root.path().join("target.unfinished").exists());
        error.to_string()
    };
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            refused(&bytes, &format!("bit {bit} of byte {at}"));
        }
    }
    for length in 0..good.len() {
        refused(&good[..length], &format!("{length} bytes of it"));
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert!(refused(&longer, "a byte more").contains("more after the end"));
    let mut newer = good.clone();
    newer[16] = 2;
    assert!(refused(&newer, "a newer version").contains("has version 2, and this softstake knows up to 1"));
    let mut block = good.clone();
    block[100] ^= 1;
    assert!(refused(&block, "a block").contains("the checksum of block 0 does not match"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_leaves_nothing_that_opens() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(&root.path().join("live"));
    store.commit(vec![put(A, b"k", b"v")]).await.unwrap();
    let archive = root.path().join("archive");
    store.backup(&archive, Origin::default()).await.unwrap();
    // What a death in the middle leaves: a fenced directory under another name.
    let leftover = root.path().join("restored.unfinished");
    fs::create_dir(&leftover).unwrap();
    guards::fence(&leftover, "half").unwrap();
    fs::write(leftover.join("db"), b"half").unwrap();
    restored(&archive, &root.path().join("restored")).unwrap();
    assert!(!leftover.exists());
}
