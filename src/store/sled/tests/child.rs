//! A process of its own, so that it can be killed, or run out of disk: this test program, run again.

use super::*;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

const DIRECTORY: &str = "SOFTSTAKE_TEST_CHILD_DIRECTORY";
const VALUES: u64 = 12;

/// Commits until it fails or is killed, and says after each answer how far it is. It ends by itself some time.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let store = open_store(Path::new(&directory));
    let cursor = store.get(B, b"cursor").await.unwrap();
    let mut next = cursor.map_or(0, |cursor| u64::from_be_bytes(cursor.try_into().unwrap()) + 1);
    while next < 20_000 {
        let mut batch = put(A, b"cursor", &next.to_be_bytes());
        (0..VALUES).for_each(|index| {
            batch.put(keys::posting(next * VALUES + index), vec![next as u8; 4000]);
        });
        if next >= 40 {
            (0..VALUES).for_each(|index| {
                batch.delete(keys::posting((next - 40) * VALUES + index));
            });
        }
        match store.commit(vec![batch, put(B, b"cursor", &next.to_be_bytes())]).await {
            Ok(()) => println!("acknowledged {next}"),
            Err(error) => {
                assert!(matches!(error, StoreError::Fatal(_)), "{error}");
                println!("failed {error}");
                assert!(store.commit(vec![put(A, b"later", b"1")]).await.is_err());
                return;
            }
        }
        next += 1;
    }
}

fn spawn(directory: &Path, limit_blocks: Option<u64>) -> (Child, impl Iterator<Item = String>) {
    let limit = limit_blocks.map_or("unlimited".to_owned(), |blocks| blocks.to_string());
    let mut child = Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"", "bash", &limit])
        .arg(std::env::current_exe().unwrap())
        .args(["store::sled::tests::child::child", "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    (child, lines)
}

/// Nothing that was acknowledged is gone, and of what was not, all is there or nothing.
async fn check(directory: &Path, acknowledged: Option<u64>) -> Option<u64> {
    let store = SledStore::open(directory, SledOptions { verify: true, ..options() }).unwrap();
    let number = |value: Option<Vec<u8>>| value.map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
    let first = number(store.get(A, b"cursor").await.unwrap());
    let second = number(store.get(B, b"cursor").await.unwrap());
    assert!(second >= acknowledged, "acknowledged {acknowledged:?}, and there is {second:?}");
    assert!(second <= first, "a later batch without an earlier one");
    let there = store.scan(A, keys::range_of_tag(keys::tag::POSTING), usize::MAX, Direction::Forward).await.unwrap();
    let groups = first.map_or(0, |first| (first + 1).min(40));
    assert_eq!(there.len() as u64, groups * VALUES, "a batch in part");
    assert_eq!(store.get(A, b"later").await, Ok(None));
    second
}

fn last(line: &str) -> Option<u64> {
    line.split("acknowledged ").nth(1)?.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("store");
    let mut numbers = Numbers(5);
    let mut acknowledged = None;
    for _ in 0..12 {
        let (mut child, lines) = spawn(&directory, None);
        let after = numbers.below(60);
        let mut left = after;
        let mut lines = lines.filter_map(|line| last(&line));
        while left > 0 {
            acknowledged = Some(lines.next().expect("the child commits until it is killed"));
            left -= 1;
        }
        std::thread::sleep(std::time::Duration::from_micros(numbers.below(3000)));
        child.kill().unwrap();
        // What it said before it died counts as well.
        acknowledged = lines.last().or(acknowledged);
        child.wait().unwrap();
        acknowledged = check(&directory, acknowledged).await;
    }
    assert!(acknowledged.is_some_and(|number| number > 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_a_failure_that_leaves_batches_whole() {
    let mut numbers = Numbers(6);
    for round in 0..6 {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("store");
        // In units of 1 kB; sled's file grows past it in the middle of some batch.
        let (mut child, lines) = spawn(&directory, Some(1500 + numbers.below(3000)));
        let lines: Vec<String> = lines.collect();
        let status = child.wait().unwrap();
        assert!(lines.iter().any(|line| line.contains("failed")), "{status}: {lines:?}");
        let acknowledged = lines.iter().rev().find_map(|line| last(line));
        let there = check(&directory, acknowledged).await;
        println!("round {round}: acknowledged {acknowledged:?}, there {there:?}");
    }
}
