use super::*;
use std::sync::mpsc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_comes_after_a_sync_and_commits_share_them() {
    let root = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&syncs);
    let sync = Box::new(move |file: &File| {
        std::thread::sleep(Duration::from_millis(5));
        file.sync_data()?;
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let store = Arc::new(open::open(root.path(), options(), sync).unwrap());
    for index in 1u64..=5 {
        store.commit(vec![put(A, &keys::posting(index), b"v")]).await.unwrap();
        assert_eq!(syncs.load(Ordering::SeqCst) as u64, index, "one commit at a time: one sync each");
    }
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0u64..200 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.commit(vec![put(B, &keys::posting(index), b"v")]).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    let shared = syncs.load(Ordering::SeqCst) - 5;
    assert!((1..=20).contains(&shared), "200 commits at once took {shared} syncs");
    assert_eq!(store.verify().await.unwrap().records, 205);

    let before = syncs.load(Ordering::SeqCst);
    let mut conflict = put(A, b"k", b"v");
    conflict.expect_equals(b"k".as_slice(), b"other".as_slice());
    assert!(store.commit(vec![conflict]).await.is_err());
    assert_eq!(syncs.load(Ordering::SeqCst), before, "a conflict changes nothing and costs no sync");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_one_group_see_each_other() {
    let root = tempfile::tempdir().unwrap();
    let (go, wait) = mpsc::channel::<()>();
    let sync = Box::new(move |file: &File| {
        let _ = wait.recv_timeout(Duration::from_secs(30));
        file.sync_data()
    });
    let store = Arc::new(open::open(root.path(), options(), sync).unwrap());
    let commit = |batch: Batch| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.commit(vec![batch]).await })
    };
    // The first is being synced while the others queue up as one group.
    let first = commit(put(B, b"x", b"x"));
    while store.shared.read().pending.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let create = |value: &[u8]| {
        let mut batch = put(A, b"k", value);
        batch.expect_absent(b"k".as_slice());
        batch
    };
    let waiting = |number: usize| {
        let store = Arc::clone(&store);
        async move {
            while store.requests.as_ref().unwrap().max_capacity() - store.requests.as_ref().unwrap().capacity() < number
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let winner = commit(create(b"1"));
    waiting(1).await;
    let loser = commit(create(b"2"));
    waiting(2).await;
    let mut next = put(A, b"k", b"3");
    next.expect_equals(b"k".as_slice(), b"1".as_slice());
    let next = commit(next);
    waiting(3).await;
    go.send(()).unwrap();
    go.send(()).unwrap();
    first.await.unwrap().unwrap();
    winner.await.unwrap().unwrap();
    assert_eq!(loser.await.unwrap(), Err(StoreError::Conflict { partition: A.0 }));
    next.await.unwrap().unwrap();
    assert_eq!(store.get(A, b"k").await, Ok(Some(b"3".to_vec())));
    assert_eq!(store.summary().applied, 2, "three commits in one batch of sled, after the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_durable_is_not_shown() {
    let root = tempfile::tempdir().unwrap();
    let (go, wait) = mpsc::channel::<()>();
    let sync = Box::new(move |file: &File| {
        let _ = wait.recv_timeout(Duration::from_secs(30));
        file.sync_data()
    });
    let store = Arc::new(open::open(root.path(), options(), sync).unwrap());
    go.send(()).unwrap();
    store.commit(vec![put(A, b"old", b"1")]).await.unwrap();

    let committer = Arc::clone(&store);
    let commit = tokio::spawn(async move { committer.commit(vec![put(A, b"new", b"1")]).await });
    while store.shared.read().pending.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(store.get(A, b"old").await, Ok(Some(b"1".to_vec())), "others are read");
    assert_eq!(store.get(B, b"new").await, Ok(None));
    let reader = Arc::clone(&store);
    let get = tokio::spawn(async move { reader.get(A, b"new").await });
    let reader = Arc::clone(&store);
    let scan = tokio::spawn(async move { reader.scan(A, keys::prefix_range(b"n"), 9, Direction::Forward).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!get.is_finished() && !scan.is_finished() && !commit.is_finished());
    go.send(()).unwrap();
    commit.await.unwrap().unwrap();
    assert_eq!(get.await.unwrap(), Ok(Some(b"1".to_vec())));
    assert_eq!(scan.await.unwrap().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_unknown_and_ends_all_commits() {
    let root = tempfile::tempdir().unwrap();
    let count = AtomicUsize::new(0);
    let sync = Box::new(move |file: &File| {
        if count.fetch_add(1, Ordering::SeqCst) == 1 {
            return Err(io::Error::other("the disk is gone"));
        }
        file.sync_data()
    });
    let store = open::open(root.path(), options(), sync).unwrap();
    store.commit(vec![put(A, b"before", b"1")]).await.unwrap();
    let error = store.commit(vec![put(A, b"k", b"1")]).await.unwrap_err();
    assert!(matches!(&error, StoreError::Fatal(why) if why.contains("the disk is gone")), "{error}");
    for _ in 0..2 {
        let error = store.commit(vec![put(B, b"later", b"1")]).await.unwrap_err();
        assert!(matches!(&error, StoreError::Fatal(why) if why.contains("until the store is opened again")));
    }
    assert!(store.failure().is_some());
    assert!(matches!(store.get(A, b"k").await, Err(StoreError::Fatal(_))), "the unknown is not shown");
    assert_eq!(store.get(A, b"before").await, Ok(Some(b"1".to_vec())), "the rest is");
    assert!(store.backup(&root.path().join("archive"), Origin::default()).await.is_err());
    drop(store);

    let store = open_store(root.path());
    assert_eq!(store.get(A, b"before").await, Ok(Some(b"1".to_vec())));
    assert_eq!(store.get(B, b"later").await, Ok(None));
    store.verify().await.unwrap();
    store.commit(vec![put(A, b"k", b"2")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_on_the_thread_is_a_failure_and_not_a_silence() {
    let root = tempfile::tempdir().unwrap();
    let sync = Box::new(|_: &File| panic!("a bug"));
    let store = open::open(root.path(), options(), sync).unwrap();
    assert!(matches!(store.commit(vec![put(A, b"k", b"1")]).await, Err(StoreError::Fatal(_))));
    assert!(matches!(store.commit(vec![put(A, b"k", b"1")]).await, Err(StoreError::Fatal(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_caller_does_not_stop_half_a_change() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(root.path());
    for index in 0u64..20 {
        let commit = store.commit(vec![put(A, &keys::posting(index), b"v"), put(B, &keys::posting(index), b"v")]);
        // Polled once, so that it is on its way, and dropped.
        let _ = tokio::time::timeout(Duration::ZERO, commit).await;
    }
    drop(store);
    let store = open_store(root.path());
    for partition in [A, B] {
        let range = keys::range_of_tag(keys::tag::POSTING);
        assert_eq!(store.scan(partition, range, 100, Direction::Forward).await.unwrap().len(), 20);
    }
}

/// Ten commits of 20 records of random lengths, over each other.
async fn commit_some(store: &SledStore, numbers: &mut Numbers, value: u8) {
    for _ in 0..10 {
        let mut batch = Batch::new(A);
        (0..20).for_each(|index| {
            let key = keys::posting(numbers.below(500) * 20 + index);
            batch.put(key, vec![value; 1 + numbers.below(7000) as usize]);
        });
        store.commit(vec![batch]).await.unwrap();
    }
}

/// The files as a SIGKILL leaves them, after every acknowledgement.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_the_files() {
    let root = tempfile::tempdir().unwrap();
    let store = open_store(&root.path().join("live"));
    let mut numbers = Numbers(7);
    for round in 0u64..12 {
        commit_some(&store, &mut numbers, round as u8).await;
        let image = root.path().join(format!("image{round}"));
        copy(&root.path().join("live"), &image);
        let again = SledStore::open(&image, SledOptions { verify: true, ..options() }).unwrap();
        assert_eq!(again.summary(), store.summary());
    }
}

/// The files as a power cut leaves them that takes everything which the last sync did not cover, after every
/// acknowledgement. Only whole files are taken back here; pages one by one are in the tests of the real binary.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_what_was_synced() {
    let root = tempfile::tempdir().unwrap();
    let live = root.path().join("live");
    let synced = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (covered, data) = (Arc::clone(&synced), live.join("db"));
    let sync = Box::new(move |file: &File| {
        // What is written before a sync begins is what it covers.
        *covered.lock().unwrap() = std::fs::read(&data)?;
        file.sync_data()
    });
    let store = open::open(&live, options(), sync).unwrap();
    let mut numbers = Numbers(11);
    for round in 0u64..12 {
        commit_some(&store, &mut numbers, round as u8).await;
        let image = root.path().join(format!("image{round}"));
        copy(&live, &image);
        std::fs::write(image.join("db"), &*synced.lock().unwrap()).unwrap();
        let again = SledStore::open(&image, SledOptions { verify: true, ..options() }).unwrap();
        assert_eq!(again.summary(), store.summary());
    }
}
