use proptest::prelude::*;

use super::*;
use TransferEvent as E;
use TransferState as S;

fn units(n: u64) -> BaseUnits {
    BaseUnits::from_u64(n)
}

fn transfer(direction: Direction, asked: u64) -> Transfer {
    Transfer::new(TransferId::new("t-1").unwrap(), direction, Purpose::Principal, None, units(asked))
}

fn go(transfer: &Transfer, event: E) -> (Transfer, TransferMoney) {
    let step = transfer.apply(event).unwrap();
    (step.transfer, step.money)
}

#[test]
fn every_state_and_event_has_an_answer() {
    for direction in [Direction::Fund, Direction::Defund] {
        for state in TRANSFER_STATES {
            for event in [E::Acknowledged(units(1)), E::Seen(units(1)), E::Finished, E::Cancelled] {
                let mut at = transfer(direction, 10);
                at.state = state;
                if let Ok(step) = at.apply(event)
                    && step.transfer.state == S::Cancelled
                {
                    assert!(matches!(state, S::Requested | S::Cancelled), "{direction:?} {state:?} {event:?}");
                }
            }
        }
    }
}

#[test]
fn a_fund_counts_in_whichever_order_the_two_speak() {
    // Custody first, in two parts; the chain in two other parts.
    let (fund, money) = go(&transfer(Direction::Fund, 100), E::Acknowledged(units(60)));
    assert_eq!((fund.state, money.acknowledged), (S::Sent, units(60)));
    let (fund, money) = go(&fund, E::Seen(units(80)));
    assert_eq!((money.from_transit, money.from_custody), (units(60), units(20)));
    let (fund, money) = go(&fund, E::Acknowledged(units(40)));
    assert_eq!(money.acknowledged, units(20), "20 left custody in the books when the chain showed them");
    let (fund, money) = go(&fund, E::Seen(units(20)));
    assert_eq!((fund.state, money.from_transit, fund.movements), (S::Observed, units(20), 2));

    // The chain first.
    let (fund, money) = go(&transfer(Direction::Fund, 100), E::Seen(units(100)));
    assert_eq!((fund.state, money.from_custody), (S::Observed, units(100)));
    let (fund, money) = go(&fund, E::Acknowledged(units(100)));
    assert_eq!((fund.state, money.acknowledged), (S::Observed, BaseUnits::ZERO));
}

#[test]
fn a_repeated_arrival_is_nobodys() {
    let (fund, _) = go(&transfer(Direction::Fund, 100), E::Seen(units(130)));
    assert_eq!((fund.state, fund.seen, fund.surplus), (S::Observed, units(100), units(30)));
    let (fund, money) = go(&fund, E::Seen(units(100)));
    assert_eq!((money.surplus, fund.surplus, fund.movements), (units(100), units(130), 2));
    let (cancelled, _) = go(&transfer(Direction::Fund, 5), E::Cancelled);
    assert_eq!(go(&cancelled, E::Seen(units(5))).1.surplus, units(5));
}

#[test]
fn custody_can_t_acknowledge_more_than_there_is() {
    let fund = transfer(Direction::Fund, 100);
    let expected = units(100);
    assert_eq!(fund.apply(E::Acknowledged(units(101))), Err(TransferRefusal::MoreThanExpected { expected }));
    assert_eq!(fund.apply(E::Acknowledged(units(0))), Err(TransferRefusal::Nothing));
    let defund = transfer(Direction::Defund, 100);
    assert_eq!(defund.apply(E::Acknowledged(units(1))), Err(TransferRefusal::NotSentYet));
    let (defund, _) = go(&defund, E::Seen(units(70)));
    assert_eq!(
        defund.apply(E::Acknowledged(units(71))),
        Err(TransferRefusal::MoreThanExpected { expected: units(70) })
    );
}

#[test]
fn a_defund_is_received_when_all_is_back() {
    let (defund, _) = go(&transfer(Direction::Defund, 100), E::Seen(units(100)));
    assert_eq!((defund.state, defund.outstanding()), (S::Sent, units(100)));
    assert_eq!(defund.apply(E::Cancelled), Err(TransferRefusal::AlreadySent));
    let (defund, money) = go(&defund, E::Acknowledged(units(30)));
    assert_eq!((defund.state, money.acknowledged), (S::Sent, units(30)));
    let (defund, _) = go(&defund, E::Acknowledged(units(70)));
    assert_eq!((defund.state, defund.outstanding()), (S::Received, BaseUnits::ZERO));
    assert_eq!(defund.apply(E::Acknowledged(units(1))), Err(TransferRefusal::Ended));
}

#[test]
fn a_short_transfer_is_finished_with_what_has_arrived() {
    let (sent, _) = go(&transfer(Direction::Fund, 100), E::Acknowledged(units(90)));
    let (fund, _) = go(&sent, E::Seen(units(90)));
    let (fund, money) = go(&fund, E::Finished);
    assert_eq!((fund.state, fund.outstanding(), money), (S::Observed, BaseUnits::ZERO, TransferMoney::default()));
    // It bounced, in part: what never arrived is back in custody, and nobody can acknowledge it once more.
    let (fund, _) = go(&sent, E::Seen(units(20)));
    let (fund, money) = go(&fund, E::Finished);
    assert_eq!((fund.state, fund.outstanding(), money.returned), (S::Observed, BaseUnits::ZERO, units(70)));
    assert_eq!(fund.acknowledgeable(), BaseUnits::ZERO);
    // Arrived before custody said anything: it may still say so.
    let (fund, _) = go(&transfer(Direction::Fund, 100), E::Seen(units(20)));
    let (fund, money) = go(&fund, E::Finished);
    assert_eq!((fund.state, money.returned, fund.acknowledgeable()), (S::Observed, BaseUnits::ZERO, units(20)));
    let (failed, _) = go(&transfer(Direction::Defund, 5), E::Finished);
    assert_eq!(failed.state, S::Cancelled);
}

#[test]
fn a_defund_of_which_a_part_was_sent_ends_with_that() {
    // Sent in part, then the operation ends, then custody has it.
    let (defund, _) = go(&transfer(Direction::Defund, 100), E::Seen(units(60)));
    let (defund, _) = go(&defund, E::Finished);
    assert_eq!((defund.state, defund.asked, defund.outstanding()), (S::Sent, units(60), units(60)));
    let (defund, _) = go(&defund, E::Acknowledged(units(60)));
    assert_eq!((defund.state, defund.outstanding()), (S::Received, BaseUnits::ZERO));
    // Custody has it first.
    let (defund, _) = go(&transfer(Direction::Defund, 100), E::Seen(units(60)));
    let (defund, _) = go(&defund, E::Acknowledged(units(60)));
    let (defund, _) = go(&defund, E::Finished);
    assert_eq!((defund.state, defund.outstanding()), (S::Received, BaseUnits::ZERO));
}

#[test]
fn a_defund_that_was_given_up_and_leaves_all_the_same_is_on_its_way() {
    let (defund, _) = go(&transfer(Direction::Defund, 5), E::Cancelled);
    let (defund, _) = go(&defund, E::Seen(units(5)));
    assert_eq!((defund.state, defund.seen, defund.surplus), (S::Sent, units(5), BaseUnits::ZERO));
    let (defund, money) = go(&defund, E::Acknowledged(units(5)));
    assert_eq!((defund.state, money.acknowledged), (S::Received, units(5)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]
    /// However a FUND is split and in whichever order the witnesses speak, the books move what each has said.
    #[test]
    fn a_fund_never_moves_more_than_was_said(asked in 1_u64..1_000, steps in proptest::collection::vec((any::<bool>(), 1_u64..400), 0..12)) {
        let mut fund = transfer(Direction::Fund, asked);
        let (mut custody, mut transit, mut liquid, mut suspense) = (0_i64, 0_i64, 0_i64, 0_i64);
        for (seen, amount) in steps {
            let event = if seen { E::Seen(units(amount)) } else { E::Acknowledged(units(amount)) };
            let Ok(step) = fund.apply(event) else { continue };
            let [acked, from_transit, from_custody, surplus] = [
                step.money.acknowledged, step.money.from_transit, step.money.from_custody, step.money.surplus,
            ].map(|amount| i64::try_from(amount.get()).unwrap());
            custody -= acked + from_custody;
            transit += acked - from_transit;
            suspense += surplus;
            liquid += from_transit + from_custody + surplus;
            fund = step.transfer;
            let told = i64::try_from(fund.acknowledged.get()).unwrap();
            let shown = i64::try_from(fund.seen.get()).unwrap();
            prop_assert_eq!(custody, -told.max(shown));
            prop_assert_eq!(transit, (told - shown).max(0));
            prop_assert_eq!(liquid, shown + suspense);
            prop_assert!(fund.seen.get() <= u128::from(asked) && fund.acknowledged.get() <= u128::from(asked));
        }
    }
}
