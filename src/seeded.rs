//! Bugs that a build with the feature `seeded-bugs` can put in at run time, one at a time: each is a mistake that has cost
//! somebody money, or is close to one, and shows that a check of ours sees it. No other build has any of this.
//!
//! A site reads `#[cfg(feature = "seeded-bugs")]` and asks [`on`]; it may stand in every room. Which bug is on is one
//! value of the process: [`activate`], or the variable [`VARIABLE`] before the first question.

use std::sync::Once;
use std::sync::atomic::{AtomicU16, Ordering};

/// The variable that names the bug of a process, for test binaries.
pub const VARIABLE: &str = "SOFTSTAKE_SEEDED_BUG";

macro_rules! bugs {
    ($($bug:ident, $story:literal, $mistake:literal;)*) => {
        /// One mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Bug {
            $(#[doc = $mistake] $bug,)*
        }

        /// Every bug, in the order of the table.
        pub const ALL: &[Bug] = &[$(Bug::$bug,)*];

        impl Bug {
            /// Its name, as [`VARIABLE`] and the command take it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => stringify!($bug),)* }
            }

            /// What happened to others that it stands for.
            pub const fn story(self) -> &'static str {
                match self { $(Self::$bug => $story,)* }
            }

            /// What the code does wrong while it is on.
            pub const fn mistake(self) -> &'static str {
                match self { $(Self::$bug => $mistake,)* }
            }
        }
    };
}

bugs! {
    TimeoutIsAbsence, "acknowledgement lost, sent again: money staked twice", "a lost answer counts as proof of absence";
    NeverGivesUp, "silent infinite retry, 25 days unnoticed", "attempts and time have no bound";
    FailureStopsTheRest, "one rejected item blocks the batch", "an operation that fails keeps those after it waiting";
    DrainAsksMore, "a full drain after a slash asks for more than is held", "a drain asks for one unit more than is held";
    RestakesMatured, "matured unbonding restaked before it was paid", "matured funds count as liquid";
    OpenKeyStays, "status in the key: the old record survives", "the index of open operations keeps what has ended";
    ConfirmsPending, "paid before final", "a transaction that is seen counts as final";
    InFlightLeftOut, "in-flight stake left out of totals", "the comparison with the chain leaves in_flight out";
    PeriodOffByOne, "off by one era", "a frozen weight counts one second too many";
    PeriodEndIncluded, "stale step after an epoch rollover", "a receipt at the end of a period belongs to that period";
    PayoutStaysInCustody, "two books for one balance", "an acknowledged payout leaves its tokens in the pool's books";
    DepositIsReward, "rewards from deposits, not receipts", "what a stranger sends is a receipt";
    RoundsUp, "rounding twice", "a payout is rounded up";
    TruncatesPerStage, "rounding twice", "a payout is rounded down to a rate first, then to an amount";
    PaidInFloats, "floats", "a payout keeps the 53 bits of a float";
    DustToTheFirst, "dust to the first listed", "the first account of a chunk gets a unit more";
    WeightOfOneMoment, "join just before the payout", "a weight is the last balance times the whole period";
    WeightsOfNow, "a later weight claims an earlier epoch", "a frozen weight counts in the next period again";
    ReboundIsReward, "rebound counted as reward twice", "a slash that is reversed is a receipt";
    AnotherUnit, "wrong unit, one approver", "payouts are computed in thousandths of their unit";
    LimitsNotAsked, "wrong unit, one approver", "no limit holds a distribution";
    PauseIgnored, "bug in a live distribution, no brake for 7 days", "a paused pool releases on";
    PausedSends, "bug in a live distribution, no brake for 7 days", "a paused pool sends on";
    SignsUnread, "authority change hidden in a transaction", "what the bytes say is not compared with what was asked";
    SettledAsAsked, "partial batch settled whole", "what was asked counts as moved, whatever the chain did";
    LastAccountsOmitted, "loops over everyone hit a limit", "only the first accounts of a chunk are paid";
    RestoredUnfenced, "state restored from an old copy signs again", "a restored store opens without a person";
    RestoredActs, "state restored from an old copy signs again", "a pool of a restored store goes on by itself";
    NoExpectation, "unique only in application code", "a commit carries no expectation";
    FeeUnbooked, "unbooked fees", "a chain fee is not posted";
    EffectBookedTwice, "double claim after a timeout", "an effect is booked again under the same key";
    CarryForgotten, "dust to the wrong period", "a distribution begins without the carry of the one before";
    AckBeforeFlush, "acknowledged before it was on disk", "a batch is acknowledged although its commit failed";
    GapTaken, "a feed with holes", "a batch that leaves sequences out is taken";
    LateEventDropped, "late event into a frozen period", "a late event adjusts nothing";
    OptOutForfeits, "what was earned before an opt-out is lost", "an opt-out clears the weight";
    FeeOnCarry, "the fee taken twice", "the fee is taken of the carry too";
    RecoversTooMuch, "customers pay for a slash twice", "all of a distribution goes to the slash receivable";
    HouseWeightOmitted, "those who stay earn a multiple", "the house's credit has no weight";
    RejectedIsCredited, "a payout counted twice", "a rejected payout counts as acknowledged too";
    ReceiptsKeptByVoid, "a voided distribution keeps its rewards", "a void gives no receipt back";
    RequestNotMarked, "the same request carried out twice", "a mutation leaves no mark of its request";
    MismatchTolerated, "two books, never compared", "a difference between ledger and chain changes nothing";
    StaleTrusted, "a lagging node believed", "an older height is compared with the newer ledger";
    FreezesTooEarly, "a period closed before its events came", "a period freezes without waiting for watermarks";
    ReplaysIntoPages, "applied twice after a crash", "a replay changes rows whose page has the change already";
    FundBookedOnWord, "tokens booked before they arrived", "custody's word makes tokens liquid";
    SlashUnbooked, "a loss nobody wrote down", "a slash is not posted";
    PutAgain, "the same request carried out twice", "a repeated PutBalance gets a sequence of its own";
}

/// The number of the bug that is on, from 1; 0 for none.
static ACTIVE: AtomicU16 = AtomicU16::new(0);
static READ: Once = Once::new();

/// Puts `bug` in, or takes out whatever is in.
pub fn activate(bug: Option<Bug>) {
    READ.call_once(|| ());
    ACTIVE.store(bug.map_or(0, |bug| bug as u16 + 1), Ordering::SeqCst);
}

/// The bug of this name.
pub fn named(name: &str) -> Option<Bug> {
    ALL.iter().copied().find(|bug| bug.name() == name)
}

/// Whether `bug` is in.
pub fn on(bug: Bug) -> bool {
    READ.call_once(|| {
        let wanted = std::env::var(VARIABLE).ok().and_then(|name| named(&name));
        ACTIVE.store(wanted.map_or(0, |bug| bug as u16 + 1), Ordering::SeqCst);
    });
    ACTIVE.load(Ordering::Relaxed) == bug as u16 + 1
}
