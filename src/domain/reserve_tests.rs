use proptest::prelude::*;

use super::super::booking;
use super::super::ids::{OperationId, TransferId, ValidatorId};
use super::super::ledger::{Account, ClaimAccount, Ledger, LedgerView};
use super::*;

fn units(n: u64) -> BaseUnits {
    BaseUnits::from_u64(n)
}

fn policy() -> ReservePolicy {
    ReservePolicy {
        reserve_ratio_bps: 1_000,
        custody_share_bps: 5_000,
        hysteresis_bps: 50,
        min_change: units(1),
        max_change: None,
        max_outflow_per_run_bps: 10_000,
        max_outflow_per_day_bps: 10_000,
        house_float_target: units(20),
        house_float_floor: units(10),
    }
}

fn validator() -> ValidatorId {
    ValidatorId::new("v").unwrap()
}

/// A ledger out of balances: custody (stored) takes what the others need.
fn ledger(balances: &[(Account, i64)]) -> Ledger {
    let mut custody = 0;
    let mut all: Vec<(Account, SignedUnits)> = Vec::new();
    for (account, amount) in balances {
        custody += match account {
            Account::Asset(_) => -amount,
            Account::Claim(_) => *amount,
        };
        all.push((account.clone(), SignedUnits::new(i128::from(*amount))));
    }
    all.push((AssetAccount::Custody.into(), SignedUnits::new(i128::from(custody))));
    Ledger::from_balances(all).unwrap()
}

fn view(principal: u64, balances: &[(Account, i64)]) -> LedgerView {
    LedgerView::new(ledger(balances), units(principal)).unwrap()
}

fn liquid(n: i64) -> (Account, i64) {
    (AssetAccount::Liquid.into(), n)
}

fn delegated(n: i64) -> (Account, i64) {
    (AssetAccount::Delegated(validator()).into(), n)
}

fn house(n: i64) -> (Account, i64) {
    (ClaimAccount::House.into(), n)
}

fn input(view: &LedgerView) -> ReserveInput<'_> {
    let zero = BaseUnits::ZERO;
    ReserveInput {
        view,
        forecast: zero,
        fees_due: zero,
        delegating: zero,
        undelegating: zero,
        defunding: zero,
        funds_coming: zero,
        house_funds_coming: zero,
        unbonding_due: zero,
        may_stake: true,
        sent_in_a_day: zero,
        custody_allowed: true,
    }
}

/// (stake, unstake, fund, defund) of a plan.
fn moves(plan: &StakePlan) -> [u128; 4] {
    [plan.stake, plan.unstake, plan.fund, plan.defund].map(BaseUnits::get)
}

#[test]
fn a_new_pool_asks_for_its_float_first_and_then_for_principal() {
    let empty = view(1_000, &[]);
    let first = plan(&input(&empty), &policy()).unwrap();
    assert_eq!(moves(&first), [0, 0, 0, 0]);
    assert_eq!(first.house_float_fund, units(20));
    assert!(first.reasons.contains(&PlanReason::HouseFloatBelowFloor));
    let asked = ReserveInput { house_funds_coming: units(20), ..input(&empty) };
    assert_eq!(plan(&asked, &policy()).unwrap().house_float_fund, BaseUnits::ZERO);

    let floated = view(1_000, &[liquid(20), house(20)]);
    let second = plan(&input(&floated), &policy()).unwrap();
    assert_eq!((second.target, second.reserve_target, second.reserve.get()), (units(900), units(100), 1_000));
    assert_eq!(moves(&second), [0, 0, 900, 0]);
    // The FUND is asked for once, sent, and seen.
    let waiting = ReserveInput { funds_coming: units(900), ..input(&floated) };
    assert_eq!(moves(&plan(&waiting, &policy()).unwrap()), [0, 0, 0, 0]);
    let sent = view(1_000, &[liquid(20), house(20), (AssetAccount::InTransit.into(), 900)]);
    let sent = ReserveInput { funds_coming: units(900), ..input(&sent) };
    assert_eq!(moves(&plan(&sent, &policy()).unwrap()), [0, 0, 0, 0]);
    let arrived = view(1_000, &[liquid(920), house(20)]);
    assert_eq!(moves(&plan(&input(&arrived), &policy()).unwrap()), [900, 0, 0, 0]);
    // In flight is not staked again.
    let flying = view(1_000, &[liquid(20), house(20), (AssetAccount::InFlight.into(), 900)]);
    let flying = ReserveInput { delegating: units(900), ..input(&flying) };
    assert_eq!(moves(&plan(&flying, &policy()).unwrap()), [0, 0, 0, 0]);
    let done = view(1_000, &[liquid(20), house(20), delegated(900)]);
    let done = plan(&input(&done), &policy()).unwrap();
    assert_eq!(moves(&done), [0, 0, 0, 0]);
    assert_eq!(done.coverage, Coverage { now_bps: Some(10_000), horizon_bps: Some(10_000) });
}

#[test]
fn a_run_on_the_pool_is_lent_by_the_house_and_comes_back_once() {
    // 80 in 100 leave within the hour: custody paid 700 that it did not have.
    let after = view(200, &[liquid(20), house(20), delegated(900)]);
    let run = plan(&input(&after), &policy()).unwrap();
    assert_eq!((run.reserve.get(), run.target), (-700, units(180)));
    assert_eq!(moves(&run), [0, 720, 0, 0]);
    assert!(run.reasons.contains(&PlanReason::HouseCredit));
    assert_eq!(run.coverage, Coverage { now_bps: Some(0), horizon_bps: Some(0) });
    // House credit is brought back whole, whatever one run may do otherwise.
    let slow = ReservePolicy { max_change: Some(units(2)), ..policy() };
    assert_eq!(moves(&plan(&input(&after), &slow).unwrap()), [0, 720, 0, 0]);
    // Asked for and not effective, then unbonding: nothing is asked for twice.
    let asked = ReserveInput { undelegating: units(720), ..input(&after) };
    assert_eq!(moves(&plan(&asked, &policy()).unwrap()), [0, 0, 0, 0]);
    let unbonding = view(200, &[liquid(20), house(20), delegated(180), (AssetAccount::Unbonding.into(), 720)]);
    let unbonding = ReserveInput { unbonding_due: units(720), ..input(&unbonding) };
    let waiting = plan(&unbonding, &policy()).unwrap();
    assert_eq!(moves(&waiting), [0, 0, 0, 0]);
    assert_eq!(waiting.coverage, Coverage { now_bps: Some(0), horizon_bps: Some(10_000) });
    // They trickle back while it unbonds: nothing is staked on credit, nothing more is unstaked.
    let trickle = view(500, &[liquid(20), house(20), delegated(180), (AssetAccount::Unbonding.into(), 720)]);
    let trickle = ReserveInput { unbonding_due: units(720), ..input(&trickle) };
    assert_eq!(moves(&plan(&trickle, &policy()).unwrap()), [0, 0, 0, 0]);
    // Withdrawn: what the trickle needs is staked, the rest repays custody.
    let back = view(500, &[liquid(740), house(20), delegated(180)]);
    let back = plan(&input(&back), &policy()).unwrap();
    assert_eq!(moves(&back), [270, 0, 0, 450]);
    assert!(back.reasons.contains(&PlanReason::CustodyShort));
    let repaid = view(500, &[liquid(20), house(20), delegated(450)]);
    assert_eq!(moves(&plan(&input(&repaid), &policy()).unwrap()), [0, 0, 0, 0]);
}

#[test]
fn rewards_that_belong_to_a_distribution_are_not_staked() {
    let paid = view(1_000, &[liquid(70), house(20), delegated(900), (ClaimAccount::Undistributed.into(), 50)]);
    assert_eq!(spendable(&paid, &policy()), Ok(BaseUnits::ZERO));
    assert_eq!(moves(&plan(&input(&paid), &policy()).unwrap()), [0, 0, 0, 0]);
    // Credited: they are principal. Nine tenths of them are staked, and the reserve's tenth goes to custody.
    let credited = view(1_050, &[liquid(70), house(20), delegated(900)]);
    assert_eq!(moves(&plan(&input(&credited), &policy()).unwrap()), [45, 0, 0, 5]);
    // Compounded: the claim is not backed by liquid, so that a FUND has to bring that too.
    let compounded = view(2_000, &[liquid(20), house(20), delegated(950), (ClaimAccount::Undistributed.into(), 50)]);
    let compounded = plan(&input(&compounded), &policy()).unwrap();
    assert_eq!(moves(&compounded), [0, 0, 900, 0]);
}

#[test]
fn small_changes_stay_off_the_chain_and_large_ones_are_cut() {
    let near = view(1_000, &[liquid(24), house(20), delegated(896)]);
    let near = plan(&input(&near), &policy()).unwrap();
    assert_eq!(moves(&near), [0, 0, 0, 0]);
    assert!(near.reasons.contains(&PlanReason::WithinHysteresis));
    let cut = ReservePolicy { max_change: Some(units(100)), ..policy() };
    let rich = view(1_000, &[liquid(920), house(20)]);
    assert_eq!(moves(&plan(&input(&rich), &cut).unwrap()), [100, 0, 0, 0], "the rest is for the next runs");
    let short = view(800, &[liquid(20), house(20), delegated(760)]);
    assert_eq!(
        moves(&plan(&input(&short), &ReservePolicy { max_change: Some(units(16)), ..policy() }).unwrap()),
        [0, 16, 0, 0]
    );
}

#[test]
fn what_leaves_is_cut_to_shares_of_what_is_on_the_chain() {
    // 900 of 1,000 idle: half of what is there in a run, four fifths of what was there in a day.
    let idle = view(1_000, &[liquid(920), house(20), delegated(80), (AssetAccount::Unbonding.into(), 100)]);
    let capped = ReservePolicy {
        reserve_ratio_bps: 10_000,
        max_outflow_per_run_bps: 5_000,
        max_outflow_per_day_bps: 8_000,
        ..policy()
    };
    let first = plan(&input(&idle), &capped).unwrap();
    assert_eq!((first.defund, first.reasons.last()), (units(550), Some(&PlanReason::MaxOutflowPerRun)));
    // On its way it is still there, and counts as sent.
    let parts = [liquid(370), house(20), delegated(80), (AssetAccount::Unbonding.into(), 100)];
    let flying = view(1_000, &[parts.as_slice(), &[(AssetAccount::InFlight.into(), 550)]].concat());
    let flying = ReserveInput { defunding: units(550), sent_in_a_day: units(550), ..input(&flying) };
    let second = plan(&flying, &capped).unwrap();
    assert_eq!((second.defund, second.reasons.last()), (units(275), Some(&PlanReason::MaxOutflowPerRun)));
    let later = view(1_000, &[liquid(95), house(20), delegated(80), (AssetAccount::Unbonding.into(), 100)]);
    let later = ReserveInput { sent_in_a_day: units(825), ..input(&later) };
    let third = plan(&later, &capped).unwrap();
    assert_eq!((third.defund, third.reasons.last()), (units(55), Some(&PlanReason::MaxOutflowPerDay)));
    assert!(PlanReason::MaxOutflowPerDay.is_cut() && !PlanReason::CustodyShort.is_cut());
    let tomorrow = ReserveInput { sent_in_a_day: BaseUnits::ZERO, ..later };
    assert_eq!(plan(&tomorrow, &capped).unwrap().defund, units(75));
}

#[test]
fn nothing_is_sent_to_an_address_that_is_not_the_allowed_one() {
    let idle = view(500, &[liquid(420), house(20), delegated(80)]);
    assert_eq!(plan(&input(&idle), &policy()).unwrap().defund, units(30));
    let elsewhere = plan(&ReserveInput { custody_allowed: false, ..input(&idle) }, &policy()).unwrap();
    assert_eq!((elsewhere.defund, elsewhere.stake), (BaseUnits::ZERO, units(370)));
    assert!(elsewhere.reasons.contains(&PlanReason::CustodyNotAllowed));
}

#[test]
fn below_the_floor_only_exits_run() {
    let poor = view(2_000, &[liquid(1_009), house(9)]);
    let poor = plan(&input(&poor), &policy()).unwrap();
    assert_eq!(moves(&poor), [0, 0, 0, 0]);
    assert_eq!(poor.house_float_fund, units(11));
    let poor_run = view(100, &[liquid(9), house(9), delegated(900)]);
    assert_eq!(plan(&input(&poor_run), &policy()).unwrap().unstake, units(810));
    let stopped = view(2_000, &[liquid(1_020), house(20)]);
    let stopped = ReserveInput { may_stake: false, ..input(&stopped) };
    assert_eq!(plan(&stopped, &policy()).unwrap().stake, BaseUnits::ZERO);
    // The house owes: the refill covers that too.
    let owing = view(1_000, &[house(-30)]);
    assert_eq!(plan(&input(&owing), &policy()).unwrap().house_float_fund, units(50));
}

#[test]
fn the_horizon_is_at_least_one_unbonding() {
    let now = UnixSeconds::new(1_000);
    let all = [(now.plus(-1), units(1)), (now.plus(100), units(2)), (now.plus(101), units(4))];
    assert_eq!(unbonding_due(all, now, 100, 0), Ok(units(3)));
    assert_eq!(unbonding_due(all, now, 100, 101), Ok(units(7)));
}

#[test]
fn the_forecast_and_the_ratio_are_bounded() {
    assert_eq!(reserve_target(units(1_000), units(300), &policy()), Ok(units(300)));
    assert_eq!(reserve_target(units(1_000), units(30), &policy()), Ok(units(100)));
    assert_eq!(reserve_target(units(1_000), units(3_000), &policy()), Ok(units(1_000)), "nobody leaves with more");
    assert_eq!(target(units(1_000), units(3_000)), BaseUnits::ZERO);
    let expected = |forecast, floor| expected_outflow(forecast, units(1_000), 5_000, units(floor)).map(BaseUnits::get);
    assert_eq!(expected(Some(units(400)), 50), Ok(400));
    assert_eq!(expected(Some(units(8_000)), 50), Ok(500), "what left before may be more than is there now");
    assert_eq!((expected(None, 50), expected(Some(units(8_000)), 700)), (Ok(50), Ok(700)));
    let all = ReservePolicy { reserve_ratio_bps: u32::MAX, ..policy() };
    assert_eq!(reserve_target(BaseUnits::MAX, BaseUnits::ZERO, &all), Ok(BaseUnits::MAX));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]
    /// The design's bounds, computed here from the figures alone.
    #[test]
    fn a_plan_keeps_its_bounds(
        principal in 0_u64..5_000, (liquid_n, in_transit, staked, unbonding) in (0_i64..3_000, 0_i64..500, 0_i64..5_000, 0_i64..2_000),
        (undistributed, payable, house_n) in (0_i64..300, 0_i64..300, -50_i64..200),
        (forecast, funds, undelegating) in (0_u64..2_000, 0_u64..500, 0_u64..500),
        (ratio, share, hysteresis, most) in (0_u32..10_001, 0_u32..10_001, 0_u32..300, 1_u32..10_001),
    ) {
        let view = view(principal, &[
            liquid(liquid_n), delegated(staked), house(house_n),
            (AssetAccount::InTransit.into(), in_transit), (AssetAccount::Unbonding.into(), unbonding),
            (ClaimAccount::Undistributed.into(), undistributed), (ClaimAccount::Payable.into(), payable),
        ]);
        let policy = ReservePolicy {
            reserve_ratio_bps: ratio, custody_share_bps: share, hysteresis_bps: hysteresis, max_change: Some(units(u64::from(most))), ..policy()
        };
        let undelegating = units(undelegating).min(units(u64::try_from(staked).unwrap()));
        let input = ReserveInput {
            forecast: units(forecast), funds_coming: units(funds), undelegating,
            unbonding_due: view.asset(AssetAccount::Unbonding), ..input(&view)
        };
        let plan = plan(&input, &policy).unwrap();

        let gas = house_n.clamp(0, 20);
        let others = undistributed + payable;
        let reserve = view.custody().get() + i128::from(liquid_n - gas - others);
        let reserve_target = (u128::from(principal) * u128::from(ratio) / 10_000).max(u128::from(forecast.min(principal)));
        let target = u128::from(principal).saturating_sub(reserve_target);
        prop_assert_eq!((plan.reserve.get(), plan.reserve_target.get(), plan.target.get()), (reserve, reserve_target, target));
        let left = u128::try_from(staked).unwrap() - undelegating.get();
        let above = u128::try_from((reserve - i128::try_from(reserve_target).unwrap()).max(0)).unwrap();
        prop_assert!(plan.stake.get() <= target.saturating_sub(left).min(above));
        prop_assert!(i128::try_from(plan.stake.get()).unwrap() <= i128::from(liquid_n - gas - others).max(0));
        let need = i128::try_from(reserve_target).unwrap() - reserve
            - i128::from(in_transit) - i128::from(unbonding) - undelegating.signed().get();
        prop_assert!(plan.unstake.signed().get() <= need.max(0));
        prop_assert!(plan.unstake.get() <= left);
        prop_assert!(plan.stake.is_zero() || plan.unstake.is_zero());
        prop_assert!(plan.fund.is_zero() || plan.defund.is_zero());
        // A DEFUND and the delegations together spend no claim and no fee.
        let spent = plan.stake.checked_add(plan.defund).unwrap();
        prop_assert!(spent.signed().get() <= i128::from(liquid_n - gas - others).max(0));
        // A FUND does not take customers' reserve.
        if !plan.reasons.contains(&PlanReason::FeesShort) && !plan.fund.is_zero() {
            prop_assert!(plan.fund.signed().get() <= view.custody().get());
        }
        // What is carried out needs no repeating.
        let id = OperationId::new("p:delegate:1:1").unwrap();
        if !plan.stake.is_zero() {
            let kind = super::super::operation::OperationKind::Delegate { validator: validator(), amount: plan.stake };
            let entry = booking::plan(&id, &kind).unwrap();
            let after = LedgerView::new(view.ledger().apply(&entry).unwrap(), view.principal()).unwrap();
            let next = super::plan(&ReserveInput { view: &after, delegating: plan.stake, ..input }, &policy).unwrap();
            prop_assert!(next.unstake.is_zero());
            prop_assert!(plan.stake.get() + next.stake.get() <= target.saturating_sub(left));
        }
        if !plan.unstake.is_zero() {
            let undelegating = undelegating.checked_add(plan.unstake).unwrap();
            let next = super::plan(&ReserveInput { undelegating, ..input }, &policy).unwrap();
            prop_assert!(plan.unstake.checked_add(next.unstake).unwrap().signed().get() <= need);
            prop_assert!(next.stake.is_zero());
        }
    }
}

#[test]
fn a_fund_that_custody_has_sent_is_not_asked_for_again() {
    use super::super::transfer::{Direction, Purpose, Transfer};
    let id = TransferId::new("f").unwrap();
    let fund = Transfer::new(id, Direction::Fund, Purpose::Principal, None, units(900));
    let start = ledger(&[liquid(20), house(20)]);
    let (_, sent) = booking::acknowledge_transfer(&fund, units(900)).unwrap();
    let sent = LedgerView::new(start.apply(&sent).unwrap(), units(1_000)).unwrap();
    assert_eq!(sent.custody().get(), 100);
    assert_eq!(
        moves(&plan(&ReserveInput { funds_coming: units(900), ..input(&sent) }, &policy()).unwrap()),
        [0, 0, 0, 0]
    );
}
