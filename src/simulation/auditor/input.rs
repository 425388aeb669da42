//! What the auditor is given of one pool: plain data, and nothing that was worked out for it.
//!
//! Times are Unix seconds, amounts base units.

use std::collections::BTreeMap;

use ruint::aliases::U256;

/// Everything of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub pool: String,
    /// The start of its first period.
    pub origin: i64,
    /// Its journal: every group of every partition from the first one on, in order.
    pub partitions: Vec<Vec<Group>>,
    /// The rewards as the chain paid them, and those that an operator recorded.
    pub receipts: Vec<Receipt>,
    /// How staked + unbonding changed, in the order of the chain.
    pub staked: Vec<StakedChange>,
    /// What the chain destroyed and gave back, in the order of its time.
    pub slashes: Vec<Slash>,
    /// A slash of no more than this is the house's, whatever the policy: a matter of rounding.
    pub rounding_units: u128,
    /// The periods as the engine shows them, in order.
    pub periods: Vec<Period>,
    /// Every revision of every distribution, in order.
    pub distributions: Vec<Distribution>,
    /// The events that the engine says it rejected.
    pub rejected: Vec<Rejected>,
    /// The positions as the engine shows them.
    pub positions: Vec<Position>,
}

/// What was committed together in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number in its partition, from 1.
    pub number: u64,
    /// When it was formed.
    pub now: i64,
    /// What happened, in order.
    pub records: Vec<Record>,
}

/// One thing that happened in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A balance, as its source said it.
    Balance {
        /// Whose.
        account: String,
        /// Who said it.
        source: u16,
        /// Its sequence there.
        sequence: u64,
        /// The available balance from `at` on.
        balance: u128,
        /// When.
        at: i64,
        /// That it was too much for the pool's total when it came.
        pool_full: bool,
    },
    /// A change of standing, from the enrolment log.
    Standing {
        /// Whose.
        account: String,
        /// Its sequence in the log.
        sequence: u64,
        /// When.
        at: i64,
        /// What is set.
        set: Flags,
        /// What is cleared before that.
        clear: Flags,
    },
    /// A position goes from one source to another.
    HandOver {
        /// Whose.
        account: String,
        /// The source that owned it.
        from: u16,
        /// The source that owns it now.
        to: u16,
    },
    /// A balance, as a snapshot of its source said it.
    Snapshot {
        /// Whose.
        account: String,
        /// Whose snapshot.
        source: u16,
        /// The sequence that the snapshot stands after.
        sequence: u64,
        /// The available balance.
        balance: u128,
        /// When.
        at: i64,
    },
    /// What was held before a later event is corrected.
    Correction(Correction),
    /// A period opens.
    Open(Opened),
    /// The oldest open period is frozen.
    Freeze {
        /// Which one.
        index: u64,
        /// The last sequence of each source before the cut.
        cursors: BTreeMap<u16, u64>,
    },
}

/// A correction as the engine journalled it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Whose.
    pub account: String,
    /// The source that the log of corrections is.
    pub source: u16,
    /// Its sequence in that log.
    pub sequence: u64,
    /// From when on another balance was held.
    pub at: i64,
    /// That balance.
    pub balance: u128,
    /// The time of the position's next event; `None` where there is none.
    pub until: Option<i64>,
    /// What the engine says that changes in the weight of the oldest open period, frozen periods' part included.
    pub oldest: i128,
    /// What it says that changes in the weight of the one after it.
    pub next: i128,
    /// What it rests on.
    pub basis: Basis,
    /// That it was too much for the pool's total when it came.
    pub pool_full: bool,
}

/// The point of a position that a correction was computed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis {
    /// The oldest open period.
    pub oldest: u64,
    /// The time of the last event.
    pub last_event_at: i64,
    /// The last sequence of its owner that was accepted.
    pub last_sequence: u64,
    /// The balance after the last event.
    pub balance: u128,
    /// The standing after that.
    pub standing: Flags,
}

/// What besides the balance decides whether an account earns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Opted out of this pool.
    pub opted_out: bool,
    /// Opted out of all pools.
    pub opted_out_of_all: bool,
    /// Opted in.
    pub opted_in: bool,
    /// Restricted.
    pub restricted: bool,
}

/// A period as it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its number, from 0.
    pub index: u64,
    /// Its first second.
    pub start: i64,
    /// The first second past it.
    pub end: i64,
    /// A balance below this earns nothing.
    pub minimum: u128,
    /// What lies above this earns nothing.
    pub cap: Option<u128>,
    /// Whether only those earn who have opted in.
    pub opt_in: bool,
    /// How far back an event may lie within its position.
    pub max_skew: i64,
    /// How far back an event may reach into frozen periods.
    pub max_lateness: i64,
    /// How far an event may lie ahead.
    pub max_future: i64,
}

/// A reward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its name on the chain.
    pub key: String,
    /// How much.
    pub amount: u128,
    /// The chain's time.
    pub at: i64,
    /// The first second that it was earned over.
    pub earned_from: i64,
    /// The first second past that.
    pub earned_to: i64,
    /// When an operator recorded it, where the chain's own effects don't show it.
    pub recorded_at: Option<i64>,
}

/// A slash, or its reversal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slash {
    /// The name of the slash.
    pub key: String,
    /// When it was, or was reversed.
    pub at: i64,
    /// How much.
    pub amount: u128,
    /// Whether this is given back.
    pub reversal: bool,
}

/// A change of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StakedChange {
    /// When.
    pub at: i64,
    /// By how much.
    pub change: i128,
}

/// A period as the engine shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its number, from 0.
    pub index: u64,
    /// Its first second.
    pub start: i64,
    /// The first second past it.
    pub end: i64,
    /// A balance below this earns nothing.
    pub minimum: u128,
    /// What lies above this earns nothing.
    pub cap: Option<u128>,
    /// Whether only those earn who have opted in.
    pub opt_in: bool,
    /// The operator's share of the receipts, in ten-thousandths.
    pub fee_bps: u32,
    /// Payouts are whole multiples of this.
    pub payout_unit: u128,
    /// The fixed annual rate as numerator and denominator, where the pool pays one.
    pub fixed_apr: Option<(u128, u128)>,
    /// Whether its rewards bear what is slashed in it; else the house does.
    pub rewards_absorb: bool,
    /// `OPEN`, `FROZEN` or `DISTRIBUTED`.
    pub state: &'static str,
    /// What the freeze sealed, once it has.
    pub frozen: Option<Frozen>,
}

/// What a freeze sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Every position's weight, zeros included.
    pub weights: BTreeMap<String, u128>,
    /// Their sum.
    pub weight_total: U256,
    /// What late events added to them.
    pub added: U256,
    /// What late events took from them.
    pub taken: U256,
    /// How many there are.
    pub count: u64,
    /// How many are above zero.
    pub positive: u64,
    /// The eligible total at the period's start.
    pub eligible_at_start: u128,
    /// The eligible total at the period's end.
    pub eligible_at_end: u128,
    /// The last sequence of each source before the cut.
    pub cursors: BTreeMap<u16, u64>,
}

/// One revision of a distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Its period.
    pub period: u64,
    /// From 1.
    pub revision: u32,
    /// Where it stands.
    pub state: State,
    /// Whether it is computed to its end; else its figures are not complete and not looked at.
    pub sealed: bool,
    /// When it was computed.
    pub computed_at: i64,
    /// How many receipts it takes, or took.
    pub receipt_count: u64,
    /// The names of the receipts that it takes; `None` where it gave them back.
    pub receipts: Option<Vec<String>>,
    /// The two sides of equation 1.
    pub figures: Figures,
    /// What the pool's rewards owed for slashes when it was computed.
    pub owed: u128,
    /// The sum of all weights, the house's included.
    pub weight_total: U256,
    /// The house's weight.
    pub house_weight: U256,
    /// What was staked or unbonding at the period's end.
    pub staked_at_end: u128,
    /// The positions in it.
    pub positions: u64,
    /// Those with a weight.
    pub positive_count: u64,
    /// Those with a payout.
    pub paid_count: u64,
    /// The hash of the set of payouts, least significant byte first.
    pub hash: U256,
    /// The names of what held it.
    pub holds: Vec<String>,
    /// Every payout above zero, where it is released.
    pub payouts: Option<Vec<(String, u128)>>,
}

/// Where a revision stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not yet assessed.
    Computed,
    /// It waits for an operator.
    Held,
    /// It may be released.
    Approved,
    /// Its payouts are due, or done.
    Released,
    /// Voided, to be computed anew.
    VoidedToRecompute,
    /// Voided: the period pays nothing.
    VoidedToCarry,
}

/// The figures of a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The sum of its receipts.
    pub receipts: u128,
    /// What the distribution before handed on.
    pub carry_in: u128,
    /// What the house adds.
    pub house_in: u128,
    /// The operator's fee.
    pub fee: u128,
    /// What goes to the slash receivable.
    pub recovery: u128,
    /// The sum of the payouts.
    pub payouts: u128,
    /// What the house gets.
    pub house_out: u128,
    /// What is handed on.
    pub carry_out: u128,
}

/// An event that the engine says it rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Who said it; 0 is the enrolment log.
    pub source: u16,
    /// Its sequence there.
    pub sequence: u64,
    /// Whose.
    pub account: String,
    /// The stable name of the reason.
    pub reason: String,
}

/// A position as the engine shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Whose.
    pub account: String,
    /// The balance after its last event.
    pub balance: u128,
    /// Its standing after that.
    pub standing: Flags,
    /// The source that owns it; `None` while only enrolments were seen.
    pub owner: Option<u16>,
    /// The time of its last event.
    pub last_event_at: i64,
    /// What late events took that no weight has given yet, in base units x seconds.
    pub uncollected: U256,
}
