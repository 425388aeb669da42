//! SIGKILL, many times: lives of one folder follow each other until a fresh folder begins.
//!
//! `cargo test` runs a few. `SOFTSTAKE_KILLS=1000` runs as many as it says, `SOFTSTAKE_BIN` names the binary to kill, and
//! `SOFTSTAKE_SEED` draws other moments.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::ledger::World;
use crate::load::{self, Shared};
use crate::numbers::{Numbers, from_environment};
use crate::program::{Phase, Program, data};
use crate::verify::{self, Proved};

/// How many kills one folder lives through before it is looked at as a whole.
const LIVES: u64 = 50;

/// Milliseconds from the first request to the latest death.
const LOAD_MS: u64 = 500;

/// One kill.
#[derive(Clone, Copy, Debug)]
struct Kill {
    uptime_ms: u64,
    /// Writes without an answer.
    in_flight: usize,
    phase: Phase,
    /// Whether sled left a snapshot that it had not finished.
    leftover: bool,
}

/// All kills so far.
#[derive(Debug, Default)]
struct Record {
    kills: Vec<Kill>,
    proved: Proved,
    folders: u64,
    payouts: u64,
    weights: u64,
    planted: u64,
    warnings: BTreeMap<String, u64>,
}

impl Record {
    fn add(&mut self, kill: Kill) {
        println!(
            "kill {:>4}: {:>6} ms after the start, {:>2} writes in flight, {:?}{}",
            self.kills.len() + 1,
            kill.uptime_ms,
            kill.in_flight,
            kill.phase,
            if kill.leftover { ", sled's snapshot half written" } else { "" }
        );
        self.kills.push(kill);
    }

    /// What the service warned of, counted: nothing is hidden in a log that nobody reads.
    fn take_warnings(&mut self, said: &str) {
        for line in said.lines().filter(|line| line.contains("\"level\":\"WARN\"")) {
            let message = line.split("\"message\":\"").nth(1).and_then(|rest| rest.split('"').next());
            *self.warnings.entry(message.unwrap_or(line).to_owned()).or_default() += 1;
        }
    }

    fn in_flight(&self) -> usize {
        self.kills.iter().filter(|kill| kill.in_flight > 0).count()
    }

    fn of(&self, phase: Phase) -> usize {
        self.kills.iter().filter(|kill| kill.phase == phase).count()
    }

    fn print(&self) {
        let Proved { events, repeated, lost, answers, asked_again, positions, payouts } = self.proved;
        let total = self.kills.len();
        println!("{total} kills in {} folders", self.folders);
        println!("  with writes in flight          {:>9}", self.in_flight());
        println!("  while it opened                {:>9}", self.of(Phase::Opening));
        println!("  while a checkpoint was made    {:>9}", self.of(Phase::Checkpoint));
        println!("  sled's snapshot left half done {:>9}", self.kills.iter().filter(|kill| kill.leftover).count());
        println!("  planted as left half done      {:>9}", self.planted);
        println!("acknowledged events found again  {events:>9}, none lost");
        println!("unacknowledged events            {:>9}, {repeated} were there and were not doubled", repeated + lost);
        println!("answers repeated in the same words {answers:>7}");
        println!("requests without an answer asked again {asked_again:>3}");
        println!("positions compared               {positions:>9}");
        println!("payouts compared as streamed     {payouts:>9}");
        println!("payouts compared with histories  {:>9}, none twice, none missing", self.payouts);
        println!("time weights summed exactly      {:>9}", self.weights);
        for (warning, count) in &self.warnings {
            println!("warned {count} times: {warning}");
        }
    }
}

fn leftovers(folder: &Path) -> usize {
    let store = data(folder).join("store");
    let Ok(entries) = std::fs::read_dir(store) else { return 0 };
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".generating") && name != PLANTED).count()
}

const PLANTED: &str = "snap.00000000FFFFFFFF.generating";

/// A death while sled writes its snapshot leaves this; the real moment is short, so that it is also made by hand.
fn plant_leftover(folder: &Path, numbers: &mut Numbers) {
    let half: Vec<u8> = (0..numbers.below(4_096)).map(|_| numbers.next().to_le_bytes()[0]).collect();
    std::fs::write(data(folder).join("store").join(PLANTED), half).unwrap();
}

/// One folder with its lives, and what all of them together come to.
async fn folder(record: &mut Record, lives: u64, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(seed);
    let shared = Shared::new(World::new(seed));
    let mut opening_ms = 300;
    for life in 0..lives {
        if life > 0 && numbers.below(5) == 0 && data(folder.path()).join("store").exists() {
            plant_leftover(folder.path(), &mut numbers);
            record.planted += 1;
        }
        let mut program = Program::spawn(folder.path());
        if numbers.below(4) == 0 {
            // During start-up, again and again over the same work.
            let moment = numbers.below(opening_ms * 11 / 10 + 1);
            tokio::time::sleep(Duration::from_millis(moment)).await;
            die(record, program, folder.path(), &shared, Vec::new()).await;
            continue;
        }
        let client = program.ready().await;
        opening_ms = program.uptime_ms();
        let proved = verify::verify(&shared, &client, program.endpoint()).await;
        record.proved.add(proved);
        let working = load::begin(&shared, &client, program.endpoint(), numbers.next());
        tokio::time::sleep(Duration::from_micros(numbers.below(LOAD_MS * 1_000))).await;
        die(record, program, folder.path(), &shared, vec![working]).await;
    }
    let mut program = Program::spawn(folder.path());
    let client = program.ready().await;
    record.proved.add(verify::verify(&shared, &client, program.endpoint()).await);
    let (payouts, weights) = verify::conclude(&shared, &client).await;
    record.payouts += payouts;
    record.weights += weights;
    record.folders += 1;
    let (events, changes, distributions) = verify::known(&shared.world());
    println!("folder {}: {events} events, {changes} changes, {distributions} distributions", record.folders);
    program.stop().await;
}

/// The moment of death.
async fn die(
    record: &mut Record,
    program: Program,
    folder: &Path,
    shared: &Shared,
    load: Vec<tokio::task::JoinSet<Option<()>>>,
) {
    let uptime_ms = program.uptime_ms();
    let (phase, said) = program.kill().await;
    let loaded = !load.is_empty();
    for mut working in load {
        while let Some(ended) = working.join_next().await {
            assert_eq!(ended.unwrap(), None);
        }
    }
    // Whatever has no answer now was in flight when it died; in a life without load, when an earlier one did.
    let in_flight = if loaded { shared.world().writes_in_flight() } else { 0 };
    let leftover = leftovers(folder) > 0;
    record.take_warnings(&said);
    record.add(Kill { uptime_ms, in_flight, phase, leftover });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_by_kills() {
    let kills = from_environment("SOFTSTAKE_KILLS", 14);
    let mut numbers = Numbers(from_environment("SOFTSTAKE_SEED", 0x0D15_EA5E));
    let mut record = Record::default();
    let mut left = kills;
    while left > 0 {
        // A run of a few kills has two folders as well.
        let lives = left.min(LIVES).min(kills.div_ceil(2));
        folder(&mut record, lives, numbers.next()).await;
        left -= lives;
    }
    record.print();
    assert_eq!(record.kills.len() as u64, kills);
    assert!(record.in_flight() * 2 >= record.kills.len(), "too few kills with writes in flight");
    assert!(record.of(Phase::Opening) > 0 && record.of(Phase::Checkpoint) > 0, "a phase was never hit");
    assert!(record.proved.events > 0 && record.payouts > 0);
}
