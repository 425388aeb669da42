//! Work on many pieces, on all processors at once. What comes out is in the order of the pieces, however many there are.

use std::thread;

/// The most threads that one call takes.
const MAX_WORKERS: usize = 8;

/// Gives `work` the pieces in runs of at least `least`, each run on a thread of its own, and returns what it made of them in
/// their order. A panic of `work` goes on in the caller.
pub fn in_order<T: Sync, R: Send>(pieces: &[T], least: usize, work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let processors = thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    let workers = (pieces.len() / least.max(1)).min(processors);
    if workers <= 1 {
        return vec![work(pieces)];
    }
    let mut runs = pieces.chunks(pieces.len().div_ceil(workers));
    let Some(first) = runs.next() else { return Vec::new() };
    thread::scope(|scope| {
        let others: Vec<_> = runs.map(|run| scope.spawn(|| work(run))).collect();
        let mut done = vec![work(first)];
        for other in others {
            done.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_pieces() {
        let pieces: Vec<u32> = (0..1_000).collect();
        for least in [1, 300, 5_000] {
            let made = in_order(&pieces, least, |run| run.iter().map(|piece| piece * 2).collect::<Vec<_>>());
            assert_eq!(made.concat(), (0..1_000).map(|piece| piece * 2).collect::<Vec<_>>());
        }
        assert_eq!(in_order(&[] as &[u32], 1, <[u32]>::len), [0]);
    }

    #[test]
    #[should_panic(expected = "a piece is bad")]
    fn a_panic_goes_on_in_the_caller() {
        in_order(&[1, 2, 3, 4], 1, |run| assert!(!run.contains(&4), "a piece is bad"));
    }
}
