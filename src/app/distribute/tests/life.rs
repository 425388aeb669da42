use super::rig::*;
use crate::app::history::{HistoryQuery, PayoutStanding};
use crate::app::pay::{self, RejectedAck};
use crate::app::{AppError, Reason};
use crate::domain::distribution::{AfterVoid, DistributionState};
use crate::domain::fixed_apr::{AnnualRate, RewardPolicy};
use crate::domain::ledger::ClaimAccount;
use crate::domain::payout::SetHash;
use crate::domain::period::{PeriodIndex, PeriodState};
use crate::domain::policy::{PoolPolicy, ReleaseLimits};

const ZERO: PeriodIndex = PeriodIndex(0);

fn reason<T: std::fmt::Debug>(result: Result<T, AppError>) -> Reason {
    match result {
        Err(AppError::Refused(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

fn by_approval() -> ReleaseLimits {
    ReleaseLimits { approval_required: true, ..ReleaseLimits::default() }
}

/// Two twins, of which one holds half the period, and a reward of 1,000: 900 after the fee.
async fn twins(partitions: u16, release: ReleaseLimits) -> Rig {
    let mut rig = Rig::new(partitions, release).await;
    rig.run().await.unwrap();
    rig.put("whole", 100, 0).await;
    rig.set_time(LENGTH / 2);
    rig.put("half", 100, LENGTH / 2).await;
    rig.set_time(LENGTH);
    rig.reward("a", 600, LENGTH - 5).await;
    rig.reward("b", 401, LENGTH - 4).await;
    // At the end itself: the next period's.
    rig.reward("late", 77, LENGTH).await;
    rig.run().await.unwrap();
    rig
}

#[tokio::test]
async fn a_period_is_frozen_split_released_and_settled() {
    let mut rig = twins(3, ReleaseLimits::default()).await;
    let period = rig.app.period(&rig.pool, ZERO).await.unwrap().unwrap();
    assert_eq!((period.state, period.frozen.unwrap().by_grace), (PeriodState::Frozen, false));
    assert_eq!(rig.last(0).await, None, "the chain is not reconciled up to the end");

    rig.reconciled(LENGTH).await;
    rig.run().await.unwrap();
    let last = rig.last(0).await.unwrap();
    assert_eq!(last.state, DistributionState::Released);
    assert_eq!((last.receipts.count, last.figures.receipts, last.figures.fee), (2, units(1_001), units(100)));
    // 901 over weights of 2 : 1.
    assert_eq!(rig.payouts(0).await, [("half".to_owned(), 300), ("whole".to_owned(), 600)]);
    assert_eq!(last.figures.carry_out, units(1));
    assert_eq!(rig.app.period(&rig.pool, ZERO).await.unwrap().unwrap().state, PeriodState::Distributed);
    assert_eq!((rig.claim(ClaimAccount::Payable).await, rig.claim(ClaimAccount::Carry).await), (900, 1));
    assert_eq!((rig.claim(ClaimAccount::House).await, rig.claim(ClaimAccount::Undistributed).await), (100, 77));
    assert_eq!(rig.claim(ClaimAccount::InDistribution).await, 0);

    let half = account("half");
    let query = HistoryQuery { limit: 10, ..HistoryQuery::default() };
    let page = rig.app.account_payouts(&half, &query).await.unwrap();
    assert_eq!(page.payouts.len(), 1);
    assert_eq!((page.payouts[0].standing, page.payouts[0].amount), (PayoutStanding::AwaitingAck, units(300)));
    let why = rig.app.explain_payout(&rig.pool, ZERO, &half).await.unwrap();
    assert_eq!((why.weight, why.net, why.receipts.len()), (100 * LENGTH as u128 / 2, units(901), 2));
    assert_eq!(why.rounding_rest, Some(ruint::aliases::U256::from(100 * LENGTH / 2)));

    let (app, pool, request) = (rig.app.clone(), rig.pool.clone(), rig.request());
    let once = app.ack_payouts(&request, &pool, ZERO, 1, last.hash, 2, Vec::new()).await.unwrap();
    assert_eq!(once, crate::app::Once::First);
    assert_eq!(rig.last(0).await.unwrap().state, DistributionState::Settled);
    assert_eq!(rig.claim(ClaimAccount::Payable).await, 0);
    let again = rig.request();
    let _ = app.ack_payouts(&again, &pool, ZERO, 1, last.hash, 2, Vec::new()).await.unwrap();
    assert_eq!(rig.claim(ClaimAccount::Payable).await, 0);
    let earned = app.account_earnings(&half, None).await.unwrap();
    assert_eq!((earned[0].total.amount, earned[0].acknowledged.amount), (units(300), units(300)));
    assert_eq!((earned[0].trailing_periods, earned[0].unclaimed.count), (1, 0));
    assert!(app.unsettled_distributions(&pool, None, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_carry_and_the_late_receipt_go_to_the_next_period() {
    let mut rig = twins(3, ReleaseLimits::default()).await;
    rig.set_time(2 * LENGTH);
    rig.reconciled(2 * LENGTH).await;
    rig.run().await.unwrap();
    let next = rig.last(1).await.unwrap();
    assert_eq!((next.figures.carry_in, next.figures.receipts, next.figures.fee), (units(1), units(77), units(7)));
    // 71 over equal weights.
    assert_eq!(rig.payouts(1).await, [("half".to_owned(), 35), ("whole".to_owned(), 35)]);
    let query = HistoryQuery { limit: 1, ..HistoryQuery::default() };
    let first = rig.app.account_payouts(&account("whole"), &query).await.unwrap();
    assert_eq!((first.payouts[0].period, first.payouts[0].amount), (PeriodIndex(1), units(35)));
    let query = HistoryQuery { after: first.next, ..query };
    let second = rig.app.account_payouts(&account("whole"), &query).await.unwrap();
    assert_eq!((second.payouts[0].period, second.payouts[0].amount), (ZERO, units(600)));
    assert_eq!(second.next, None);
}

#[tokio::test]
async fn a_held_distribution_is_approved_by_its_hash() {
    let mut rig = twins(2, by_approval()).await;
    rig.reconciled(LENGTH).await;
    rig.run().await.unwrap();
    let last = rig.last(0).await.unwrap();
    assert_eq!((last.state, last.holds[0].code.as_str()), (DistributionState::Held, "APPROVAL_REQUIRED"));
    assert_eq!(rig.claim(ClaimAccount::InDistribution).await, 1_001);
    let (app, pool, request) = (rig.app.clone(), rig.pool.clone(), rig.request());
    let wrong = app.approve_distribution(&request, &pool, ZERO, 1, SetHash::EMPTY).await;
    assert_eq!(reason(wrong), Reason::HashMismatch);
    assert_eq!(
        reason(app.approve_distribution(&request, &pool, ZERO, 2, last.hash).await),
        Reason::UnknownDistribution
    );
    let _ = app.approve_distribution(&request, &pool, ZERO, 1, last.hash).await.unwrap();
    rig.run().await.unwrap();
    let last = rig.last(0).await.unwrap();
    assert_eq!((last.state, last.approved_by.as_str()), (DistributionState::Released, "softstake"));
    let voided = app.void_distribution(&rig.request(), &pool, ZERO, 1, AfterVoid::Carry, "late").await;
    assert_eq!(reason(voided), Reason::WrongState);
}

#[tokio::test]
async fn a_void_reverses_exactly_and_says_what_follows() {
    let mut rig = twins(2, by_approval()).await;
    rig.reconciled(LENGTH).await;
    rig.run().await.unwrap();
    let first = rig.last(0).await.unwrap();
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    let request = rig.request();
    let _ = app.void_distribution(&request, &pool, ZERO, 1, AfterVoid::Recompute, "again").await.unwrap();
    app.approve_waiting().await;
    assert_eq!(
        (rig.claim(ClaimAccount::InDistribution).await, rig.claim(ClaimAccount::Undistributed).await),
        (0, 1_078)
    );
    rig.run().await.unwrap();
    let second = rig.last(0).await.unwrap();
    assert_eq!((second.revision, second.hash, second.figures), (2, first.hash, first.figures));
    assert!(app.receipts_of(&pool, &first).await.unwrap().is_empty());

    let request = rig.request();
    let _ = app.void_distribution(&request, &pool, ZERO, 2, AfterVoid::Carry, "never").await.unwrap();
    app.approve_waiting().await;
    rig.run().await.unwrap();
    assert_eq!(app.period(&pool, ZERO).await.unwrap().unwrap().state, PeriodState::Distributed);
    rig.set_time(2 * LENGTH);
    rig.reconciled(2 * LENGTH).await;
    rig.run().await.unwrap();
    let next = rig.last(1).await.unwrap();
    assert_eq!((next.receipts.count, next.figures.receipts, next.figures.carry_in), (3, units(1_078), units(0)));
    let query = HistoryQuery { limit: 10, ..HistoryQuery::default() };
    let history = app.account_payouts(&account("whole"), &query).await.unwrap();
    assert!(history.payouts.is_empty(), "nothing is released");
}

#[tokio::test]
async fn a_paused_pool_releases_nothing_and_a_wrong_hash_pauses() {
    let mut rig = twins(2, ReleaseLimits::default()).await;
    rig.reconciled(LENGTH).await;
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    let request = rig.request();
    let _ = app.pause_pool(&request, &pool, "look").await.unwrap();
    rig.run().await.unwrap();
    assert_eq!(rig.last(0).await.unwrap().state, DistributionState::Approved);
    let request = rig.request();
    let _ = app.resume_pool(&request, &pool, "looked at").await.unwrap();
    app.approve_waiting().await;
    rig.run().await.unwrap();
    let last = rig.last(0).await.unwrap();
    assert_eq!(last.state, DistributionState::Released);

    let wrong = app.ack_payouts(&rig.request(), &pool, ZERO, 1, SetHash::EMPTY, 2, Vec::new()).await;
    assert_eq!(reason(wrong), Reason::HashMismatch);
    assert!(app.pool_state(&pool).await.unwrap().paused.is_some());
    let past = app.ack_payouts(&rig.request(), &pool, ZERO, 1, last.hash, 3, Vec::new()).await;
    assert_eq!(reason(past), Reason::AckOutOfRange);
}

#[tokio::test]
async fn what_is_durable_is_answered_so_whatever_goes_wrong_after_it() {
    let mut durable = 0;
    for n in 0..4 {
        let mut rig = twins(1, ReleaseLimits::default()).await;
        rig.reconciled(LENGTH).await;
        rig.run().await.unwrap();
        let last = rig.last(0).await.unwrap();
        rig.busy_at(n);
        let (app, pool, request) = (rig.app.clone(), rig.pool.clone(), rig.request());
        let acknowledged = app.ack_payouts(&request, &pool, ZERO, 1, last.hash, 2, Vec::new()).await;
        let taken = rig.claim(ClaimAccount::Payable).await == 0;
        assert_eq!(acknowledged.is_ok(), taken, "busy at commit {n}: {acknowledged:?}");
        durable += u32::from(taken && rig.last(0).await.unwrap().state != DistributionState::Settled);
    }
    assert!(durable > 0, "once the settling after it found the store busy");
}

#[tokio::test]
async fn rejected_payouts_become_unclaimed() {
    let mut rig = twins(1, ReleaseLimits::default()).await;
    rig.reconciled(LENGTH).await;
    rig.run().await.unwrap();
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    let last = rig.last(0).await.unwrap();
    let all = app.payouts_from(&pool, ZERO, 1, 0, 10).await.unwrap();
    let reject = |index: u64, name: &str| RejectedAck {
        index,
        account: account(name),
        reason: "ACCOUNT_CLOSED".to_owned(),
        message: String::new(),
    };
    assert_eq!((all[0].index, all[0].account.as_str(), all[1].account.as_str()), (0, "whole", "half"));
    let swapped = app.ack_payouts(&rig.request(), &pool, ZERO, 1, last.hash, 1, vec![reject(0, "half")]).await;
    assert_eq!(reason(swapped), Reason::InvalidValue);
    let request = rig.request();
    let _ = app.ack_payouts(&request, &pool, ZERO, 1, last.hash, 1, vec![reject(0, "whole")]).await.unwrap();
    assert_eq!(rig.last(0).await.unwrap().state, DistributionState::Released);
    assert_eq!((rig.claim(ClaimAccount::Unclaimed).await, rig.claim(ClaimAccount::Payable).await), (600, 300));
    let query = HistoryQuery { limit: 10, ..HistoryQuery::default() };
    let standing = async |name: &str| app.account_payouts(&account(name), &query).await.unwrap().payouts[0].standing;
    assert_eq!(standing("whole").await, PayoutStanding::Unclaimed);
    assert_eq!(standing("half").await, PayoutStanding::AwaitingAck);
    let request = rig.request();
    let _ = app.ack_payouts(&request, &pool, ZERO, 1, last.hash, 2, vec![reject(0, "whole")]).await.unwrap();
    let settled = rig.last(0).await.unwrap();
    assert_eq!(settled.state, DistributionState::Settled);
    assert_eq!(standing("half").await, PayoutStanding::Acknowledged);
    let late = app.ack_payouts(&rig.request(), &pool, ZERO, 1, last.hash, 2, vec![reject(1, "half")]).await;
    assert_eq!(reason(late), Reason::AckOutOfRange, "it was acknowledged as credited");
    let ack = app.payout_ack(&pool, ZERO, 1).await.unwrap();
    pay::counts(&settled, ack.as_ref()).unwrap().check_equation_5().unwrap();
    assert_eq!((rig.claim(ClaimAccount::Unclaimed).await, rig.claim(ClaimAccount::Payable).await), (600, 0));
}

#[tokio::test]
async fn a_fixed_rate_is_made_up_by_the_house_and_held_above_its_limit() {
    let rate = RewardPolicy::FixedApr(AnnualRate::new(rust_decimal::Decimal::ONE).unwrap());
    let limits = ReleaseLimits { max_house_in: Some(units(10)), ..ReleaseLimits::default() };
    let mut rig = Rig::with(2, PoolPolicy { reward: rate, ..policy() }, limits).await;
    rig.run().await.unwrap();
    // A whole a year on 8,760 is one an hour.
    rig.put("a", 8_760 * 30, 0).await;
    rig.set_time(LENGTH);
    rig.reward("r", 20, LENGTH - 1).await;
    rig.reconciled(LENGTH).await;
    rig.run().await.unwrap();
    let last = rig.last(0).await.unwrap();
    assert_eq!((last.figures.payouts, last.figures.house_in, last.figures.fee), (units(30), units(12), units(2)));
    assert_eq!((last.state, last.holds[0].code.as_str()), (DistributionState::Held, "HOUSE_IN_ABOVE_LIMIT"));
    assert_eq!(rig.app.period(&rig.pool, ZERO).await.unwrap().unwrap().state, PeriodState::Frozen);
}

#[tokio::test]
async fn a_source_without_a_watermark_is_waited_for_until_the_grace_ends() {
    let mut rig = Rig::new(1, ReleaseLimits::default()).await;
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    let request = rig.request();
    let _ = app.register_source(&request, crate::domain::ids::SourceId::new("ledger").unwrap(), "").await.unwrap();
    rig.run().await.unwrap();
    assert_eq!(reason(app.close_period(&rig.request(), &pool, ZERO).await), Reason::PeriodNotEnded);
    rig.set_time(LENGTH + 599);
    rig.run().await.unwrap();
    assert_eq!(app.period(&pool, ZERO).await.unwrap().unwrap().state, PeriodState::Open);
    rig.set_time(LENGTH + 600);
    rig.run().await.unwrap();
    let period = app.period(&pool, ZERO).await.unwrap().unwrap();
    assert_eq!((period.state, period.frozen.unwrap().by_grace), (PeriodState::Frozen, true));
    assert_eq!(app.metrics.frozen_by_grace.get(), 1);
    rig.set_time(2 * LENGTH);
    let request = rig.request();
    let closing = app.close_period(&request, &pool, PeriodIndex(1));
    let _ = rig.drive(closing).await.unwrap();
    rig.run().await.unwrap();
    assert_eq!(app.period(&pool, PeriodIndex(1)).await.unwrap().unwrap().state, PeriodState::Frozen);
}

#[tokio::test]
async fn many_accounts_are_numbered_without_gaps_from_anywhere() {
    for partitions in [1, 3] {
        let mut rig = Rig::new(partitions, ReleaseLimits::default()).await;
        rig.run().await.unwrap();
        for n in 0..700_u64 {
            rig.put(&format!("a{n}"), if n % 7 == 0 { 0 } else { 1_000 + n }, 0).await;
        }
        rig.set_time(LENGTH);
        for n in 0..900_i64 {
            rig.reward(&format!("r{n}"), 1_000, LENGTH - 1 - n).await;
        }
        rig.reconciled(LENGTH).await;
        rig.run().await.unwrap();
        let last = rig.last(0).await.unwrap();
        assert_eq!((last.state, last.receipts.count), (DistributionState::Released, 900));
        assert_eq!((last.positions, last.positive_count, last.paid_count), (700, 600, 600));
        assert_eq!(rig.app.receipts_of(&rig.pool, &last).await.unwrap().len(), 900);
        let all = rig.app.payouts_from(&rig.pool, ZERO, 1, 0, usize::MAX).await.unwrap();
        assert!(all.iter().zip(0..).all(|(payout, index)| payout.index == index));
        for from in [1, 255, 256, 300, 599, 600] {
            let some = rig.app.payouts_from(&rig.pool, ZERO, 1, from, 3).await.unwrap();
            assert_eq!(some, all[from as usize..].iter().take(3).cloned().collect::<Vec<_>>(), "{from}");
        }
        for payout in all.iter().step_by(37) {
            let (partition, ordinal) = rig.app.book.place_of(rig.pool.number(), &payout.account).unwrap();
            let index = rig.app.payout_index(&rig.pool, &last, partition, ordinal).await.unwrap();
            assert_eq!(index, payout.index);
        }
    }
}

#[tokio::test]
async fn the_partitioning_changes_no_payout() {
    let mut hashes = Vec::new();
    for partitions in [1, 2, 5] {
        let mut rig = twins(partitions, ReleaseLimits::default()).await;
        rig.reconciled(LENGTH).await;
        rig.run().await.unwrap();
        hashes.push(rig.last(0).await.unwrap().hash);
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 1);
}

#[tokio::test]
async fn a_crash_at_any_commit_changes_nothing() {
    let expected = {
        let mut rig = twins(3, ReleaseLimits::default()).await;
        rig.reconciled(LENGTH).await;
        rig.run().await.unwrap();
        (rig.last(0).await.unwrap(), rig.claim(ClaimAccount::Payable).await)
    };
    let mut died = 0;
    for after in [false, true] {
        for n in 0..40 {
            let mut rig = Rig::new(3, ReleaseLimits::default()).await;
            rig.run().await.unwrap();
            rig.put("whole", 100, 0).await;
            rig.set_time(LENGTH / 2);
            rig.put("half", 100, LENGTH / 2).await;
            rig.set_time(LENGTH);
            rig.reward("a", 600, LENGTH - 5).await;
            rig.reward("b", 401, LENGTH - 4).await;
            rig.reconciled(LENGTH).await;
            rig.die_at(n, after);
            if rig.run().await.is_err() {
                died += 1;
                rig = rig.restart().await;
                rig.run().await.unwrap();
            }
            let last = rig.last(0).await.unwrap();
            assert_eq!((last.state, last.hash, last.figures), (expected.0.state, expected.0.hash, expected.0.figures));
            assert_eq!((last.revision, rig.claim(ClaimAccount::Payable).await), (1, expected.1), "{n} {after}");
        }
    }
    assert!(died >= 20, "{died}");
}

#[tokio::test]
async fn nobody_waits_for_a_seal_of_a_book_that_has_closed() {
    let mut unsealed = 0;
    for commit in 1..12 {
        let mut rig = Rig::new(1, ReleaseLimits::default()).await;
        rig.put("alice", 100, 0).await;
        rig.set_time(LENGTH + 700);
        rig.die_at(commit, false);
        if rig.run().await.is_ok() {
            break;
        }
        let open = rig.book.open_periods(rig.pool.number()).unwrap();
        if rig.book.is_closed() && open.first().is_some_and(|open| open.index > ZERO) {
            unsealed += 1;
            assert!(!rig.app.is_sealing(&rig.pool).await.unwrap(), "a death at commit {commit}");
        }
    }
    assert!(unsealed > 0);
}
