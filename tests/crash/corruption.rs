//! One byte of the data files is another: refused by name, named when read, or nothing changed. Never a silence.
//!
//! Each damaged folder is read by a process of its own, with limits on its memory and time: whatever sled does with what
//! it finds, the service has to say what is wrong. `SOFTSTAKE_CORRUPTIONS=2000` makes as many as it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ledger::World;
use crate::load::{self, Shared};
use crate::numbers::{Numbers, from_environment, mix};
use crate::program::{Program, data};
use crate::reader::{self, Found};
use crate::verify;

const FOLDER: &str = "SOFTSTAKE_TEST_READER_FOLDER";

/// A reader may have so many kilobytes of addresses, and so many seconds.
const MEMORY_KB: u64 = 8 << 20;
const SECONDS: u64 = 120;

/// So many folders are read at once.
const READERS: usize = 2;

/// The reader's own process: this test program, run again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reader() {
    if let Ok(folder) = std::env::var(FOLDER) {
        crate::reader::read(Path::new(&folder)).await;
    }
}

/// How a reader ended.
#[derive(Debug)]
enum Read {
    Told(BTreeMap<String, Found>),
    /// It died, or was stopped: how, and its last words.
    Died(String),
}

fn read(data: &Path) -> Read {
    let limited = Command::new("bash")
        .args(["-c", "ulimit -v \"$1\"; exec timeout -s KILL \"$2\" \"${@:3}\"", "bash"])
        .args([MEMORY_KB.to_string(), SECONDS.to_string()])
        .arg(std::env::current_exe().unwrap())
        .args(["corruption::reader", "--exact", "--nocapture"])
        .env(FOLDER, data)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&limited.stdout);
    match reader::parse(&output) {
        Some(found) if limited.status.success() => Read::Told(found),
        _ => {
            let errors = String::from_utf8_lossy(&limited.stderr);
            let last: Vec<&str> = errors.lines().chain(output.lines().rev().take(1)).take(6).collect();
            Read::Died(format!("{}: {}", limited.status, last.join(" | ")))
        }
    }
}

/// What one corruption came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The service does not start, and says what is damaged.
    Refused,
    /// It starts, and what is damaged is named when it is read; everything else is as it was.
    Named,
    /// It starts, everything that is read is as it was, and the verification of a backup names what is lost.
    Verified,
    /// Everything is as it was, also after another start.
    Harmless,
    /// The process died of it.
    Died,
    /// Something is another, and nobody says so.
    Silent,
}

/// What a message has to have: what is damaged, and what to do about it.
fn names_it(message: &str) -> bool {
    ["restore", "Restore", "put back", "backup"].iter().any(|advice| message.contains(advice))
}

/// Judges what was read of a damaged copy against what was read of the whole one.
fn judge(whole: &BTreeMap<String, Found>, read: &Read) -> (Outcome, String) {
    let found = match read {
        Read::Died(how) => return (Outcome::Died, how.clone()),
        Read::Told(found) => found,
    };
    if let Some(Err(refused)) = found.get("refused") {
        let outcome = if names_it(refused) { Outcome::Refused } else { Outcome::Silent };
        return (outcome, refused.clone());
    }
    let mut named = None;
    for (what, expected) in whole.iter().filter(|(what, _)| *what != "verification") {
        match found.get(what) {
            Some(same) if same == expected => {}
            Some(Err(error)) if names_it(error) => named = Some(format!("{what}: {error}")),
            other => return (Outcome::Silent, format!("{what}: {other:?} instead of {expected:?}")),
        }
    }
    if let Some(what) = found.keys().find(|what| !whole.contains_key(*what)) {
        return (Outcome::Silent, format!("{what} was not there before"));
    }
    match (named, found.get("verification")) {
        (Some(named), _) => (Outcome::Named, named),
        (None, Some(Err(error))) => (Outcome::Verified, error.clone()),
        (None, _) => (Outcome::Harmless, String::new()),
    }
}

pub fn copy(from: &Path, to: &Path) {
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

/// Two folders with a history: one whose service was stopped, and one whose service was killed under load.
async fn histories(root: &Path) -> [PathBuf; 2] {
    let mut numbers = Numbers(77);
    let shared = Shared::new(World::new(numbers.next()));
    let folder = root.join("history");
    std::fs::create_dir_all(&folder).unwrap();
    for life in 0..3 {
        let mut program = Program::spawn(&folder);
        let client = program.ready().await;
        verify::verify(&shared, &client, program.endpoint()).await;
        if life > 0 {
            verify::conclude(&shared, &client).await;
        }
        let mut working = load::begin(&shared, &client, program.endpoint(), numbers.next());
        tokio::time::sleep(Duration::from_millis(900)).await;
        program.kill().await;
        while working.join_next().await.is_some() {}
    }
    let killed = root.join("killed");
    copy(&data(&folder), &killed);
    let mut program = Program::spawn(&folder);
    let client = program.ready().await;
    verify::verify(&shared, &client, program.endpoint()).await;
    verify::conclude(&shared, &client).await;
    program.stop().await;
    let stopped = root.join("stopped");
    copy(&data(&folder), &stopped);
    [killed, stopped]
}

/// The files below a folder, with what they are.
fn files(folder: &Path) -> Vec<(PathBuf, &'static str)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            found.extend(files(&path));
            continue;
        }
        let kind = match name.as_str() {
            "db" => "db",
            "conf" => "conf",
            "acknowledged" => "acknowledged",
            "clock" => "clock",
            name if name.starts_with("snap.") => "snapshot",
            name if name.ends_with(".log") => "chain log",
            name if name.ends_with(".acknowledged") => "chain mark",
            _ => "other",
        };
        found.push((path, kind));
    }
    found.sort();
    found.retain(|(path, _)| std::fs::metadata(path).unwrap().len() > 0);
    found
}

/// A byte of a file: of `db`, mostly one that something stands in.
fn place(bytes: &[u8], kind: &str, numbers: &mut Numbers) -> usize {
    let mut at = 0;
    for _ in 0..32 {
        at = usize::try_from(numbers.below(bytes.len() as u64)).unwrap();
        let around = &bytes[at.saturating_sub(16)..(at + 16).min(bytes.len())];
        if kind != "db" || around.iter().any(|byte| *byte != around[0]) {
            break;
        }
    }
    at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_changed_byte_changes_anything_in_silence() {
    let corruptions = from_environment("SOFTSTAKE_CORRUPTIONS", 40);
    let seed = from_environment("SOFTSTAKE_SEED", 0xC0_FFEE);
    let root = tempfile::tempdir().unwrap();
    let histories = histories(root.path()).await;
    let mut whole = Vec::new();
    for history in &histories {
        let copied = root.path().join("whole");
        copy(history, &copied);
        let Read::Told(found) = read(&copied) else { panic!("a whole folder can't be read") };
        assert!(!found.contains_key("refused") && found["verification"].is_ok(), "{found:#?}");
        // Reading it twice changes nothing.
        assert_eq!(judge(&found, &read(&copied)).0, Outcome::Harmless);
        std::fs::remove_dir_all(&copied).unwrap();
        println!("{}: {} things to be found", history.file_name().unwrap().display(), found.len());
        whole.push(found);
    }
    let next = AtomicU64::new(0);
    let done: Mutex<Vec<Corruption>> = Mutex::default();
    std::thread::scope(|scope| {
        for worker in 0..READERS {
            let image = root.path().join(format!("image{worker}"));
            let (next, done, histories, whole) = (&next, &done, &histories, &whole);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= corruptions {
                        return;
                    }
                    let side = usize::try_from(number % 2).unwrap();
                    let corruption = corrupt(&histories[side], &whole[side], &image, Numbers(mix(seed ^ number)));
                    let Corruption { kind, at, outcome, ref why } = corruption;
                    println!("corruption {number}: {kind}, byte {at}: {outcome:?}: {}", &why[..why.len().min(240)]);
                    done.lock().unwrap().push(corruption);
                }
            });
        }
    });
    let done = done.into_inner().unwrap();
    print(&done);
    let bad = |corruption: &&Corruption| matches!(corruption.outcome, Outcome::Died | Outcome::Silent);
    assert_eq!(done.iter().filter(bad).count(), 0);
    assert_eq!(done.len() as u64, corruptions);
}

/// One byte that was changed, and what it came to.
#[derive(Debug)]
struct Corruption {
    kind: &'static str,
    at: usize,
    outcome: Outcome,
    why: String,
}

/// Changes one byte of a copy of `history` and reads it.
fn corrupt(history: &Path, whole: &BTreeMap<String, Found>, image: &Path, mut numbers: Numbers) -> Corruption {
    copy(history, image);
    let files = files(image);
    // Half in the data file; the rest spread over the others, which are small.
    let others: Vec<_> = files.iter().filter(|(_, kind)| *kind != "db").collect();
    let (path, kind) = match numbers.below(2) {
        0 => files.iter().find(|(_, kind)| *kind == "db").unwrap(),
        _ => others[usize::try_from(numbers.below(others.len() as u64)).unwrap()],
    };
    let mut bytes = std::fs::read(path).unwrap();
    let at = place(&bytes, kind, &mut numbers);
    bytes[at] ^= 1 + u8::try_from(numbers.below(255)).unwrap();
    std::fs::write(path, bytes).unwrap();
    let (mut outcome, mut why) = judge(whole, &read(image));
    if matches!(outcome, Outcome::Harmless | Outcome::Named | Outcome::Verified) {
        // What sled made of it at the first start must not come out otherwise at the second.
        let (again, words) = judge(whole, &read(image));
        if again != outcome {
            (outcome, why) = (again.max(outcome), format!("{again:?} at the second start: {words}"));
        }
    }
    std::fs::remove_dir_all(image).unwrap();
    Corruption { kind, at, outcome, why }
}

fn print(done: &[Corruption]) {
    let mut table: BTreeMap<(&str, Outcome), u64> = BTreeMap::new();
    done.iter().for_each(|corruption| *table.entry((corruption.kind, corruption.outcome)).or_default() += 1);
    use Outcome::{Died, Harmless, Named, Refused, Silent, Verified};
    let outcomes = [Refused, Named, Verified, Harmless, Died, Silent];
    println!("{:<14}{}", "file", outcomes.map(|outcome| format!("{:>10}", format!("{outcome:?}"))).concat());
    let mut kinds: Vec<&str> = table.keys().map(|(kind, _)| *kind).collect();
    kinds.dedup();
    for kind in kinds {
        let counts = outcomes.map(|outcome| table.get(&(kind, outcome)).copied().unwrap_or(0));
        println!("{kind:<14}{}", counts.map(|count| format!("{count:>10}")).concat());
    }
    let sums = outcomes.map(|outcome| table.iter().filter(|((_, of), _)| *of == outcome).map(|(_, n)| n).sum::<u64>());
    println!("{:<14}{}", "all", sums.map(|count| format!("{count:>10}")).concat());
}
