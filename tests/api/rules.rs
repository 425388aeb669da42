//! The rules of who earns what: time weight, eligibility, enrolment.

use ruint::aliases::U256;
use softstake::pb::v1;
use v1::EnrolmentDecision::{OptIn, OptOut, Restrict, Unrestrict};

use crate::harness::{DAY, Event, FIRST, HOUR, SECOND, Server, Setup, THIRD, units};

/// A million ATOM.
const MILLION: u128 = 1_000_000_000_000;

/// The payout that the figures of an explanation come to: `q x floor(net x weight / (W x q))`.
fn by_formula(explained: &v1::ExplainPayoutResponse) -> u128 {
    let big = |text: &str| text.parse::<U256>().unwrap();
    let unit = U256::from(units(&explained.payout_unit));
    let net = U256::from(units(&explained.net));
    let share = net * big(&explained.weight) / (big(&explained.weight_total) * unit);
    u128::try_from(share * unit).unwrap()
}

/// Demands that an account's weight is `weight` and that its payout follows from it.
async fn weighs(server: &Server, date: &str, account: &str, weight: u128) -> v1::ExplainPayoutResponse {
    let explained = server.explain("atom", date, account).await;
    assert_eq!(explained.weight, weight.to_string(), "{account} on {date}");
    assert_eq!(units(&explained.payout.as_ref().unwrap().amount), by_formula(&explained), "{account} on {date}");
    explained
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_counts_to_the_second() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("all-day", "ATOM", MILLION).await;
    server.at(DAY / 2).await;
    server.put("half-day", "ATOM", MILLION).await;
    server.at(DAY - 60).await;
    server.put("last-minute", "ATOM", MILLION).await;
    server.at(DAY - 1).await;
    server.put("last-second", "ATOM", MILLION).await;
    server.close(DAY).await;

    let seconds = |seconds: i64| MILLION * seconds as u128;
    let all = weighs(&server, FIRST, "all-day", seconds(DAY)).await;
    weighs(&server, FIRST, "half-day", seconds(DAY / 2)).await;
    weighs(&server, FIRST, "last-minute", seconds(60)).await;
    weighs(&server, FIRST, "last-second", seconds(1)).await;
    let total = seconds(DAY + DAY / 2 + 60 + 1);
    assert_eq!(all.weight_total, total.to_string());

    // The floor of a whole part of a share is the whole part of its floor: to the unit, whatever the rest.
    let whole = units(&all.payout.unwrap().amount);
    assert!(whole > 100_000_000, "{whole} is too small to show anything");
    assert_eq!(server.paid("atom", FIRST, "half-day").await, whole / 2);
    assert_eq!(server.paid("atom", FIRST, "last-minute").await, whole / 1_440);
    assert_eq!(server.paid("atom", FIRST, "last-second").await, whole / 86_400);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_stands_still_while_a_freeze_is_sealed() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("alice", "ATOM", MILLION).await;
    for day in 1..=5 {
        server.at(day * DAY).await;
        server.feed(&[], Some(day * DAY)).await;
        server.at(day * DAY).await;
        let released = server.distributions("atom").await.len() as i64;
        assert_eq!(released, day, "what the watermark allowed is done when time was told to stay");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minimum_and_cap_decide_what_earns() {
    let policy = format!("minimum_base_units = \"1000000\"\ncap_base_units = \"{MILLION}\"");
    let mut server = Setup::new().pool("atom", &policy).start().await;
    server.put("dust", "ATOM", 999_999).await;
    server.put("least", "ATOM", 1_000_000).await;
    server.put("whale", "ATOM", 5 * MILLION).await;
    server.put("at-the-cap", "ATOM", MILLION).await;
    let eligibility = async |account: &str| {
        let position = server.position(account, "atom").await;
        (units(&position.eligible_balance), position.eligibility())
    };
    assert_eq!(eligibility("dust").await, (0, v1::Eligibility::BelowMinimum));
    assert_eq!(eligibility("least").await, (1_000_000, v1::Eligibility::Full));
    assert_eq!(eligibility("whale").await, (MILLION, v1::Eligibility::Capped));
    assert_eq!(eligibility("at-the-cap").await, (MILLION, v1::Eligibility::Full));
    let totals = server.pool("atom").await.totals.unwrap();
    assert_eq!(units(&totals.eligible_total), 2 * MILLION + 1_000_000);
    assert_eq!((totals.position_count, totals.eligible_count), (4, 3));

    server.close(DAY).await;
    weighs(&server, FIRST, "whale", MILLION * 86_400).await;
    assert_eq!(server.paid("atom", FIRST, "whale").await, server.paid("atom", FIRST, "at-the-cap").await);
    assert!(server.paid("atom", FIRST, "least").await > 0);
    assert!(server.payouts("dust", "ATOM").await.iter().all(|payout| units(&payout.amount) == 0));
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_earned_before_an_opt_out_is_still_paid() {
    let mut server = Setup::new().pool("atom", "").start().await;
    for account in ["stays", "leaves", "leaves-all", "restricted"] {
        server.put(account, "ATOM", MILLION).await;
    }
    server.at(6 * HOUR).await;
    server.enrol("leaves", "atom", OptOut).await;
    server.enrol("leaves-all", "", OptOut).await;
    server.enrol("restricted", "", Restrict).await;
    server.at(12 * HOUR).await;
    let eligibility = async |account: &str| server.position(account, "atom").await.eligibility();
    assert_eq!(eligibility("leaves").await, v1::Eligibility::OptedOut);
    assert_eq!(eligibility("leaves-all").await, v1::Eligibility::OptedOut);
    assert_eq!(eligibility("restricted").await, v1::Eligibility::Restricted);
    assert_eq!(units(&server.pool("atom").await.totals.unwrap().eligible_total), MILLION);
    // A balance that comes in while opted out earns nothing.
    server.put("leaves", "ATOM", 2 * MILLION).await;
    server.at(18 * HOUR).await;
    server.enrol("restricted", "", Unrestrict).await;
    server.close(DAY).await;

    let hours = |hours: u128| MILLION * hours * 3_600;
    weighs(&server, FIRST, "stays", hours(24)).await;
    weighs(&server, FIRST, "leaves", hours(6)).await;
    weighs(&server, FIRST, "leaves-all", hours(6)).await;
    weighs(&server, FIRST, "restricted", hours(12)).await;
    let stays = server.paid("atom", FIRST, "stays").await;
    assert!(stays > 1_000_000);
    assert_eq!(server.paid("atom", FIRST, "leaves").await, stays / 4);
    assert_eq!(server.paid("atom", FIRST, "leaves-all").await, stays / 4);
    assert_eq!(server.paid("atom", FIRST, "restricted").await, stays / 2);
    // And nothing more afterwards.
    server.close(2 * DAY).await;
    weighs(&server, SECOND, "stays", hours(24)).await;
    let after = server.payouts("leaves", "ATOM").await;
    assert!(after.iter().all(|payout| !payout.distribution.ends_with(SECOND) || units(&payout.amount) == 0));
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opt_in_pool_pays_only_those_who_opted_in() {
    let mut server = Setup::new().pool("atom", "enrolment = \"opt_in\"").start().await;
    server.enrol("early", "atom", OptIn).await;
    for account in ["early", "late", "never"] {
        server.put(account, "ATOM", MILLION).await;
    }
    assert_eq!(server.position("never", "atom").await.eligibility(), v1::Eligibility::NotOptedIn);
    server.at(12 * HOUR).await;
    server.enrol("late", "", OptIn).await;
    server.close(DAY).await;
    weighs(&server, FIRST, "early", MILLION * 86_400).await;
    weighs(&server, FIRST, "late", MILLION * 43_200).await;
    let early = server.paid("atom", FIRST, "early").await;
    assert!(early > 1_000_000);
    assert_eq!(server.paid("atom", FIRST, "late").await, early / 2);
    let never = server.payouts("never", "ATOM").await;
    assert!(never.iter().all(|payout| units(&payout.amount) == 0), "{never:?}");
    assert_eq!(server.distribution("atom", FIRST).await.payout_count, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_policy_counts_from_the_next_period_that_has_not_begun() {
    let mut server = Setup::new().pool("atom", "fee_bps = 1000").start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.put("small", "ATOM", 1_000_000).await;
    server.at(6 * HOUR).await;
    let mut pool = server.pool("atom").await;
    let policy = pool.policy.as_mut().unwrap();
    assert_eq!(policy.fee_bps, 1_000);
    policy.fee_bps = 2_000;
    policy.minimum_balance = Some(crate::harness::amount("ATOM", 1_000_001));
    let changed = server.update(pool, &["policy.fee_bps", "policy.minimum_balance"]).await;
    assert_eq!(changed.policy.as_ref().unwrap().fee_bps, 1_000, "the open period keeps its own");
    assert_eq!(changed.next_policy.as_ref().unwrap().fee_bps, 2_000);
    assert_eq!(server.position("small", "atom").await.eligibility(), v1::Eligibility::Full);

    server.close(DAY).await;
    server.close(2 * DAY).await;
    server.close(3 * DAY).await;
    let first = server.distribution("atom", FIRST).await;
    assert_eq!(units(&first.fee), units(&first.receipts_amount) / 10);
    assert!(server.paid("atom", FIRST, "small").await > 0);
    for date in [SECOND, THIRD] {
        let later = server.distribution("atom", date).await;
        assert_eq!(units(&later.fee), units(&later.receipts_amount) / 5, "{date}");
        assert!(units(&later.fee) > 0);
    }
    assert_eq!(server.position("small", "atom").await.eligibility(), v1::Eligibility::BelowMinimum);
    let small = server.payouts("small", "ATOM").await;
    assert!(small.iter().all(|payout| payout.distribution.ends_with(FIRST) || units(&payout.amount) == 0));
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_goes_back_a_little_is_clamped_and_one_that_reaches_far_back_is_late() {
    let server = Setup::new().pool("atom", "").start().await;
    server.feed(&[Event("alice", "ATOM", MILLION, 0), Event("bob", "ATOM", MILLION, 0)], None).await;
    server.at(HOUR).await;
    let report = server.feed(&[Event("alice", "ATOM", 2 * MILLION, HOUR)], None).await;
    assert_eq!((report.accepted, report.clamped), (1, 0));
    // Within max_skew (5 s by default): counted from the last event's time.
    let report = server.feed(&[Event("alice", "ATOM", 3 * MILLION, HOUR - 5)], None).await;
    assert_eq!((report.accepted, report.clamped), (1, 1));
    let report = server.feed(&[Event("alice", "ATOM", 9 * MILLION, HOUR - 6)], None).await;
    assert_eq!(report.rejected.len(), 1);
    assert_eq!(report.rejected[0].reason(), v1::RejectedEventReason::TooOld);
    server.close(DAY).await;
    weighs(&server, FIRST, "alice", MILLION * 3_600 + 3 * MILLION * (86_400 - 3_600)).await;

    // An event after a position's last one that reaches into the closed day leaves it as it is.
    let closed = server.distribution("atom", FIRST).await;
    let report = server.feed(&[Event("bob", "ATOM", 3 * MILLION, 12 * HOUR)], None).await;
    assert_eq!((report.accepted, report.late), (1, 1));
    assert_eq!(server.distribution("atom", FIRST).await, closed, "a closed period is immutable");
    server.close(2 * DAY).await;
    let bob = server.explain("atom", SECOND, "bob").await;
    assert!(bob.weight.parse::<u128>().unwrap() >= 3 * MILLION * 86_400, "{}", bob.weight);
    server.reconciled("atom").await;
    server.stop().await;
}
