//! Every target on its seeds and on so many inputs that are made of them, with bounded allocation, without a fuzzer: for
//! machines that have no more than a stable toolchain.

use std::path::Path;
use std::time::Instant;
use std::{env, fs};

use softstake::fuzzing::TARGETS;
use softstake::fuzzing::made::Made;

fn main() {
    let count: u64 = env::args().nth(1).map_or(20_000, |count| count.parse().expect("how many inputs of each target"));
    println!("{:<14} {:>6} {:>9} {:>8}", "target", "seeds", "inputs", "seconds");
    for (name, target) in TARGETS {
        let began = Instant::now();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let mut files: Vec<_> = fs::read_dir(folder).expect("seeds").map(|file| file.expect("a seed").path()).collect();
        files.sort();
        let seeds: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).expect("a seed")).collect();
        for (file, seed) in files.iter().zip(&seeds) {
            told(name, &file.display().to_string(), seed, *target);
        }
        let mut made = Made::of(&seeds, 11);
        for number in 0..count {
            told(name, &format!("made input {number}"), &made.input(), *target);
        }
        println!("{name:<14} {:>6} {count:>9} {:>8.1}", seeds.len(), began.elapsed().as_secs_f64());
    }
    println!("0 panics; the most that one input held: {} bytes", softstake_fuzz::largest());
}

/// A panic has said by itself what is wrong, but not with which input.
fn told(name: &str, what: &str, input: &[u8], target: softstake::fuzzing::Target) {
    if std::panic::catch_unwind(|| softstake_fuzz::check(target, input)).is_err() {
        eprintln!("{name}: {what}: {input:02x?}");
        std::process::exit(1);
    }
}
