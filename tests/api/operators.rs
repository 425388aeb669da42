//! What operators do and what everyone sees of it, over the real surface.

use softstake::client::ClientError;
use softstake::pb::sim::v1 as sim;
use softstake::pb::v1;

use crate::harness::{DAY, HOUR, START, Server, Setup, amount, time, units};

fn reason(error: ClientError) -> (tonic::Code, String) {
    match error {
        ClientError::Refused(refusal) => (refusal.code, refusal.reason),
        other => panic!("{other}"),
    }
}

async fn operations(server: &Server, page_size: i32, page_token: String) -> v1::ListOperationsResponse {
    let request = v1::ListOperationsRequest { parent: "pools/atom".to_owned(), page_size, page_token, states: vec![] };
    server.client.list_operations(request).await.unwrap()
}

async fn staked() -> Server {
    let mut server = Setup::new().pool("atom", "fee_bps = 1000\nminimum_base_units = \"100\"").start().await;
    server.put("alice", "ATOM", 1_000_000_000).await;
    server.put("dust", "ATOM", 7).await;
    server.at(6 * HOUR).await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_shown_whole_and_its_equations_hold() {
    let server = staked().await;
    let pool = server.pool("atom").await;
    let totals = pool.totals.clone().unwrap();
    assert_eq!((totals.position_count, totals.eligible_count), (2, 1));
    assert_eq!(units(&totals.eligible_total), 1_000_000_000);
    assert_eq!(pool.state(), v1::PoolState::Active);
    assert!(pool.simulated && pool.decimals == 6, "{pool:?}");
    for number in [2, 3, 4, 6] {
        assert!(pool.equations.iter().any(|equation| equation.number == number), "{number}: {:?}", pool.equations);
    }
    assert!(pool.equations.iter().all(|equation| equation.holds), "{:?}", pool.equations);
    server.at(DAY + 3 * HOUR).await;
    let pool = server.pool("atom").await;
    assert!(pool.equations.iter().all(|equation| equation.holds), "{:?}", pool.equations);
    for number in 1..=6 {
        assert!(pool.equations.iter().any(|equation| equation.number == number), "{number}: {:?}", pool.equations);
    }
    let totals = pool.totals.unwrap();
    assert_eq!(totals.trailing_periods, 1);
    assert!(totals.trailing_apr.parse::<rust_decimal::Decimal>().unwrap() > rust_decimal::Decimal::ZERO);
    let chain = server.chain("atom").await;
    assert_eq!(units(&totals.rewards_total), units(&chain.rewards_paid));
    let reconciled = server.client.reconcile(v1::ReconcileRequest { name: "pools/atom".to_owned() }).await.unwrap();
    assert!(reconciled.holds && reconciled.differences.is_empty(), "{reconciled:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_paged_newest_first_and_validators_by_address() {
    let server = staked().await;
    server.at(DAY + 3 * HOUR).await;
    let all = operations(&server, 1_000, String::new()).await;
    assert!(all.operations.len() > 2 && all.next_page_token.is_empty());
    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let page = operations(&server, 2, token).await;
        paged.extend(page.operations);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all.operations);
    assert!(paged.windows(2).all(|pair| pair[0].create_time.unwrap().seconds >= pair[1].create_time.unwrap().seconds));
    let request = v1::GetOperationRequest { name: paged[0].name.clone() };
    assert_eq!(server.client.get_operation(request).await.unwrap().operation.unwrap().name, paged[0].name);
    let request = v1::ListOperationsRequest {
        parent: "pools/atom".to_owned(),
        page_token: "00".to_owned(),
        ..v1::ListOperationsRequest::default()
    };
    let refused = reason(server.client.list_operations(request).await.unwrap_err());
    assert_eq!(refused, (tonic::Code::InvalidArgument, "TOKEN_MALFORMED".to_owned()));
    let request = v1::ListValidatorsRequest { parent: "pools/atom".to_owned(), ..v1::ListValidatorsRequest::default() };
    let validators = server.client.list_validators(request).await.unwrap().validators;
    assert!(validators.windows(2).all(|pair| pair[0].address < pair[1].address), "{validators:?}");
    let request =
        v1::ListDelegationsRequest { parent: "pools/atom".to_owned(), ..v1::ListDelegationsRequest::default() };
    let delegations = server.client.list_delegations(request).await.unwrap().delegations;
    let staked: u128 = delegations.iter().map(|one| units(&one.amount)).sum();
    assert_eq!(staked, units(&server.pool("atom").await.totals.unwrap().staked));
    assert!(delegations.iter().all(|one| one.amount == one.chain_amount), "{delegations:?}");
    let distribution = server.distribution("atom", "2026-11-22").await;
    let request = v1::GetDistributionRequest { name: distribution.name.clone(), revision: 1 };
    let whole = server.client.get_distribution(request).await.unwrap();
    let receipts: u128 = whole.receipts.iter().map(|receipt| units(&receipt.amount)).sum();
    assert_eq!(receipts, units(&distribution.receipts_amount));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_changed_once_by_mask_and_etag() {
    let mut server = staked().await;
    let pool = server.pool("atom").await;
    let mut wanted = v1::Pool { name: pool.name.clone(), etag: pool.etag.clone(), ..v1::Pool::default() };
    wanted.policy = Some(v1::Policy { fee_bps: 250, ..v1::Policy::default() });
    let mask =
        |paths: &[&str]| Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
    let mut request = v1::UpdatePoolRequest {
        request_id: server.request_id(),
        pool: Some(wanted),
        update_mask: mask(&["policy.fee_bps"]),
    };
    let first = server.client.update_pool(request.clone()).await.unwrap();
    let shown = first.pool.clone().unwrap();
    assert_eq!(shown.policy, pool.policy, "the open period keeps its own");
    assert_eq!(shown.next_policy.as_ref().map(|policy| policy.fee_bps), Some(250));
    assert_eq!(shown.next_policy_time, Some(time(START + DAY)));
    assert_eq!(server.client.update_pool(request.clone()).await.unwrap(), first, "a repeat gets the first answer");
    request.request_id = server.request_id();
    let refused = reason(server.client.update_pool(request.clone()).await.unwrap_err());
    assert_eq!(refused, (tonic::Code::FailedPrecondition, "ETAG_MISMATCH".to_owned()));
    if let Some(pool) = &mut request.pool {
        pool.etag.clear();
        let mut settings = v1::PoolSettings::default();
        settings.release_limits.get_or_insert_default().max_apr = "0.30".to_owned();
        pool.settings = Some(settings);
    }
    request.update_mask = mask(&["settings.release_limits.max_apr"]);
    let changed = server.client.update_pool(request).await.unwrap();
    let limits = changed.pool.and_then(|pool| pool.settings).and_then(|settings| settings.release_limits);
    assert_eq!(limits.map(|limits| limits.max_apr), Some("0.3".to_owned()));

    // An empty smallest move means the chain's own.
    let mut wanted = v1::Pool { name: pool.name.clone(), ..v1::Pool::default() };
    wanted.settings = Some(v1::PoolSettings { reserve: Some(v1::ReserveSettings::default()), ..Default::default() });
    let changed = server.update(wanted, &["settings.reserve.min_move"]).await;
    let least = changed.settings.and_then(|settings| settings.reserve).and_then(|reserve| reserve.min_move);
    assert_eq!(least, Some(amount("ATOM", 1)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_distribution_waits_for_its_approval_and_is_recomputed_after_a_void() {
    let mut server = staked().await;
    let mut settings = v1::PoolSettings::default();
    settings.release_limits.get_or_insert_default().approval_required = true;
    let wanted = v1::Pool { name: "pools/atom".to_owned(), settings: Some(settings), ..v1::Pool::default() };
    let request = v1::UpdatePoolRequest {
        request_id: server.request_id(),
        pool: Some(wanted),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["settings.release_limits.approval_required".to_owned()],
        }),
    };
    server.client.update_pool(request).await.unwrap();
    server.at(DAY + 3 * HOUR).await;
    let held = server.distribution("atom", "2026-11-22").await;
    assert_eq!(held.state(), v1::DistributionState::Held, "{held:?}");
    assert_eq!(held.hold_reasons[0].code(), v1::HoldCode::ApprovalRequired);
    let void = v1::VoidDistributionRequest {
        request_id: server.request_id(),
        name: held.name.clone(),
        revision: 1,
        mode: v1::VoidMode::Recompute.into(),
        reason: "looked at once more".to_owned(),
    };
    let waits = server.client.void_distribution(void).await.unwrap();
    assert_eq!((waits.distribution.unwrap().state(), waits.approval.as_str()), (held.state(), "approvals/1"));
    server.approve_waiting().await;
    assert_eq!(server.distribution("atom", "2026-11-22").await.state(), v1::DistributionState::Voided);
    server.at(DAY + 4 * HOUR).await;
    let again = server.distribution("atom", "2026-11-22").await;
    assert_eq!((again.revision, again.state()), (2, v1::DistributionState::Held));
    assert_eq!(again.distribution_hash, held.distribution_hash, "the same inputs give the same payouts");
    let mut approve = v1::ApproveDistributionRequest {
        request_id: server.request_id(),
        name: again.name.clone(),
        revision: 2,
        distribution_hash: vec![7; 32],
        comment: String::new(),
    };
    let refused = reason(server.client.approve_distribution(approve.clone()).await.unwrap_err());
    assert_eq!(refused.0, tonic::Code::FailedPrecondition);
    approve.distribution_hash = again.distribution_hash;
    server.client.approve_distribution(approve).await.unwrap();
    server.at(DAY + 5 * HOUR).await;
    let released = server.distribution("atom", "2026-11-22").await;
    assert_eq!(released.state(), v1::DistributionState::Released);
    let pool = server.pool("atom").await;
    assert!(pool.equations.iter().all(|equation| equation.holds), "{:?}", pool.equations);
    assert_eq!(pool.state(), v1::PoolState::Active, "{}", pool.pause_reason);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_period_is_closed_by_hand_after_its_end_and_not_before() {
    let mut server = staked().await;
    let register = v1::RegisterSourceRequest {
        request_id: server.request_id(),
        source_id: "second".to_owned(),
        description: "the ledger of the exchange".to_owned(),
    };
    let source = server.client.register_source(register).await.unwrap().source.unwrap();
    assert_eq!(source.description, "the ledger of the exchange");
    let mut close =
        v1::ClosePeriodRequest { request_id: server.request_id(), name: "pools/atom/periods/2026-11-22".to_owned() };
    let refused = reason(server.client.close_period(close.clone()).await.unwrap_err());
    assert_eq!(refused, (tonic::Code::FailedPrecondition, "PERIOD_NOT_ENDED".to_owned()));
    server.at(DAY + 60).await;
    close.request_id = server.request_id();
    let closed = server.client.close_period(close).await.unwrap();
    let (period, distribution) = (closed.period.unwrap(), closed.distribution.unwrap());
    assert_ne!(period.state(), v1::PeriodState::Open);
    assert_eq!((period.position_count, period.weights_hash.len()), (1, 32));
    assert!(units(&distribution.payouts_amount) > 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_goes_from_one_source_to_another() {
    let mut server = staked().await;
    let register = v1::RegisterSourceRequest {
        request_id: server.request_id(),
        source_id: "second".to_owned(),
        description: String::new(),
    };
    server.client.register_source(register).await.unwrap();
    let mut request = v1::HandOverPositionRequest {
        request_id: server.request_id(),
        name: "accounts/alice/positions/atom".to_owned(),
        from_source: "sources/second".to_owned(),
        to_source: "sources/second".to_owned(),
    };
    let refused = reason(server.client.hand_over_position(request.clone()).await.unwrap_err());
    assert_eq!(refused, (tonic::Code::FailedPrecondition, "WRONG_STATE".to_owned()));
    request.from_source = "sources/put-balance".to_owned();
    request.request_id = server.request_id();
    let position = server.client.hand_over_position(request.clone()).await.unwrap().position.unwrap();
    assert_eq!(position.source, "sources/second");
    server.restart().await;
    let again = server.client.hand_over_position(request).await.unwrap().position.unwrap();
    assert_eq!(again, position, "a repeat gets the first answer");
    let put = v1::PutBalanceRequest {
        request_id: server.request_id(),
        account: "alice".to_owned(),
        balance: Some(amount("ATOM", 5)),
        event_time: None,
    };
    assert_eq!(reason(server.client.put_balance(put).await.unwrap_err()).1, "EVENT_REJECTED");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_validator_is_drained_and_a_faulty_chain_delays_and_doubles_nothing() {
    let mut server = staked().await;
    let request = v1::ListDelegationsRequest { parent: "pools/atom".to_owned(), ..Default::default() };
    let before = server.client.list_delegations(request.clone()).await.unwrap().delegations;
    let gone = before[0].validator.clone();
    let remove =
        v1::RemoveValidatorRequest { request_id: server.request_id(), name: gone.clone(), etag: String::new() };
    let removed = server.client.remove_validator(remove).await.unwrap().validator.unwrap();
    assert!(!removed.listed && units(&removed.delegated) > 0);
    let plan = v1::PlanRebalanceRequest { name: "pools/atom".to_owned() };
    let plan = server.client.plan_rebalance(plan).await.unwrap().plan.unwrap();
    let drained = plan.operations.iter().find(|operation| operation.validator == gone);
    assert_eq!(drained.map(|operation| operation.reason.as_str()), Some("DRAIN_REMOVED"), "{plan:?}");
    for kind in [sim::FaultKind::SubmitLost, sim::FaultKind::ReplyLost] {
        let fault = sim::SetFaultRequest { pool: "pools/atom".to_owned(), kind: kind.into(), ..Default::default() };
        server.client.set_fault(fault).await.unwrap();
    }
    let rebalance = v1::RebalanceRequest { request_id: server.request_id(), name: "pools/atom".to_owned() };
    let first = server.client.rebalance(rebalance.clone()).await.unwrap();
    assert!(first.plan.as_ref().unwrap().operations.iter().all(|operation| !operation.operation.is_empty()));
    assert_eq!(server.client.rebalance(rebalance).await.unwrap(), first);
    server.at(12 * HOUR).await;
    let cleared = sim::ClearFaultsRequest { pool: "pools/atom".to_owned() };
    let counts = server.client.clear_faults(cleared).await.unwrap().counts;
    assert!(counts.iter().all(|count| count.count == 1) && counts.len() == 2, "{counts:?}");
    let after = server.client.list_delegations(request).await.unwrap().delegations;
    assert!(after.iter().all(|one| one.validator != gone || units(&one.amount) == 0), "{after:?}");
    let pool = server.pool("atom").await;
    assert!(pool.equations.iter().all(|equation| equation.holds), "{:?}", pool.equations);
    assert_eq!(pool.totals.unwrap().needs_operator_count, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_created_on_a_connected_chain_alone_and_watched() {
    let mut server = staked().await;
    let mut create = v1::CreatePoolRequest {
        request_id: server.request_id(),
        pool_id: "more".to_owned(),
        chain: "nowhere-1".to_owned(),
        asset: "ATOM".to_owned(),
        ..v1::CreatePoolRequest::default()
    };
    let refused = reason(server.client.create_pool(create.clone()).await.unwrap_err());
    assert_eq!(refused, (tonic::Code::InvalidArgument, "CHAIN_UNKNOWN".to_owned()));
    create.chain = server.pool("atom").await.chain;
    let refused = reason(server.client.create_pool(create).await.unwrap_err());
    assert_eq!(refused, (tonic::Code::AlreadyExists, "ALREADY_EXISTS".to_owned()));
    let mut watcher = server.client.watch_pool("pools/atom");
    let first = watcher.next().await.unwrap().unwrap().pool.unwrap();
    assert_eq!(first.state(), v1::PoolState::Active);
    let pause = v1::PausePoolRequest {
        request_id: server.request_id(),
        name: "pools/atom".to_owned(),
        reason: "a test".to_owned(),
    };
    server.client.pause_pool(pause).await.unwrap();
    let paused = watcher.next().await.unwrap().unwrap().pool.unwrap();
    assert_eq!((paused.state(), paused.pause_reason.as_str()), (v1::PoolState::Paused, "a test"));
    let resume = v1::ResumePoolRequest {
        request_id: server.request_id(),
        name: "pools/atom".to_owned(),
        reason: "done".to_owned(),
    };
    let waits = server.client.resume_pool(resume.clone()).await.unwrap();
    assert_eq!((waits.pool.as_ref().unwrap().state(), waits.approval.as_str()), (paused.state(), "approvals/1"));
    let audit = v1::ListAuditEventsRequest { resource: waits.approval.clone(), ..Default::default() };
    server.approve_waiting().await;
    assert_eq!(server.client.resume_pool(resume).await.unwrap(), waits, "a repeat gets the first answer");
    assert_eq!(server.pool("atom").await.state(), v1::PoolState::Active);
    let events = server.client.list_audit_events(audit).await.unwrap().audit_events;
    let told: Vec<_> = events.iter().map(|event| (event.method.as_str(), event.after.as_str())).collect();
    let (approve, resume) = ("softstake.v1.AdminService/Approve", "softstake.v1.AdminService/ResumePool");
    assert_eq!(told, [(approve, "APPROVED"), (resume, "PENDING")]);
    server.stop().await;
}
