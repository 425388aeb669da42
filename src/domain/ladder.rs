//! The unbonding ladder: how many unbondings may be begun now, so that there is always room for the next exit.
//!
//! Chains bound how many unbondings pend at once. Entries that are spent one after the other in an hour are all gone for
//! one whole unbonding time; so the free ones are spread evenly over the time until the next one comes back, and the last
//! one is kept for when customers are paid on house credit.

use super::time::UnixSeconds;

/// How badly stake is needed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// The reserve is to be filled up.
    Ordinary,
    /// The reserve is below zero: the house lends what customers withdraw.
    HouseCredit,
}

/// The entries of one validator, or of the whole account where the chain counts them so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// The most that may pend at once.
    pub most: u32,
    /// When each that pends comes back, in any order; those that came back and are not withdrawn included.
    pub matures_at: Vec<UnixSeconds>,
    /// How long one takes.
    pub unbonding_seconds: u64,
}

impl Ladder {
    /// How many the chain still takes.
    pub fn free(&self) -> u32 {
        self.most.saturating_sub(u32::try_from(self.matures_at.len()).unwrap_or(u32::MAX))
    }

    /// How many may be begun at `now`.
    ///
    /// Of a chain with several entries the ordinary need leaves one free, and takes a quarter of them at once; house
    /// credit takes half of them at once and may use the last. Past that, one at a time, spread over the time until the
    /// next entry comes back.
    pub fn room(&self, now: UnixSeconds, urgency: Urgency) -> u32 {
        if self.most <= 1 {
            return self.free();
        }
        let (usable, kept_back) = match urgency {
            Urgency::Ordinary => (self.free().saturating_sub(1), self.most - self.most / 4 - 1),
            Urgency::HouseCredit => (self.free(), self.most - self.most.div_ceil(2)),
        };
        let at_once = usable.saturating_sub(kept_back);
        at_once.max(u32::from(usable > 0 && now >= self.next_at(usable)))
    }

    /// When the next of `usable` entries is due: they are spread evenly over the time from the last one's beginning to
    /// the first one's return.
    fn next_at(&self, usable: u32) -> UnixSeconds {
        let (Some(first), Some(last)) = (self.matures_at.iter().min(), self.matures_at.iter().max()) else {
            return UnixSeconds::new(i64::MIN);
        };
        let wait = i64::try_from(self.unbonding_seconds).unwrap_or(i64::MAX);
        let begun = last.plus(wait.saturating_neg());
        let step = first.since(begun) / (u64::from(usable) + 1);
        begun.plus(i64::try_from(step).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400;
    const UNBONDING: i64 = 21 * DAY;

    fn ladder(most: u32, begun: &[i64]) -> Ladder {
        let matures_at = begun.iter().map(|at| UnixSeconds::new(at + UNBONDING)).collect();
        Ladder { most, matures_at, unbonding_seconds: UNBONDING as u64 }
    }

    fn rooms(most: u32, begun: &[i64], now: i64) -> (u32, u32) {
        let (ladder, now) = (ladder(most, begun), UnixSeconds::new(now));
        (ladder.room(now, Urgency::Ordinary), ladder.room(now, Urgency::HouseCredit))
    }

    #[test]
    fn an_empty_ladder_takes_some_and_a_full_one_none() {
        assert_eq!(rooms(7, &[], 0), (1, 4));
        assert_eq!(rooms(32, &[], 0), (8, 16));
        assert_eq!(rooms(7, &[0; 7], 5), (0, 0));
        assert_eq!(rooms(7, &[0; 6], 20 * DAY), (0, 1), "the last one is for who is paid on credit");
        // One bucket: it is free or it is not.
        assert_eq!((rooms(1, &[], 0), rooms(1, &[0], 0)), ((1, 1), (0, 0)));
        assert_eq!(rooms(0, &[], 0), (0, 0));
    }

    #[test]
    fn the_free_ones_are_spread_until_the_next_comes_back() {
        // One of seven pends: five of the six that are left are spread over 21 days.
        assert_eq!(rooms(7, &[0], UNBONDING / 6 - 1).0, 0);
        assert_eq!(rooms(7, &[0], UNBONDING / 6).0, 1);
        assert_eq!(rooms(7, &[0], 60).1, 3, "house credit does not wait while half of them are free");
        // Half are gone: three are left for 21 days, one each five and a quarter.
        assert_eq!(rooms(7, &[0; 4], 5 * DAY).1, 0);
        assert_eq!(rooms(7, &[0; 4], UNBONDING / 4).1, 1);
        // What has matured and waits to be withdrawn makes room soon.
        assert_eq!(rooms(7, &[-UNBONDING, -DAY], 0), (1, 2));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        /// However often stake is needed, an ordinary need leaves an entry free, and whoever is paid on credit never waits
        /// longer than for the share of an unbonding that an even spread makes.
        #[test]
        fn no_need_waits_for_a_whole_unbonding(
            most in 2_u32..40, needs in prop::collection::vec((1_i64..2 * DAY, 0_u32..5), 1..200),
        ) {
            // Each even step is floored; what that cuts off adds up in the last wait.
            let longest = UNBONDING / (i64::from(most / 2) + 1) + i64::from(most);
            let (mut now, mut begun, mut refused_since) = (0, Vec::<i64>::new(), None);
            for (wait, kind) in needs {
                now += wait;
                begun.retain(|at| at + UNBONDING > now);
                let urgency = if kind == 0 { Urgency::Ordinary } else { Urgency::HouseCredit };
                let ladder = ladder(most, &begun);
                let room = ladder.room(UnixSeconds::new(now), urgency);
                prop_assert!(room <= ladder.free());
                if urgency == Urgency::Ordinary {
                    prop_assert!(room == 0 || room < ladder.free(), "one stays free");
                    begun.extend(std::iter::repeat_n(now, room as usize));
                    refused_since = None;
                    continue;
                }
                if room == 0 {
                    let since = *refused_since.get_or_insert(now);
                    prop_assert!(now - since <= longest, "refused for {} s", now - since);
                } else {
                    refused_since = None;
                    begun.push(now);
                }
            }
        }
    }
}
