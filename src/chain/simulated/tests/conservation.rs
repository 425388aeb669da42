//! Random histories: nothing is created or lost, and a reopened chain is the same. The seed is pinned.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::chain::simulated::SimulatedFault;

#[derive(Clone, Debug)]
enum Step {
    Operation { kind: u8, a: usize, b: usize, share: u32 },
    Fund { share: u32 },
    Fault { kind: u8, a: usize },
    Wait { seconds: i64 },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6_u8, 0..12_usize, 0..12_usize, 0..1100_u32)
            .prop_map(|(kind, a, b, share)| Step::Operation { kind, a, b, share }),
        1 => (0..200_u32).prop_map(|share| Step::Fund { share }),
        1 => (0..14_u8, 0..12_usize).prop_map(|(kind, a)| Step::Fault { kind, a }),
        2 => prop_oneof![0..100_i64, 0..DAY, 0..30 * DAY].prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

fn part(of: BaseUnits, share: u32) -> BaseUnits {
    of.mul_div_floor(u128::from(share), 1000).unwrap()
}

/// What came of the operations, so that a run that never does anything is noticed.
#[derive(Debug, Default)]
struct Seen {
    done: u32,
    failed: u32,
    lost: u32,
}

async fn live(name: &str, steps: &[Step], seen: &mut Seen) {
    let mut rig = Rig::funded(preset(name), preset(name).custody_balance.get() / 10).await;
    let mut asked = Vec::new();
    for step in steps {
        match step {
            Step::Wait { seconds } => rig.pass(*seconds),
            Step::Reopen => {
                let totals = rig.totals().await;
                let effects = rig.effects().await;
                rig.reopen();
                assert_eq!((rig.totals().await, rig.effects().await), (totals, effects));
            }
            Step::Fund { share } => {
                rig.made += 1;
                let transfer = TransferId::new(&format!("fund-{}", rig.made)).unwrap();
                let units = part(rig.totals().await.custody_balance, *share);
                let _ = rig.chain.custody_send(&transfer, units).await;
            }
            Step::Fault { kind, a } => {
                let validator = rig.validator(*a);
                let fault = match kind {
                    0 => SimulatedFault::SubmitLostBefore { times: 1 },
                    1 => SimulatedFault::SubmitLostAfter { times: 1 },
                    2 => SimulatedFault::SubmitLate { after_seconds: 40, times: 1 },
                    3 => SimulatedFault::Slash { validator, fraction: "0.0375".parse().unwrap() },
                    4 => SimulatedFault::Jail { validator },
                    5 => SimulatedFault::Unjail { validator },
                    6 => SimulatedFault::Tombstone { validator },
                    7 | 9 => SimulatedFault::Unslash { validator },
                    8 => SimulatedFault::Donate { amount: amount(999_999_999) },
                    10 => SimulatedFault::DuplicateSubmit { times: 1 },
                    11 => SimulatedFault::PartialEffect { share_bps: 6_250, times: 1 },
                    12 => SimulatedFault::Reorg { depth: 3, times: 1 },
                    _ => SimulatedFault::Flaky { one_in: 50 },
                };
                rig.chain.set_fault(fault).await.unwrap();
            }
            Step::Operation { kind, a, b, share } => {
                let totals = rig.totals().await;
                let unit = rig.config.limits.delegation_unit.get();
                let whole = |units: BaseUnits| amount(units.get() / unit * unit);
                let staked = totals.delegated;
                let kind = match kind {
                    0 | 1 => OperationKind::Delegate {
                        validator: rig.validator(*a),
                        amount: whole(part(totals.liquid, *share)),
                    },
                    2 => OperationKind::Undelegate {
                        validator: rig.validator(*a),
                        amount: whole(part(staked, *share / 4)),
                    },
                    3 => OperationKind::Redelegate {
                        from: rig.validator(*a),
                        to: rig.validator(*b),
                        amount: whole(part(staked, *share / 4)),
                    },
                    4 => {
                        let per_pair = rig.config.reward_style == crate::chain::RewardStyle::ClaimPerValidator;
                        OperationKind::Claim { validator: per_pair.then(|| rig.validator(*a)) }
                    }
                    _ => {
                        let per_pair = rig.config.withdraw_style == crate::chain::WithdrawStyle::PerValidator;
                        OperationKind::Withdraw { validator: per_pair.then(|| rig.validator(*a)) }
                    }
                };
                let id = rig.id();
                if let Ok(signed) = rig.signed(&id, &kind).await {
                    if rig.chain.submit(&id, &signed).await.is_err() {
                        seen.lost += 1;
                    }
                    asked.push((id, signed));
                }
                // Asked at once: what was submitted is seen pending, and may be thrown back for it.
                if share % 2 == 0
                    && let Some((id, signed)) = asked.last()
                {
                    let _ = rig.chain.lookup(id, signed).await;
                }
                if share % 3 == 0 {
                    rig.settle();
                }
            }
        }
        assert!(rig.totals().await.conserved());
    }
    rig.chain.clear_faults();
    rig.settle();
    rig.pass(100);
    rig.audit().await;
    let effects = rig.effects().await;
    for (id, signed) in asked {
        let listed: Vec<_> = effects.iter().filter(|effect| effect.operation.as_ref() == Some(&id)).cloned().collect();
        match rig.chain.lookup(&id, &signed).await.unwrap() {
            Lookup::Done { effects, .. } => {
                assert_eq!(effects, listed);
                seen.done += 1;
            }
            Lookup::Failed { effects, .. } => {
                assert_eq!(effects, listed);
                seen.failed += 1;
            }
            _ => assert_eq!(listed, []),
        }
    }
    let state = rig.chain.core.lock().unwrap().state.clone();
    rig.reopen();
    assert_eq!(rig.chain.core.lock().unwrap().state, state);
}

#[test]
fn random_histories_conserve_everything() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let seen = std::cell::RefCell::new(Seen::default());
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[41; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let strategy = (prop::sample::select(presets::NAMES.to_vec()), steps());
    let ran = runner.run(&strategy, |(name, steps)| {
        runtime.block_on(live(name, &steps, &mut seen.borrow_mut()));
        Ok(())
    });
    ran.unwrap();
    let seen = seen.into_inner();
    println!("{seen:?}");
    assert!(seen.done > 200 && seen.failed > 50 && seen.lost > 10, "{seen:?}");
}
