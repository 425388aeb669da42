//! What the benches work on: the same numbers in every run.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use softstake::domain::amount::BaseUnits;
use softstake::domain::eligibility::{EligibilityPolicy, EnrolmentMode};
use softstake::domain::period::{OpenPeriod, PeriodBounds, PeriodIndex, TimeLimits};
use softstake::domain::time::UnixSeconds;

/// The events of one message and of one journal group.
pub const EVENTS: usize = 8_192;

/// The start of the first period.
pub const START: i64 = 1_795_305_600;

/// How long a period is.
const LENGTH: i64 = 31 * 86_400;

/// Numbers that look random (splitmix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// The id of an account: 16 bytes.
pub fn account(number: usize) -> String {
    format!("customer-{number:07}")
}

/// A period of 31 days.
pub fn period(index: u64) -> OpenPeriod {
    let start = UnixSeconds::new(START + index as i64 * LENGTH);
    let policy = EligibilityPolicy { minimum: BaseUnits::from_u64(1), cap: None, enrolment: EnrolmentMode::Automatic };
    let bounds = PeriodBounds::new(start, LENGTH as u32).expect("31 days are a period");
    OpenPeriod { index: PeriodIndex(index), bounds, policy, limits: TimeLimits::default() }
}

/// A group of benches that each handle `elements` in one iteration, in 10 samples of 3 seconds together.
pub fn group<'a>(criterion: &'a mut Criterion, name: &str, elements: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(elements as u64)).sample_size(10).measurement_time(Duration::from_secs(3));
    group.warm_up_time(Duration::from_millis(500));
    group
}
