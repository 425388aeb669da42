//! The clock: the only place that reads time. `node.rs` hands it to the rooms that may have one.
//!
//! - [`SystemClock`] is the machine's time, held back where the machine's own goes back.
//! - [`ManualClock`] moves only when it is told to (simulated chains on loopback).
//! - [`AcceleratedClock`] runs a fixed number of times faster than real time (simulated chains on loopback).
//!
//! The last two keep a small file, so that a restart never goes back: no time is shown before the file that
//! covers it is on disk. While the service is down, their time stands still.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, never going back within one clock.
pub trait Clock: Send + Sync + 'static {
    /// Now, in milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;
}

/// Why a clock could not be opened or moved.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The file could not be read or written. After a failed write the clock shows what it showed before.
    #[error("the clock's file {path} can't be used: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not one that a clock wrote, or was changed since.
    #[error(
        "the clock's file {path} is damaged ({problem}); put back the copy of your backup, or remove the whole data \
             directory of this simulation: a new file alone would take time back"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A clock never goes back.
    #[error("the clock stands at {now_ms} ms and can't go back to {asked_ms} ms")]
    Backwards {
        /// Where it stands.
        now_ms: i64,
        /// Where it was asked to go.
        asked_ms: i64,
    },
    /// The time asked for is past what milliseconds in 64 bits can say.
    #[error("the time asked for is past the end of time")]
    Overflow,
    /// An accelerated clock that does not run.
    #[error("an accelerated clock's factor is at least 1")]
    NoFactor,
}

/// Where real time comes from; tests put their own here.
trait TimeSource: Send + Sync + 'static {
    /// The machine's calendar time, in milliseconds since the Unix epoch. May go back.
    fn calendar_ms(&self) -> i64;
    /// Milliseconds since some moment of this process. Never goes back.
    fn elapsed_ms(&self) -> i64;
}

/// The machine's own clocks.
struct Machine {
    began: Instant,
}

impl Machine {
    #[expect(clippy::disallowed_methods, reason = "the clock is where time is read")]
    fn new() -> Self {
        Self { began: Instant::now() }
    }
}

impl TimeSource for Machine {
    #[expect(clippy::disallowed_methods, reason = "the clock is where time is read")]
    fn calendar_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// The machine's time, which stands still where the machine's own goes back.
pub struct SystemClock {
    source: Box<dyn TimeSource>,
    latest_ms: AtomicI64,
}

impl SystemClock {
    /// The machine's clock.
    pub fn new() -> Self {
        Self::with_source(Box::new(Machine::new()))
    }

    fn with_source(source: Box<dyn TimeSource>) -> Self {
        Self { source, latest_ms: AtomicI64::new(i64::MIN) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let now_ms = self.source.calendar_ms();
        self.latest_ms.fetch_max(now_ms, Ordering::SeqCst).max(now_ms)
    }
}

/// A clock that moves only when it is told to. Where it stands survives a restart.
pub struct ManualClock {
    file: Mutex<TimeFile>,
    now_ms: AtomicI64,
}

impl ManualClock {
    /// Opens the clock kept in the file `path`, or begins one at `start_ms` where there is no such file.
    pub fn open(path: &Path, start_ms: i64) -> Result<Self, ClockError> {
        let (file, now_ms) = TimeFile::open(path, start_ms)?;
        Ok(Self { file: Mutex::new(file), now_ms: AtomicI64::new(now_ms) })
    }

    /// Moves to `to_ms` and returns once that is on disk; nobody sees the new time earlier. Moving to where the
    /// clock stands is no error. This blocks on the disk: call it from a thread that may.
    pub fn advance_to_ms(&self, to_ms: i64) -> Result<(), ClockError> {
        let file = lock(&self.file);
        let now_ms = self.now_ms();
        if to_ms < now_ms {
            return Err(ClockError::Backwards { now_ms, asked_ms: to_ms });
        }
        if to_ms > now_ms {
            file.write(to_ms)?;
            self.now_ms.store(to_ms, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Moves forward by `by_ms` and returns the new time, as [`Self::advance_to_ms`] does.
    pub fn advance_by_ms(&self, by_ms: u64) -> Result<i64, ClockError> {
        let to_ms = self.now_ms().checked_add_unsigned(by_ms).ok_or(ClockError::Overflow)?;
        self.advance_to_ms(to_ms)?;
        Ok(to_ms)
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }
}

/// A clock that runs `factor` times faster than real time: with 1,440, a day takes a minute.
///
/// It reserves time ahead in its file and never shows a time past the reserve; about once a second of real time a
/// reading writes and syncs the small file. After a kill it resumes at the end of
/// the reserve, at most [`AcceleratedClock::RESERVE_REAL_MS`] of real time further on; after a drop, where it stood.
/// Where the disk fails it stands still at the end of the reserve.
pub struct AcceleratedClock {
    source: Box<dyn TimeSource>,
    factor: u32,
    state: Mutex<Accelerated>,
}

struct Accelerated {
    file: TimeFile,
    /// Where the clock stood when this process opened it, and the source's reading then.
    base_ms: i64,
    base_elapsed_ms: i64,
    /// The end of the durable reserve: no later time is shown.
    reserved_ms: i64,
    latest_ms: i64,
    /// The source's reading before which a write that failed is not tried again.
    retry_elapsed_ms: i64,
}

impl AcceleratedClock {
    /// How much real time one write to the file covers.
    pub const RESERVE_REAL_MS: i64 = 2_000;

    /// Opens the clock kept in the file `path`, or begins one at `start_ms` where there is no such file.
    pub fn open(path: &Path, start_ms: i64, factor: u32) -> Result<Self, ClockError> {
        Self::with_source(path, start_ms, factor, Box::new(Machine::new()))
    }

    fn with_source(path: &Path, start_ms: i64, factor: u32, source: Box<dyn TimeSource>) -> Result<Self, ClockError> {
        if factor == 0 {
            return Err(ClockError::NoFactor);
        }
        let (file, base_ms) = TimeFile::open(path, start_ms)?;
        let base_elapsed_ms = source.elapsed_ms();
        let state = Accelerated {
            file,
            base_ms,
            base_elapsed_ms,
            reserved_ms: base_ms,
            latest_ms: base_ms,
            retry_elapsed_ms: i64::MIN,
        };
        Ok(Self { source, factor, state: Mutex::new(state) })
    }

    /// How many times faster than real time it runs.
    pub fn factor(&self) -> u32 {
        self.factor
    }
}

impl Clock for AcceleratedClock {
    fn now_ms(&self) -> i64 {
        let mut state = lock(&self.state);
        let elapsed_ms = self.source.elapsed_ms();
        let factor = i64::from(self.factor);
        let ran_ms = elapsed_ms.saturating_sub(state.base_elapsed_ms).saturating_mul(factor);
        let due_ms = state.base_ms.saturating_add(ran_ms);
        let reserve_ms = Self::RESERVE_REAL_MS.saturating_mul(factor);
        let short = due_ms > state.reserved_ms.saturating_sub(reserve_ms / 2);
        if short && elapsed_ms >= state.retry_elapsed_ms {
            let to_ms = due_ms.saturating_add(reserve_ms);
            match state.file.write(to_ms) {
                Ok(()) => state.reserved_ms = to_ms,
                Err(error) => {
                    state.retry_elapsed_ms = elapsed_ms.saturating_add(Self::RESERVE_REAL_MS);
                    tracing::error!(%error, "the accelerated clock stands still at the end of its reserve");
                }
            }
        }
        state.latest_ms = state.latest_ms.max(due_ms.min(state.reserved_ms));
        state.latest_ms
    }
}

impl Drop for AcceleratedClock {
    /// Gives the rest of the reserve back. If that fails, the next run merely begins at the end of the reserve.
    fn drop(&mut self) {
        let state = lock(&self.state);
        if let Err(error) = state.file.write(state.latest_ms) {
            tracing::warn!(%error, "the accelerated clock could not give its reserve back");
        }
    }
}

/// The data behind a mutex, whether or not a holder panicked: every write to it is a single assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One time in one small file: `softstake-clock 1 <milliseconds> <crc32 of all before it>`.
struct TimeFile {
    path: PathBuf,
}

impl TimeFile {
    const HEAD: &'static str = "softstake-clock 1 ";

    /// Reads the file, or writes the first one with `start_ms`.
    fn open(path: &Path, start_ms: i64) -> Result<(Self, i64), ClockError> {
        let file = Self { path: path.to_owned() };
        match fs::read(path) {
            Ok(bytes) => {
                let time_ms =
                    Self::parse(&bytes).map_err(|problem| ClockError::Damaged { path: file.path.clone(), problem })?;
                Ok((file, time_ms))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                file.write(start_ms)?;
                Ok((file, start_ms))
            }
            Err(error) => Err(file.io(error)),
        }
    }

    fn render(time_ms: i64) -> String {
        let body = format!("{}{time_ms} ", Self::HEAD);
        let sum = crc32fast::hash(body.as_bytes());
        format!("{body}{sum:08x}\n")
    }

    fn parse(bytes: &[u8]) -> Result<i64, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
        let rest = text.strip_prefix(Self::HEAD).ok_or("it does not begin with `softstake-clock 1 `")?;
        let number = rest.split(' ').next().unwrap_or_default();
        let time_ms = number.parse::<i64>().map_err(|_| "its time is not a number of milliseconds")?;
        if text == Self::render(time_ms) { Ok(time_ms) } else { Err("its checksum does not fit its time") }
    }

    /// Replaces the file whole: written beside it, synced, renamed over it, and the folder synced.
    fn write(&self, time_ms: i64) -> Result<(), ClockError> {
        let beside = self.path.with_extension("new");
        let replace = || -> io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(Self::render(time_ms).as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)?;
            let folder = match self.path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            File::open(folder)?.sync_all()
        };
        replace().map_err(|error| self.io(error))
    }

    fn io(&self, source: io::Error) -> ClockError {
        ClockError::Io { path: self.path.clone(), source }
    }
}

/// The clock file's reader, opened to `fuzz/`: a time has one form.
#[cfg(any(test, feature = "fuzzing"))]
pub fn fuzz_time_file(input: &[u8]) {
    if let Ok(time_ms) = TimeFile::parse(input) {
        assert_eq!(TimeFile::render(time_ms).as_bytes(), input);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Time that the test sets.
    #[derive(Clone, Default)]
    struct Fake {
        calendar_ms: Arc<AtomicI64>,
        elapsed_ms: Arc<AtomicI64>,
    }

    impl Fake {
        fn pass_ms(&self, ms: i64) {
            self.elapsed_ms.fetch_add(ms, Ordering::SeqCst);
        }
    }

    impl TimeSource for Fake {
        fn calendar_ms(&self) -> i64 {
            self.calendar_ms.load(Ordering::SeqCst)
        }
        fn elapsed_ms(&self) -> i64 {
            self.elapsed_ms.load(Ordering::SeqCst)
        }
    }

    const START_MS: i64 = 1_795_305_600_000;

    #[test]
    fn the_system_clock_stands_still_where_the_machines_goes_back() {
        let fake = Fake::default();
        let clock = SystemClock::with_source(Box::new(fake.clone()));
        let shown: Vec<i64> = [1_000, 2_000, 1_500, 2_000, 2_001]
            .into_iter()
            .map(|ms| {
                fake.calendar_ms.store(ms, Ordering::SeqCst);
                clock.now_ms()
            })
            .collect();
        assert_eq!(shown, [1_000, 2_000, 2_000, 2_000, 2_001]);
        assert!(SystemClock::new().now_ms() > 1_700_000_000_000, "the machine's own time is later than 2023");
    }

    #[test]
    fn a_manual_clock_moves_only_forward_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let clock = ManualClock::open(&path, START_MS).unwrap();
        assert_eq!(clock.now_ms(), START_MS);
        clock.advance_to_ms(START_MS + 5).unwrap();
        clock.advance_to_ms(START_MS + 5).unwrap();
        assert_eq!(clock.advance_by_ms(7).unwrap(), START_MS + 12);
        let back = clock.advance_to_ms(START_MS + 11).unwrap_err();
        assert!(matches!(back, ClockError::Backwards { now_ms, asked_ms } if now_ms - asked_ms == 1), "{back}");
        assert!(matches!(clock.advance_by_ms(u64::MAX), Err(ClockError::Overflow)));
        std::mem::forget(clock);
        let again = ManualClock::open(&path, 0).unwrap();
        assert_eq!(again.now_ms(), START_MS + 12, "a start that differs changes nothing");
    }

    #[test]
    fn a_time_that_could_not_be_written_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").join("clock");
        fs::create_dir(folder.path().join("gone")).unwrap();
        let clock = ManualClock::open(&path, START_MS).unwrap();
        fs::remove_dir_all(folder.path().join("gone")).unwrap();
        assert!(matches!(clock.advance_by_ms(1), Err(ClockError::Io { .. })));
        assert_eq!(clock.now_ms(), START_MS);
    }

    #[test]
    fn a_damaged_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let good = TimeFile::render(START_MS);
        fs::write(&path, &good).unwrap();
        assert_eq!(ManualClock::open(&path, 0).unwrap().now_ms(), START_MS);
        let flipped = good.replacen('7', "8", 1);
        for bad in ["", "softstake-clock 1 ", "softstake-clock 2 5 00000000\n", &flipped, good.trim_end(), "\u{1}"] {
            fs::write(&path, bad).unwrap();
            let refused = ManualClock::open(&path, 0).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(refused.contains("is damaged"), "{bad:?}: {refused}");
        }
    }

    #[test]
    fn a_leftover_of_a_write_that_was_cut_short_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        drop(ManualClock::open(&path, START_MS).unwrap());
        fs::write(path.with_extension("new"), "softstake-cl").unwrap();
        let clock = ManualClock::open(&path, 0).unwrap();
        assert_eq!(clock.now_ms(), START_MS);
        clock.advance_by_ms(1).unwrap();
    }

    #[test]
    fn an_accelerated_clock_runs_by_its_factor() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake::default();
        let path = folder.path().join("clock");
        let clock = AcceleratedClock::with_source(&path, START_MS, 1_440, Box::new(fake.clone())).unwrap();
        assert_eq!(clock.now_ms(), START_MS);
        fake.pass_ms(60_000);
        assert_eq!(clock.now_ms(), START_MS + 86_400_000, "a day a minute");
        let stopped = AcceleratedClock::with_source(&path, START_MS, 0, Box::new(fake));
        assert!(matches!(stopped, Err(ClockError::NoFactor)));
    }

    #[test]
    fn an_accelerated_clock_never_goes_back_over_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let fake = Fake::default();
        let factor = 1_440;
        let reserve_ms = AcceleratedClock::RESERVE_REAL_MS * i64::from(factor);
        let mut shown_ms = START_MS;
        for pass_ms in [1, 700, 1_999, 2_000, 2_001, 60_000] {
            let clock = AcceleratedClock::with_source(&path, START_MS, factor, Box::new(fake.clone())).unwrap();
            let begins_ms = clock.now_ms();
            assert!(begins_ms >= shown_ms && begins_ms - shown_ms <= reserve_ms, "{begins_ms} after {shown_ms}");
            fake.pass_ms(pass_ms);
            shown_ms = clock.now_ms();
            assert_eq!(shown_ms, begins_ms + pass_ms * i64::from(factor));
            std::mem::forget(clock);
        }
    }

    #[test]
    fn an_accelerated_clock_that_is_dropped_resumes_where_it_stood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let fake = Fake::default();
        let clock = AcceleratedClock::with_source(&path, START_MS, 60, Box::new(fake.clone())).unwrap();
        fake.pass_ms(10);
        let shown_ms = clock.now_ms();
        drop(clock);
        fake.pass_ms(1_000_000);
        let again = AcceleratedClock::with_source(&path, 0, 60, Box::new(fake)).unwrap();
        assert_eq!(again.now_ms(), shown_ms, "time stands still while the service is down");
    }

    #[test]
    fn an_accelerated_clock_stands_still_where_the_disk_fails() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("gone");
        fs::create_dir(&inner).unwrap();
        let fake = Fake::default();
        let clock = AcceleratedClock::with_source(&inner.join("clock"), 0, 10, Box::new(fake.clone())).unwrap();
        assert_eq!(clock.now_ms(), 0);
        fs::remove_dir_all(&inner).unwrap();
        fake.pass_ms(5_000);
        assert_eq!(clock.now_ms(), 20_000, "the end of the reserve");
        fs::create_dir(&inner).unwrap();
        fake.pass_ms(1_000);
        assert_eq!(clock.now_ms(), 20_000, "not tried again at once");
        fake.pass_ms(1_000);
        assert_eq!(clock.now_ms(), 70_000, "it catches up");
    }
}
