use super::*;
use proptest::prelude::*;

fn account() -> impl Strategy<Value = AccountId> {
    "[!-~]{1,64}".prop_map(|text| AccountId::new(&text).unwrap())
}

fn source_id() -> impl Strategy<Value = SourceId> {
    "[a-c._-]{1,6}".prop_map(|text| SourceId::new(&text).unwrap())
}

fn effect() -> impl Strategy<Value = EffectKey> {
    ("[a-b:]{1,4}", any::<u32>())
        .prop_map(|(text, index)| EffectKey { transaction: TransactionId::new(&text).unwrap(), index })
}

fn scope() -> impl Strategy<Value = String> {
    prop_oneof![Just("*".to_owned()), "[a-c-]{1,6}"]
}

fn pool_id() -> impl Strategy<Value = PoolId> {
    "[a-c-]{1,4}".prop_map(|text| PoolId::new(&text).unwrap())
}

/// Any key of any kind, with colliding names likely.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let n = 0u64..3;
    let small = 0u32..3;
    let number = 0u16..3;
    let seconds = (-2i64..3).prop_map(UnixSeconds::new);
    let operation_id = || "[a-b:]{1,4}".prop_map(|text| OperationId::new(&text).unwrap());
    let transfer_id = || "[a-b]{1,4}".prop_map(|text| TransferId::new(&text).unwrap());
    let service = prop_oneof![
        Just(store_version()),
        source_id().prop_map(|s| source(&s)),
        number.clone().prop_map(source_cursor),
        (number.clone(), n.clone()).prop_map(|(a, b)| body_hashes(a, b)),
        n.clone().prop_map(enrolment_entry),
        ("[!-~]{1,3}", scope()).prop_map(|(a, s)| account_enrolment(&AccountId::new(&a).unwrap(), &s)),
        ("[!-~]{1,3}", n.clone()).prop_map(|(a, s)| enrolment_of_account(&AccountId::new(&a).unwrap(), s)),
        (scope(), "[!-~]{1,3}").prop_map(|(s, r)| request(&s, &RequestId::new(&r).unwrap())),
        (number.clone(), n.clone(), number.clone()).prop_map(|(a, b, c)| rejected_event(a, b, c)),
        (number.clone(), "[!-~]{1,3}").prop_map(|(a, s)| snapshot(a, &RequestId::new(&s).unwrap())),
        (number.clone(), "[!-~]{1,3}", small.clone()).prop_map(|(a, s, c)| snapshot_differences(
            a,
            &RequestId::new(&s).unwrap(),
            c
        )),
        n.clone().prop_map(put_balance_intent),
        pool_id().prop_map(|p| pool(&p)),
        ("[a-b]{1,3}", "[A-B]{1,3}")
            .prop_map(|(c, a)| pool_of_asset(&ChainId::new(&c).unwrap(), &AssetId::new(&a).unwrap())),
        n.clone().prop_map(audit),
        n.clone().prop_map(approval),
        n.clone().prop_map(correction),
        scope().prop_map(|s| counter(&s)),
    ];
    let control = prop_oneof![
        prop::sample::select(vec![ledger(), chain_mark(), pool_state(), checkpoint_manifest(), custody_report()]),
        n.clone().prop_map(posting),
        n.clone().prop_map(outflow),
        effect().prop_map(|e| booked_effect(&e)),
        operation_id().prop_map(|o| operation(&o)),
        operation_id().prop_map(|o| open_operation(&o)),
        n.clone().prop_map(operation_by_sequence),
        transfer_id().prop_map(|t| transfer(&t)),
        transfer_id().prop_map(|t| open_transfer(&t)),
        n.clone().prop_map(transfer_by_sequence),
        n.clone().prop_map(period),
        (n.clone(), small.clone()).prop_map(|(a, b)| distribution(a, b)),
        n.clone().prop_map(live_distribution),
        (seconds.clone(), effect()).prop_map(|(t, e)| receipt(t, &e)),
        (seconds.clone(), effect()).prop_map(|(t, e)| unassigned_receipt(t, &e)),
        n.clone().prop_map(policy),
        "[a-b:]{1,3}".prop_map(|v| validator(&ValidatorId::new(&v).unwrap())),
        (n.clone(), small.clone()).prop_map(|(a, b)| payout_ack(a, b)),
        (n.clone(), account()).prop_map(|(a, b)| rejected_payout(a, &b)),
        effect().prop_map(|e| slash(&e)),
        "[a-b:]{1,3}".prop_map(|v| unbonding(&ValidatorId::new(&v).unwrap())),
        (seconds, n.clone()).prop_map(|(a, b)| staked_series(a, b)),
        (n.clone(), small.clone()).prop_map(|(a, b)| curve_page(a, b)),
        (n.clone(), small.clone()).prop_map(|(a, b)| frozen_curve(a, b)),
        (n.clone(), small.clone()).prop_map(|(a, b)| unsettled_distribution(a, b)),
        (n.clone(), transfer_id()).prop_map(|(v, t)| transfer_by_change(v, &t)),
    ];
    let book = prop_oneof![
        (n.clone(), 0u16..3).prop_map(|(a, b)| journal(a, b)),
        (n.clone(), 0u16..3).prop_map(|(a, b)| archive(a, b)),
        small.clone().prop_map(page),
        (n.clone(), small.clone()).prop_map(|(a, b)| weight_chunk(a, b)),
        n.clone().prop_map(freeze_seal),
        (small.clone(), n.clone(), small.clone()).prop_map(|(a, b, c)| payout_chunk(a, b, c)),
        (n, small).prop_map(|(a, b)| payout_seal(a, b)),
    ];
    prop_oneof![service, control, book]
}

/// Whether bytes sort as parts do.
fn same_order<T: Ord>(a: (&T, Vec<u8>), b: (&T, Vec<u8>)) -> bool {
    a.0.cmp(b.0) == a.1.cmp(&b.1)
}

#[test]
fn no_tag_stands_twice() {
    let mut tags: Vec<u8> = tag::ALL.iter().map(|(tag, _)| *tag).collect();
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), tag::ALL.len());
    assert!(!tags.contains(&0) && !tags.contains(&u8::MAX));
}

/// The page of tags as released: a line may be added here, and none changed.
#[test]
fn the_tags_are_the_released_ones() {
    let page: Vec<String> = tag::ALL.iter().map(|(tag, name)| format!("{tag:02x} {name}")).collect();
    assert_eq!(page.join("\n"), include_str!("keys_released.txt").trim_end());
}

#[test]
fn partitions_do_not_collide() {
    assert_eq!(PartitionId::SERVICE.pool_number(), 0);
    assert_eq!(PartitionId::control(1), PartitionId(0x1_0000));
    assert_eq!(PartitionId::book(1, 0), PartitionId(0x1_0001));
    let last = PartitionId::book(1, PartitionId::MAX_BOOKS - 1);
    assert!(last < PartitionId::control(2));
    assert_eq!((last.pool_number(), last.book_index()), (1, Some(PartitionId::MAX_BOOKS - 1)));
    assert_eq!(PartitionId::control(u16::MAX).book_index(), None);
    assert_eq!(PartitionId::control(u16::MAX).pool_number(), u16::MAX);
}

#[test]
#[should_panic(expected = "MAX_BOOKS")]
fn a_book_index_past_the_pool_is_refused() {
    let _ = PartitionId::book(1, PartitionId::MAX_BOOKS);
}

#[test]
fn the_longest_keys_fit() {
    let operation_id = OperationId::new(&"o".repeat(OperationId::MAX_BYTES)).unwrap();
    assert!(operation(&operation_id).len() <= crate::store::MAX_KEY_BYTES);
    let account = AccountId::new(&"a".repeat(AccountId::MAX_BYTES)).unwrap();
    assert!(account_enrolment(&account, &"p".repeat(PoolId::MAX_BYTES)).len() <= crate::store::MAX_KEY_BYTES);
    let request_id = RequestId::new(&"r".repeat(RequestId::MAX_BYTES)).unwrap();
    assert!(request(&"s".repeat(64), &request_id).len() <= crate::store::MAX_KEY_BYTES);
}

#[test]
fn ranges_hold_what_they_say() {
    let inside = |range: &KeyRange, key: &[u8]| range.from.as_slice() <= key && key < range.to.as_slice();
    let postings = range_of_tag(tag::POSTING);
    assert!(inside(&postings, &posting(0)) && inside(&postings, &posting(u64::MAX)));
    assert!(!inside(&postings, &ledger()) && !inside(&postings, &period(0)));
    let all = prefix_range(&[]);
    assert!(inside(&all, &store_version()) && inside(&all, &payout_seal(u64::MAX, u32::MAX)));
    assert!(inside(&weight_chunks_of(u64::MAX), &weight_chunk(u64::MAX, u32::MAX)));
    assert!(!inside(&weight_chunks_of(u64::MAX), &freeze_seal(0)));
    assert!(inside(&journal_before(7), &journal(6, u16::MAX)) && !inside(&journal_before(7), &journal(7, 0)));
    let rest = range_from(&after(&posting(5)));
    assert!(!inside(&rest, &posting(5)) && inside(&rest, &posting(6)) && !inside(&rest, &period(9)));
    let year = payout_chunks_between(3, 10, 20);
    assert!(inside(&year, &payout_chunk(3, 10, 0)) && inside(&year, &payout_chunk(3, 19, u32::MAX)));
    assert!(!inside(&year, &payout_chunk(3, 20, 0)) && !inside(&year, &payout_chunk(4, 15, 0)));
    let at = UnixSeconds::new;
    assert!(inside(&staked_series_between(at(-5), at(5)), &staked_series(at(-5), u64::MAX)));
    assert!(!inside(&staked_series_between(at(-5), at(5)), &staked_series(at(5), 0)));
}

proptest! {
    #[test]
    fn no_key_begins_another(a in any_key(), b in any_key()) {
        prop_assert!(a == b || !a.starts_with(&b) && !b.starts_with(&a), "{a:02x?} {b:02x?}");
        prop_assert!(tag::ALL.iter().any(|(tag, _)| *tag == a[0]));
    }

    #[test]
    fn equal_keys_have_equal_parts(a in any_key()) {
        let parsed = [
            parse_source(&a).map(|s| source(&s)),
            parse_body_hashes(&a).map(|(n, s)| body_hashes(n, s)),
            parse_account_enrolment(&a).map(|(x, s)| account_enrolment(&x, &s)),
            parse_enrolment_of_account(&a).map(|(x, s)| enrolment_of_account(&x, s)),
            parse_request(&a).map(|(s, r)| request(&s, &r)),
            parse_pool_of_asset(&a).map(|(c, x)| pool_of_asset(&c, &x)),
            parse_booked_effect(&a).map(|e| booked_effect(&e)),
            parse_open_operation(&a).map(|o| open_operation(&o)),
            parse_open_transfer(&a).map(|t| open_transfer(&t)),
            parse_receipt(&a).map(|(t, e)| receipt(t, &e)),
            parse_unassigned_receipt(&a).map(|(t, e)| unassigned_receipt(t, &e)),
            parse_rejected_payout(&a).map(|(p, x)| rejected_payout(p, &x)),
            parse_staked_series(&a).map(|(t, s)| staked_series(t, s)),
            parse_journal(&a).map(|(g, p)| journal(g, p)),
            parse_payout_chunk(&a).map(|(c, p, r)| payout_chunk(c, p, r)),
        ];
        let told: Vec<Vec<u8>> = parsed.into_iter().flatten().collect();
        prop_assert!(told.len() <= 1, "one kind of key read as two");
        prop_assert!(told.iter().all(|again| *again == a));
    }

    #[test]
    fn a_key_with_more_or_less_is_no_key(key in any_key(), more in any::<u8>()) {
        let longer = [key.as_slice(), &[more]].concat();
        let shorter = &key[..key.len() - 1];
        for bad in [longer.as_slice(), shorter] {
            prop_assert!(parse_receipt(bad).is_none());
            prop_assert!(parse_journal(bad).is_none());
            prop_assert!(parse_open_operation(bad).is_none());
            prop_assert!(!is_ledger(bad));
        }
    }

    #[test]
    fn bytes_sort_as_parts(
        t in any::<(i64, i64)>(), e in (effect(), effect()), s in (source_id(), source_id()),
        n in any::<(u64, u64)>(), r in any::<(u32, u32)>(), a in (account(), account()),
    ) {
        let at = (UnixSeconds::new(t.0), UnixSeconds::new(t.1));
        prop_assert!(same_order(
            (&(at.0, &e.0), receipt(at.0, &e.0)),
            (&(at.1, &e.1), receipt(at.1, &e.1)),
        ));
        prop_assert!(same_order((&s.0, source(&s.0)), (&s.1, source(&s.1))));
        prop_assert!(same_order(
            (&(r.0, n.0, r.1), payout_chunk(r.0, n.0, r.1)),
            (&(r.1, n.1, r.0), payout_chunk(r.1, n.1, r.0)),
        ));
        prop_assert!(same_order(
            (&(n.0, &a.0), rejected_payout(n.0, &a.0)),
            (&(n.1, &a.1), rejected_payout(n.1, &a.1)),
        ));
        prop_assert_eq!(parse_receipt(&receipt(at.0, &e.0)), Some((at.0, e.0)));
    }
}
