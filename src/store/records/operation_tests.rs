use super::*;

fn validator(name: &str) -> ValidatorId {
    ValidatorId::new(name).unwrap()
}

fn operation(kind: OperationKind, state: OperationState, signed: bool) -> OperationRecord {
    let kept = KeptTransaction {
        bytes: vec![1, 2, 3],
        transaction: TransactionId::new("ABCD").unwrap(),
        lifetime: Lifetime { nonce: Some(7), expires_at: Some(UnixSeconds::new(99)), expires_height: Some(9) },
    };
    OperationRecord {
        id: OperationId::new("atom:delegate:1:0").unwrap(),
        sequence: 5,
        kind,
        state,
        reason: "BELOW_TARGET".to_owned(),
        attempts: 2,
        created_at: UnixSeconds::new(1),
        since: UnixSeconds::new(2),
        updated_at: UnixSeconds::new(3),
        next_attempt_at: UnixSeconds::new(4),
        in_flight: BaseUnits::from_u64(10),
        settled: BaseUnits::from_u64(11),
        fee: BaseUnits::from_u64(12),
        last_error: "lost".to_owned(),
        signed: signed.then_some(kept),
        height: Some(42),
        failures: 3,
        word: signed.then(|| OperatorWord {
            done: true,
            transaction: Some(TransactionId::new("ABCD").unwrap()),
            evidence: "the explorer shows it".to_owned(),
            at: UnixSeconds::new(6),
        }),
        moved_in: signed.then(|| TransactionId::new("ABCD").unwrap()),
    }
}

#[test]
fn every_kind_and_state_of_an_operation_is_read_back() {
    let amount = BaseUnits::MAX;
    let kinds = [
        OperationKind::Delegate { validator: validator("a"), amount },
        OperationKind::Undelegate { validator: validator("a"), amount },
        OperationKind::Redelegate { from: validator("a"), to: validator("b"), amount },
        OperationKind::Claim { validator: None },
        OperationKind::Claim { validator: Some(validator("a")) },
        OperationKind::Withdraw { validator: None },
        OperationKind::Withdraw { validator: Some(validator("a")) },
        OperationKind::SendToCustody { transfer: TransferId::new("defund-3").unwrap(), amount },
    ];
    for kind in kinds {
        for state in OPERATION_STATES {
            let record = operation(kind.clone(), state, state != OperationState::Planned);
            assert_eq!(OperationRecord::decode(&record.encode()), Ok(record));
        }
    }
}

#[test]
fn every_state_of_a_transfer_is_read_back() {
    for direction in [Direction::Fund, Direction::Defund] {
        for purpose in [Purpose::Principal, Purpose::HouseFloat] {
            for state in TRANSFER_STATES {
                let id = TransferId::new("fund-1").unwrap();
                let mut transfer = Transfer::new(id, direction, purpose, None, BaseUnits::from_u64(9));
                transfer.state = state;
                transfer.seen = BaseUnits::from_u64(4);
                let record = TransferRecord {
                    transfer,
                    sequence: 1,
                    created_at: UnixSeconds::new(1),
                    updated_at: UnixSeconds::new(2),
                    custody_reference: "x".to_owned(),
                    reason: "y".to_owned(),
                    changed: 6,
                    transactions: vec![TransactionId::new("ABCD").unwrap()],
                };
                assert_eq!(TransferRecord::decode(&record.encode()), Ok(record));
            }
        }
    }
}

#[test]
fn a_record_that_is_no_record_is_refused_by_name() {
    let refused = <OperationRecord as Record>::decode(&[0xff, 0xff]).unwrap_err();
    assert_eq!(refused.record, "operation");
    let mut unknown = pb::OperationRecord::decode(
        operation(OperationKind::Claim { validator: None }, OperationState::Planned, false).encode().as_slice(),
    )
    .unwrap();
    unknown.state = "LOST".to_owned();
    assert!(OperationRecord::decode(&unknown.encode_to_vec()).unwrap_err().detail.contains("a known state"));
}
