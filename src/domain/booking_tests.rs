use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::super::amount::SignedUnits;
use super::super::effect::EffectKey;
use super::super::ids::{TransactionId, TransferId};
use super::super::ledger::{Account, Ledger, LedgerView};
use super::super::time::UnixSeconds;
use super::super::transfer::TransferState;
use super::*;

fn units(n: u64) -> BaseUnits {
    BaseUnits::from_u64(n)
}

fn validator(n: u8) -> ValidatorId {
    ValidatorId::new(&format!("v{n}")).unwrap()
}

fn seen(kind: EffectKind) -> Effect {
    Effect {
        key: EffectKey { transaction: TransactionId::new("tx").unwrap(), index: 0 },
        height: 1,
        at: UnixSeconds::new(0),
        operation: None,
        kind,
    }
}

fn posting(booking: Booking) -> Posting {
    match booking {
        Booking::Post(posting) => *posting,
        Booking::PauseAndReport(discrepancy) => panic!("{discrepancy:?}"),
    }
}

fn legs(entry: &Entry) -> Vec<(String, i128)> {
    entry.legs().iter().map(|leg| (leg.account.to_string(), leg.change.get())).collect()
}

fn said(list: &[(&str, i128)]) -> Vec<(String, i128)> {
    list.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
}

fn revision() -> RevisionRef {
    RevisionRef { period: 20_414, revision: 1 }
}

fn fund(purpose: Purpose, asked: u64) -> Transfer {
    Transfer::new(TransferId::new("t").unwrap(), Direction::Fund, purpose, None, units(asked))
}

#[test]
fn a_delegation_reserves_moves_and_gives_back() {
    let id = OperationId::new("atom:delegate:1:1").unwrap();
    let kind = OperationKind::Delegate { validator: validator(1), amount: units(100) };
    assert_eq!(legs(&plan(&id, &kind).unwrap()), said(&[("liquid", -100), ("in_flight", 100)]));
    let context = EffectContext { operation: Some((&kind, units(100))), ..EffectContext::default() };
    let done = seen(EffectKind::Delegated { validator: validator(1), amount: units(97) });
    let post = posting(effect(&done, &context).unwrap());
    assert_eq!((post.used, post.explained), (units(97), true));
    assert_eq!(legs(&post.entry), said(&[("in_flight", -97), ("delegated/v1", 97)]));
    assert_eq!(legs(&release(&id, units(3)).unwrap()), said(&[("liquid", 3), ("in_flight", -3)]));
    // Somebody with our key, outside the service: booked as it is, and said.
    let post = posting(effect(&done, &EffectContext::default()).unwrap());
    assert_eq!((legs(&post.entry), post.explained), (said(&[("liquid", -97), ("delegated/v1", 97)]), false));
}

#[test]
fn arrivals_are_the_fund_s_the_house_s_or_nobody_s() {
    let arrival = seen(EffectKind::TransferIn { transfer: None, amount: units(50) });
    let post = posting(effect(&arrival, &EffectContext::default()).unwrap());
    assert_eq!((legs(&post.entry), post.suspense), (said(&[("liquid", 50), ("suspense", 50)]), units(50)));

    let asked = fund(Purpose::Principal, 40);
    let (sent, entry) = acknowledge_transfer(&asked, units(30)).unwrap();
    assert_eq!(legs(&entry), said(&[("custody", -30), ("in_transit", 30)]));
    let context = EffectContext { transfer: Some(&sent), ..EffectContext::default() };
    let post = posting(effect(&arrival, &context).unwrap());
    assert_eq!(legs(&post.entry), said(&[("custody", -10), ("in_transit", -30), ("liquid", 50), ("suspense", 10)]));
    assert_eq!(post.transfer.unwrap().state, TransferState::Observed);

    let float = fund(Purpose::HouseFloat, 50);
    let (float, entry) = acknowledge_transfer(&float, units(50)).unwrap();
    assert!(entry.is_empty());
    let context = EffectContext { transfer: Some(&float), ..EffectContext::default() };
    let post = posting(effect(&arrival, &context).unwrap());
    assert_eq!(legs(&post.entry), said(&[("liquid", 50), ("house", 50)]));
}

#[test]
fn what_leaves_unexplained_stops_the_pool() {
    let out = seen(EffectKind::TransferOut { transfer: None, amount: units(5) });
    let outflow = Booking::PauseAndReport(Discrepancy::Outflow { amount: units(5) });
    assert_eq!(effect(&out, &EffectContext::default()).unwrap(), outflow);
    // A FUND of ours explains no outflow.
    let asked = fund(Purpose::Principal, 5);
    let context = EffectContext { transfer: Some(&asked), ..EffectContext::default() };
    assert_eq!(effect(&out, &context).unwrap(), outflow);
}

#[test]
fn a_slash_is_borne_as_the_policy_says_and_rounding_by_the_house() {
    let slash = seen(EffectKind::Slashed { validator: validator(1), delegated: units(3), unbonding: units(1) });
    let by = |bearer, rounding| {
        let context = EffectContext { bearer, rounding: units(rounding), ..EffectContext::default() };
        let post = posting(effect(&slash, &context).unwrap());
        assert_eq!(post.unbonding, Some((validator(1), SignedUnits::new(-1))));
        (legs(&post.entry), post.slash.unwrap().bearer)
    };
    let house = said(&[("delegated/v1", -3), ("unbonding", -1), ("house", -4)]);
    let owed = said(&[("delegated/v1", -3), ("unbonding", -1), ("slash_receivable", 4)]);
    assert_eq!(by(SlashPolicy::PlatformAbsorbs, 0), (house.clone(), SlashPolicy::PlatformAbsorbs));
    assert_eq!(by(SlashPolicy::RewardsAbsorb, 3), (owed, SlashPolicy::RewardsAbsorb));
    assert_eq!(by(SlashPolicy::RewardsAbsorb, 4), (house, SlashPolicy::PlatformAbsorbs));
}

#[test]
fn a_reversal_of_a_slash_that_nobody_knows_is_suspense() {
    let key = EffectKey { transaction: TransactionId::new("slash").unwrap(), index: 0 };
    let back = seen(EffectKind::SlashReversed {
        slash: key,
        validator: validator(1),
        delegated: units(3),
        unbonding: units(1),
    });
    let post = posting(effect(&back, &EffectContext::default()).unwrap());
    assert_eq!(legs(&post.entry), said(&[("delegated/v1", 3), ("unbonding", 1), ("suspense", 4)]));
    assert_eq!((post.suspense, post.explained, post.slash), (units(4), false, None));
}

#[test]
fn a_distribution_takes_releases_or_gives_back_exactly() {
    let figures = Figures {
        receipts: units(1_000),
        carry_in: units(7),
        house_in: units(20),
        fee: units(100),
        recovery: units(50),
        payouts: units(860),
        house_out: units(10),
        carry_out: units(7),
    };
    let taken = compute(revision(), &figures).unwrap();
    assert_eq!(legs(&taken), said(&[("undistributed", -1_000), ("in_distribution", 1_007), ("carry", -7)]));
    let back: Vec<_> = legs(&void(revision(), &figures).unwrap());
    assert_eq!(back, legs(&taken).into_iter().map(|(name, n)| (name, -n)).collect::<Vec<_>>());
    assert_eq!(
        legs(&release_distribution(revision(), &figures).unwrap()),
        said(&[("in_distribution", -1_007), ("payable", 860), ("carry", 7), ("house", 90), ("slash_receivable", -50)])
    );
    let short = Figures { payouts: units(861), ..figures };
    assert_eq!(
        compute(revision(), &short),
        Err(BookingError::Distribution { taken: units(1_027), given: units(1_028) })
    );
}

/// Everything a pool's books may meet, in any order.
#[derive(Clone, Debug)]
enum Step {
    Principal(u64),
    Fund(u64, bool),
    Acknowledge(usize, u64),
    Arrive(Option<usize>, u64),
    Plan(u8, u64),
    Effect(usize, u64),
    End(usize),
    Chain(u8, u8, u64),
    Compute(u64, u64),
    Finish(bool),
    Paid(u64, bool),
    Reassign(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let n = 0_u64..1_000;
    let at = 0_usize..8;
    prop_oneof![
        (0_u64..10_000).prop_map(Step::Principal),
        (n.clone(), any::<bool>()).prop_map(|(n, house)| Step::Fund(n, house)),
        (at.clone(), n.clone()).prop_map(|(at, n)| Step::Acknowledge(at, n)),
        (proptest::option::of(at.clone()), n.clone()).prop_map(|(at, n)| Step::Arrive(at, n)),
        (0_u8..4, n.clone()).prop_map(|(v, n)| Step::Plan(v, n)),
        (at.clone(), n.clone()).prop_map(|(at, n)| Step::Effect(at, n)),
        at.prop_map(Step::End),
        (0_u8..8, 0_u8..4, n.clone()).prop_map(|(kind, v, n)| Step::Chain(kind, v, n)),
        (n.clone(), n.clone()).prop_map(|(fee, payouts)| Step::Compute(fee, payouts)),
        any::<bool>().prop_map(Step::Finish),
        (n.clone(), any::<bool>()).prop_map(|(n, ok)| Step::Paid(n, ok)),
        n.prop_map(Step::Reassign),
    ]
}

#[derive(Default)]
struct Pool {
    ledger: Ledger,
    principal: BaseUnits,
    transfers: Vec<Transfer>,
    operations: Vec<(OperationKind, BaseUnits)>,
    distribution: Option<Figures>,
    posted: u32,
}

impl Pool {
    fn post(&mut self, entry: &Entry) -> bool {
        match self.ledger.apply(entry) {
            Ok(ledger) => {
                self.ledger = ledger;
                self.posted += u32::from(!entry.is_empty());
                true
            }
            Err(_) => false,
        }
    }

    /// What an effect posts, with what it says of operation and transfer, or nothing at all.
    fn effect(&mut self, kind: EffectKind, operation: Option<usize>, transfer: Option<usize>) {
        let context = EffectContext {
            operation: operation.map(|at| (&self.operations[at].0, self.operations[at].1)),
            transfer: transfer.map(|at| &self.transfers[at]),
            rounding: units(2),
            bearer: if self.posted.is_multiple_of(2) {
                SlashPolicy::PlatformAbsorbs
            } else {
                SlashPolicy::RewardsAbsorb
            },
            ..EffectContext::default()
        };
        let booking = effect(&seen(kind), &context);
        // Refusing what contradicts the books is right; making an entry that doesn't balance never is.
        assert!(!matches!(booking, Err(BookingError::Ledger(_))), "{booking:?}");
        if let Ok(Booking::Post(post)) = booking
            && self.post(&post.entry)
        {
            if let Some(at) = operation {
                self.operations[at].1 = self.operations[at].1.checked_sub(post.used).unwrap();
            }
            if let (Some(at), Some(transfer)) = (transfer, post.transfer) {
                self.transfers[at] = transfer;
            }
        }
    }

    fn step(&mut self, step: Step) {
        let id = OperationId::new("p:o:1:1").unwrap();
        match step {
            Step::Principal(n) => self.principal = units(n),
            Step::Fund(n, house) => {
                self.transfers.push(fund(if house { Purpose::HouseFloat } else { Purpose::Principal }, n));
            }
            Step::Acknowledge(at, n) if at < self.transfers.len() => {
                let told = acknowledge_transfer(&self.transfers[at], units(n));
                assert!(!matches!(told, Err(BookingError::Ledger(_))), "{told:?}");
                if let Ok((transfer, entry)) = told
                    && self.post(&entry)
                {
                    self.transfers[at] = transfer;
                }
            }
            Step::Arrive(at, n) => {
                let at = at.filter(|at| *at < self.transfers.len());
                self.effect(EffectKind::TransferIn { transfer: None, amount: units(n) }, None, at);
            }
            Step::Plan(v, n) => {
                let amount = units(n);
                let kind = if v == 0 {
                    let transfer = TransferId::new(&format!("d{}", self.transfers.len())).unwrap();
                    OperationKind::SendToCustody { transfer, amount }
                } else {
                    OperationKind::Delegate { validator: validator(v), amount }
                };
                if self.post(&plan(&id, &kind).unwrap()) {
                    if let OperationKind::SendToCustody { transfer, amount } = &kind {
                        let (transfer, operation) = (transfer.clone(), Some(id));
                        let purpose = Purpose::Principal;
                        self.transfers.push(Transfer::new(transfer, Direction::Defund, purpose, operation, *amount));
                    }
                    self.operations.push((kind, amount));
                }
            }
            Step::Effect(at, n) if at < self.operations.len() => match self.operations[at].0.clone() {
                OperationKind::Delegate { validator, .. } => {
                    self.effect(EffectKind::Delegated { validator, amount: units(n) }, Some(at), None);
                }
                OperationKind::SendToCustody { transfer, .. } => {
                    let known = self.transfers.iter().position(|t| t.id == transfer);
                    self.effect(EffectKind::TransferOut { transfer: None, amount: units(n) }, Some(at), known);
                }
                _ => {}
            },
            Step::End(at) if at < self.operations.len() => {
                let left = self.operations.remove(at).1;
                assert!(self.post(&release(&id, left).unwrap()), "what is reserved can always be given back");
            }
            Step::Chain(kind, v, n) => {
                let (amount, one, at) = (units(n), validator(v), UnixSeconds::new(0));
                let kind = match kind {
                    0 => EffectKind::Undelegated { validator: one, amount, matures_at: at },
                    1 => EffectKind::Redelegated { from: one, to: validator(v / 2), amount },
                    2 => EffectKind::Matured { validator: one, amount },
                    3 => EffectKind::Withdrawn { amount },
                    4 => EffectKind::RewardPaid { validator: None, amount, earned_from: at, earned_to: at },
                    5 => EffectKind::RewardCompounded { validator: one, amount, earned_from: at, earned_to: at },
                    6 => EffectKind::Slashed { validator: one, delegated: amount, unbonding: units(n % 3) },
                    _ => EffectKind::FeePaid { amount: units(n % 5) },
                };
                self.effect(kind, None, None);
            }
            Step::Compute(fee, payouts) if self.distribution.is_none() => {
                let view = LedgerView::new(self.ledger.clone(), BaseUnits::ZERO).unwrap();
                let (receipts, carry_in) = (view.claim(C::Undistributed), view.claim(C::Carry));
                let taken = receipts.checked_add(carry_in).unwrap();
                let fee = units(fee).min(receipts);
                let payouts = units(payouts).min(taken.checked_sub(fee).unwrap());
                let carry_out = taken.checked_sub(fee).unwrap().checked_sub(payouts).unwrap();
                let figures = Figures { receipts, carry_in, fee, payouts, carry_out, ..Figures::default() };
                assert!(self.post(&compute(revision(), &figures).unwrap()));
                self.distribution = Some(figures);
            }
            Step::Finish(released) => {
                if let Some(figures) = self.distribution.take() {
                    let entry =
                        if released { release_distribution(revision(), &figures) } else { void(revision(), &figures) };
                    assert!(self.post(&entry.unwrap()));
                }
            }
            Step::Paid(n, true) => {
                self.post(&payouts_acknowledged(revision(), units(n)).unwrap());
            }
            Step::Paid(n, false) => {
                self.post(&payouts_rejected(revision(), units(n)).unwrap());
            }
            Step::Reassign(n) => {
                self.post(&unclaimed_reassigned(revision(), units(n)).unwrap());
            }
            _ => {}
        }
    }
}

#[test]
fn after_any_sequence_of_bookings_assets_are_claims() {
    let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[13; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let posted = std::cell::Cell::new(0_u32);
    runner
        .run(&proptest::collection::vec(any_step(), 1..60), |steps| {
            let mut pool = Pool::default();
            for step in steps {
                pool.step(step);
                let view = LedgerView::new(pool.ledger.clone(), pool.principal).unwrap();
                prop_assert_eq!(view.assets_total().unwrap(), view.claims_total().unwrap());
                // What is in flight is what the operations that have not ended still reserve.
                let reserved = BaseUnits::sum(pool.operations.iter().map(|(_, left)| *left)).unwrap();
                prop_assert_eq!(view.asset(A::InFlight), reserved);
                // What is in transit is what the transfers say.
                let transit =
                    pool.transfers.iter().filter(|t| t.purpose == Purpose::Principal).map(|t| match t.direction {
                        Direction::Fund => t.acknowledged.saturating_sub(t.seen),
                        Direction::Defund => t.seen.saturating_sub(t.acknowledged),
                    });
                prop_assert_eq!(view.asset(A::InTransit), BaseUnits::sum(transit).unwrap());
                for (account, balance) in pool.ledger.balances() {
                    prop_assert!(balance >= SignedUnits::ZERO || Account::may_be_negative(account));
                }
            }
            posted.set(posted.get() + pool.posted);
            Ok(())
        })
        .unwrap();
    assert!(posted.get() > 10_000, "the histories moved something: {} postings", posted.get());
}
