//! Distributions that wait for a person, are undone, and are computed again.

use softstake::pb::v1;
use tonic::Code;

use crate::harness::{DAY, FIRST, SECOND, Server, Setup, signed, units};
use crate::raw::{Raw, answer, refused};

const MILLION: u128 = 1_000_000_000_000;

/// A pool whose first distribution waits for an approval.
async fn held() -> (Server, Raw, v1::Distribution) {
    let mut server = Setup::new().pool("atom", "fee_bps = 1000").start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.put("bob", "ATOM", 3 * MILLION + 1).await;
    let mut pool = server.pool("atom").await;
    pool.settings.as_mut().unwrap().release_limits.as_mut().unwrap().approval_required = true;
    server.update(pool, &["settings.release_limits"]).await;
    server.close(DAY).await;
    let distribution = server.distribution("atom", FIRST).await;
    assert_eq!(distribution.state(), v1::DistributionState::Held);
    assert_eq!(distribution.hold_reasons[0].code(), v1::HoldCode::ApprovalRequired);
    let raw = Raw::connect(&server.endpoint()).await;
    (server, raw, distribution)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_distribution_is_released_by_its_hash_alone() {
    let (server, mut raw, held) = held().await;
    assert!(server.released("atom").await.is_empty(), "nothing leaves before the approval");
    assert!(server.payouts("alice", "ATOM").await.is_empty());
    let ledger = server.ledger("atom").await;
    assert_eq!(signed(&ledger.in_distribution) as u128, units(&held.receipts_amount));
    assert_eq!((signed(&ledger.payable), signed(&ledger.carry)), (0, 0));
    let approve = |id: &str, hash: &[u8]| v1::ApproveDistributionRequest {
        request_id: id.to_owned(),
        name: held.name.clone(),
        revision: held.revision,
        distribution_hash: hash.to_vec(),
        comment: String::new(),
    };
    let mut other = held.distribution_hash.clone();
    other[31] ^= 1;
    let wrong = refused(raw.admin.approve_distribution(approve("wrong", &other)).await);
    assert_eq!((wrong.code, wrong.reason.as_str()), (Code::FailedPrecondition, "HASH_MISMATCH"));
    let short = refused(raw.admin.approve_distribution(approve("short", &other[1..])).await);
    assert_eq!(short.short(), (Code::InvalidArgument, "HASH_MALFORMED", "distribution_hash"));
    assert_eq!(server.distribution("atom", FIRST).await, held);

    answer(raw.admin.approve_distribution(approve("right", &held.distribution_hash)).await);
    server.at(DAY + 1_200).await;
    let released = server.distribution("atom", FIRST).await;
    assert_eq!(released.state(), v1::DistributionState::Released);
    assert_eq!(released.distribution_hash, held.distribution_hash);
    let ledger = server.ledger("atom").await;
    assert_eq!(signed(&ledger.in_distribution), 0);
    assert_eq!(signed(&ledger.payable) as u128, units(&released.payouts_amount));
    assert_eq!(signed(&ledger.carry) as u128, units(&released.carry_out));
    server.reconciled("atom").await;
    server.stop().await;
}

fn void(held: &v1::Distribution, id: &str, mode: v1::VoidMode) -> v1::VoidDistributionRequest {
    v1::VoidDistributionRequest {
        request_id: id.to_owned(),
        name: held.name.clone(),
        revision: held.revision,
        mode: mode as i32,
        reason: "a test".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recomputed_distribution_is_the_same_and_only_one_revision_is_released() {
    let (mut server, mut raw, held) = held().await;
    answer(raw.admin.void_distribution(void(&held, "void", v1::VoidMode::Recompute)).await);
    server.approve_waiting().await;
    assert_eq!(server.distribution("atom", FIRST).await.state(), v1::DistributionState::Voided);
    server.at(DAY + 1_200).await;
    let second = server.distribution("atom", FIRST).await;
    assert_eq!((second.revision, second.state()), (2, v1::DistributionState::Held));
    assert_eq!(second.distribution_hash, held.distribution_hash, "same weights, same receipts, same payouts");
    assert_eq!((second.net, second.fee), (held.net.clone(), held.fee.clone()));
    let approve = |revision: u32, id: &str| v1::ApproveDistributionRequest {
        request_id: id.to_owned(),
        name: held.name.clone(),
        revision,
        distribution_hash: held.distribution_hash.clone(),
        comment: String::new(),
    };
    let old = refused(raw.admin.approve_distribution(approve(1, "old")).await);
    assert_eq!(old.code, Code::FailedPrecondition, "{old:?}");
    answer(raw.admin.approve_distribution(approve(2, "new")).await);
    server.at(DAY + 1_800).await;
    assert_eq!(server.distribution("atom", FIRST).await.state(), v1::DistributionState::Released);
    let late = refused(raw.admin.void_distribution(void(&held, "late", v1::VoidMode::Carry)).await);
    assert_eq!(late.code, Code::FailedPrecondition);
    assert_eq!(server.payouts("alice", "ATOM").await.len(), 1);
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carried_distribution_goes_to_the_next_one() {
    let (mut server, mut raw, held) = held().await;
    answer(raw.admin.void_distribution(void(&held, "carry", v1::VoidMode::Carry)).await);
    server.approve_waiting().await;
    let ledger = server.ledger("atom").await;
    assert_eq!(signed(&ledger.in_distribution), 0, "a void reverses exactly");
    server.reconciled("atom").await;
    server.close(2 * DAY).await;
    assert_eq!(server.distribution("atom", FIRST).await.state(), v1::DistributionState::Voided);
    let second = server.distribution("atom", SECOND).await;
    let both = units(&second.receipts_amount) + units(&second.carry_in);
    assert!(both > units(&held.receipts_amount), "{second:#?}");
    let later = signed(&server.ledger("atom").await.undistributed) as u128;
    assert_eq!(units(&server.chain("atom").await.rewards_paid), both + later, "what the first took is in the second");
    server.reconciled("atom").await;
    server.stop().await;
}
