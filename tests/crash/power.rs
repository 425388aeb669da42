//! Power cuts: the disk loses what was written and not synced, in pages, and the service starts on what is left.
//!
//! The real binary runs under strace, which tells every write and every sync. At drawn moments the world is looked at:
//! what is acknowledged by then has to be on any disk that the calls until then can have left. `SOFTSTAKE_POWER_CUTS=200`
//! makes as many images as it says. Where strace is not there, nothing is shown, unless SOFTSTAKE_REQUIRE_STRACE is set.
//!
//! What a drive does below its own promise of a sync, a file system that loses its structure, and bytes torn within a page
//! are not simulated.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::disk::{Call, Disk, dirty};
use crate::ledger::World;
use crate::load::{self, Shared};
use crate::numbers::{Numbers, from_environment};
use crate::program::{Program, data};
use crate::trace;
use crate::verify::{self, Proved};

/// How often the world is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// How many images one life gives.
const IMAGES: usize = 8;

/// A look at the world: when, in microseconds, and what was acknowledged by then.
struct Look {
    at: u64,
    world: World,
    opening: bool,
}

#[expect(clippy::disallowed_methods, reason = "the moment has to be told in the time of the trace")]
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

fn look(shared: &Shared, opening: bool) -> Look {
    let world = shared.world();
    Look { at: now(), world: world.clone(), opening }
}

/// One life under strace, with looks all the while. It ends with SIGKILL.
async fn life(folder: &Path, file: &Path, shared: &Shared, numbers: &mut Numbers) -> Vec<Look> {
    let mut program = Program::spawn_traced(folder, file);
    let mut found = vec![look(shared, true)];
    let client = loop {
        tokio::select! {
            client = program.ready() => break client,
            () = tokio::time::sleep(LOOK_EVERY) => found.push(look(shared, true)),
        }
    };
    verify::verify(shared, &client, program.endpoint()).await;
    let mut working = load::begin(shared, &client, program.endpoint(), numbers.next());
    let mut end = Box::pin(tokio::time::sleep(Duration::from_millis(500 + numbers.below(1_000))));
    loop {
        tokio::select! {
            () = &mut end => break,
            () = tokio::time::sleep(LOOK_EVERY) => found.push(look(shared, false)),
        }
    }
    program.kill().await;
    while working.join_next().await.is_some() {}
    found
}

/// Half of the looks at moments when most was written and not synced, the rest at any.
fn choose(looks: Vec<Look>, calls: &[Call], count: usize, numbers: &mut Numbers) -> Vec<Look> {
    let mut looks: Vec<(u64, Look)> = looks.into_iter().map(|look| (dirty(calls, look.at), look)).collect();
    looks.sort_by_key(|(dirty, look)| (std::cmp::Reverse(*dirty), look.at));
    let mut chosen: Vec<Look> = Vec::with_capacity(count);
    while chosen.len() < count && !looks.is_empty() {
        let place = if chosen.len().is_multiple_of(2) { 0 } else { numbers.below(looks.len() as u64) };
        chosen.push(looks.remove(usize::try_from(place).unwrap()).1);
    }
    chosen
}

/// Starts on what a cut has left, and holds it against what was acknowledged.
async fn survive(image: &Path, world: World) -> Proved {
    let shared = Shared::new(world);
    let mut program = Program::spawn(image);
    let client = program.ready().await;
    let proved = verify::verify(&shared, &client, program.endpoint()).await;
    program.kill().await;
    proved
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_takes_nothing_that_was_acknowledged() {
    if !trace::is_possible() {
        assert!(std::env::var_os("SOFTSTAKE_REQUIRE_STRACE").is_none(), "strace is not there, or may not trace");
        println!("strace is not there, or may not trace: no power cut was tried");
        return;
    }
    let cuts = from_environment("SOFTSTAKE_POWER_CUTS", 6);
    let mut numbers = Numbers(from_environment("SOFTSTAKE_SEED", 0x0FF));
    let (mut made, mut lost, mut proved) = (0, 0, Proved::default());
    while made < cuts {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("service");
        std::fs::create_dir_all(&folder).unwrap();
        let shared = Shared::new(World::new(numbers.next()));
        // A service that was founded long ago, and stopped.
        let mut program = Program::spawn(&folder);
        let client = program.ready().await;
        verify::verify(&shared, &client, program.endpoint()).await;
        program.stop().await;
        let mut disk = Disk::new(&data(&folder));
        // Two lives, so that the second begins on what the first has written and not synced.
        for number in 0..2 {
            let file = root.path().join(format!("trace{number}"));
            let looks = life(&folder, &file, &shared, &mut numbers).await;
            let calls = trace::read(&file, &data(&folder));
            for Look { at, world, opening } in choose(looks, &calls, IMAGES, &mut numbers) {
                if made == cuts {
                    break;
                }
                let mut then = disk.clone();
                then.play(&calls, at);
                // Everything that was not synced is gone; or some of it; or none, as after a SIGKILL.
                let keep = [0, 50, 90, 10, 100][usize::try_from(made % 5).unwrap()];
                let image = root.path().join("image");
                std::fs::create_dir_all(&image).unwrap();
                then.cut(&data(&image), keep, &mut numbers);
                let uncertain = then.uncertain();
                made += 1;
                println!(
                    "cut {made:>4}: {keep:>3}% of {uncertain:>7} bytes kept, {}",
                    if opening { "while it opened" } else { "under load" }
                );
                lost += uncertain * (100 - keep) / 100;
                proved.add(survive(&image, world).await);
                std::fs::remove_dir_all(&image).unwrap();
            }
            disk.play(&calls, u64::MAX);
            disk.restarted();
        }
    }
    println!("{made} power cuts, {lost} bytes lost that were not synced");
    println!("acknowledged events found again {:>9}, none lost", proved.events);
    println!("unacknowledged events {:>9} there, {:>9} gone", proved.repeated, proved.lost);
    println!("answers repeated in the same words {:>9}", proved.answers);
    println!("positions compared {:>9}", proved.positions);
    assert!(lost > 0 && proved.events > 0);
}
