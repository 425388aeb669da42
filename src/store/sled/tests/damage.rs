use super::*;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[tokio::test]
async fn a_changed_value_is_named() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(root.path());
    let key = keys::posting(5);
    store.commit(vec![put(A, &key, b"value"), put(A, &keys::posting(6), b"value")]).await.unwrap();
    let physical = frame::physical_key(A, &key);
    let good = store.shared.tree.get(&physical).unwrap().unwrap().to_vec();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        store.shared.tree.insert(&physical, bad).unwrap();
        for error in [
            store.get(A, &key).await.map(|_| ()).unwrap_err(),
            store.scan(A, keys::prefix_range(&[]), 9, Direction::Forward).await.map(|_| ()).unwrap_err(),
            store.verify().await.map(|_| ()).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(matches!(error, StoreError::Fatal(_)));
            assert!(text.contains(&frame::hex(&key)) && text.contains("partition 65536"), "{text}");
            assert!(text.contains("softstake restore"), "{text}");
        }
    }
    // Another record's value, whole, in its place.
    let other = store.shared.tree.get(frame::physical_key(A, &keys::posting(6))).unwrap().unwrap();
    store.shared.tree.insert(&physical, other).unwrap();
    assert!(store.get(A, &key).await.is_err());
    let mut expects = put(B, b"k", b"v");
    expects.partition = A;
    expects.expect_equals(key, b"value".as_slice());
    assert!(matches!(store.commit(vec![expects]).await, Err(StoreError::Fatal(_))));
}

#[tokio::test]
async fn a_record_that_vanished_is_missed() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(root.path());
    store.commit((0..9).map(|index| put(A, &keys::posting(index), b"value")).collect()).await.unwrap();
    store.verify().await.unwrap();
    store.shared.tree.remove(frame::physical_key(A, &keys::posting(4))).unwrap();
    let error = store.verify().await.unwrap_err();
    assert!(error.to_string().contains("has 8 records"), "{error}");
    let archive = root.path().join("archive");
    let error = store.backup(&archive, Origin::default()).await.unwrap_err();
    assert!(error.to_string().contains("has 8 records and should have 9"), "{error}");
    assert!(!archive.exists());
    drop(store);
    let error = SledStore::open(root.path(), SledOptions { verify: true, ..options() }).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_log_that_ends_too_early_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let live = root.path().join("live");
    let store = open_store(&live);
    for index in 0..20 {
        store.commit(vec![put(A, &keys::posting(index), b"value")]).await.unwrap();
    }
    let early = root.path().join("early");
    copy(&live, &early);
    for index in 20..40 {
        store.commit(vec![put(A, &keys::posting(index), b"value")]).await.unwrap();
    }
    // The data of then with the mark of now: what a lost end of the log looks like.
    fs::copy(live.join("acknowledged"), early.join("acknowledged")).unwrap();
    let error = SledStore::open(&early, options()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("ends at batch 20, and batch 40 was acknowledged"), "{text}");
    assert!(text.contains("softstake restore"), "{text}");
    // And with everything gone.
    fs::remove_file(early.join("db")).unwrap();
    for entry in fs::read_dir(&early).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    assert!(matches!(SledStore::open(&early, options()), Err(OpenError::Damaged { .. })));
    // A mark that can't be read is passed over: it may be torn by a power cut.
    drop(store);
    fs::write(live.join("acknowledged"), b"torn").unwrap();
    assert_eq!(open_store(&live).verify().await.unwrap().records, 40);
}

#[tokio::test]
async fn a_small_record_that_vanished_or_went_back_is_missed_at_every_open() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(root.path());
    for round in 0u8..2 {
        // In the service's partition, in two pools' control partitions and in a book's.
        let partitions = [PartitionId::SERVICE, A, B, PartitionId::control(7), PartitionId::control(u16::MAX)];
        store.commit(partitions.map(|partition| put(partition, &keys::posting(4), &[round])).to_vec()).await.unwrap();
    }
    let record = |partition| frame::physical_key(partition, &keys::posting(4));
    let read = |partition| store.shared.tree.get(record(partition)).unwrap().unwrap();
    let (summary, small) = (store.summary(), [PartitionId::SERVICE, A, PartitionId::control(7)]);
    assert_eq!((summary.records, summary.small_records), (5, 4));
    let whole: Vec<_> = small.into_iter().chain([B, PartitionId::control(u16::MAX)]).map(|p| (p, read(p))).collect();
    drop(store);
    let change = |partition: PartitionId, framed: Option<&[u8]>| {
        let config = ::sled::Config::new().path(root.path()).segment_size(1 << 20).flush_every_ms(None);
        // The threads of the store that was dropped let go of the file a moment later.
        let database = loop {
            match config.open() {
                Err(error) if error.to_string().contains("could not acquire lock") => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        match framed {
            Some(framed) => database.insert(record(partition), framed).unwrap(),
            None => database.remove(record(partition)).unwrap(),
        };
        database.flush().unwrap();
    };
    for (partition, framed) in &whole {
        let earlier = frame::seal(&record(*partition), &[0]);
        for bad in [None, Some(earlier.as_slice())] {
            change(*partition, bad);
            let opened = SledStore::open(root.path(), options());
            if *partition == B {
                assert!(opened.unwrap().verify().await.is_err(), "what reads everything misses it too");
            } else {
                let error = opened.unwrap_err().to_string();
                assert!(error.contains("small records") && error.matches("softstake restore").count() == 1, "{error}");
            }
        }
        change(*partition, Some(framed));
        drop(open_store(root.path()));
    }
}

/// One bit of the data file flips while the store is closed, with sled's snapshot and without it: it is refused at
/// open, or named by the verification, or the bit belongs to nothing. It is never lost in silence.
#[tokio::test]
async fn a_flipped_bit_is_never_silent() {
    let root = tempfile::tempdir().unwrap();
    let live = root.path().join("live");
    let mut store = open_store(&live);
    let mut numbers = Numbers(3);
    for round in 0u64..300 {
        let mut batch = Batch::new(A);
        (0..4).for_each(|index| {
            batch.put(keys::posting(numbers.below(100) * 4 + index), vec![round as u8; numbers.below(7000) as usize]);
        });
        store.commit(vec![batch]).await.unwrap();
        if round == 200 {
            // From here on, there is a snapshot.
            drop(store);
            store = open_store(&live);
        }
    }
    let expected = store.summary();
    drop(store);
    let written = fs::metadata(live.join("db")).unwrap().len();
    let (mut refused, mut early, mut found, mut harmless) = (0, 0, 0, 0);
    for round in 0..80 {
        let image = root.path().join("image");
        copy(&live, &image);
        if round % 2 == 0 {
            for entry in fs::read_dir(&image).unwrap().map(Result::unwrap) {
                if entry.file_name().to_string_lossy().starts_with("snap.") {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
        }
        let mut bytes = fs::read(image.join("db")).unwrap();
        let at = usize::try_from(numbers.below(written)).unwrap();
        bytes[at] ^= 1 << numbers.below(8);
        fs::write(image.join("db"), bytes).unwrap();
        match SledStore::open(&image, options()) {
            Err(OpenError::Damaged { what, .. }) => {
                refused += 1;
                early += usize::from(what.contains("its log ends at batch"));
            }
            Err(other) => panic!("byte {at}: {other}"),
            Ok(store) => match store.verify().await {
                Err(_) => found += 1,
                Ok(summary) => {
                    assert!(summary.same_records(&expected), "byte {at}: records were lost in silence");
                    harmless += 1;
                }
            },
        }
        fs::remove_dir_all(&image).unwrap();
    }
    println!(
        "{written} bytes: {refused} refused at open ({early} because of the mark), {found} found by the verification, \
         {harmless} in bytes that mean nothing"
    );
    assert!(early > 0, "sled takes damage for the end of its log");
}

/// A file that is no store at all does not become one.
#[tokio::test]
async fn rubbish_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(root.path());
    store.commit(vec![put(A, b"k", b"v")]).await.unwrap();
    drop(store);
    let mut numbers = Numbers(9);
    let rubbish: Vec<u8> = (0..2_200_000).map(|_| numbers.next() as u8).collect();
    fs::write(root.path().join("db"), rubbish).unwrap();
    let opened = catch_unwind(AssertUnwindSafe(|| SledStore::open(root.path(), options()).map(|_| ())));
    assert!(opened.expect("no panic gets out").is_err());
}
