//! What has to hold at the end, each with its figures.

use super::DemoError;
use super::amounts::{signed, units};
use super::ledger::{distribution, stamp};
use super::plan::{Plan, START};
use super::report::{Check, Outcome, PoolOutcome};
use super::story::{delegations, validators};
use super::world::World;
use crate::client::Client;
use crate::pb::sim::v1 as sim;
use crate::pb::v1;
use v1::{DistributionState, OperationKind, OperationState};

/// What the service and the chain say of one pool at one moment.
struct Figures {
    pool: v1::Pool,
    chain: sim::GetChainTotalsResponse,
}

impl Figures {
    async fn of(client: &Client, name: &str) -> Result<Self, DemoError> {
        let request = v1::GetPoolRequest { name: name.to_owned() };
        let pool = client.get_pool(request).await.map_err(DemoError::call("GetPool"))?.pool;
        let request = sim::GetChainTotalsRequest { pool: name.to_owned() };
        let chain = client.get_chain_totals(request).await.map_err(DemoError::call("GetChainTotals"))?;
        Ok(Self { pool: pool.unwrap_or_default(), chain })
    }

    fn ledger(&self) -> v1::LedgerBalances {
        self.pool.ledger.clone().unwrap_or_default()
    }
}

/// Whether the last distributions are settled, and ledgers, chains and custody agree.
pub(super) async fn settled(client: &Client, world: &World, end: i64) -> Result<bool, DemoError> {
    for (index, pool) in world.pools.iter().enumerate() {
        let name = pool.plan.name();
        let last = distribution(client, &name, end - super::plan::DAY).await?;
        let last = last.filter(|last| last.payout_count == 0 || last.state() == DistributionState::Settled);
        let checked = world.ledger.pool(index).is_some_and(|book| book.next_period() >= end);
        if last.is_none() || !checked {
            return Ok(false);
        }
        let figures = Figures::of(client, &name).await?;
        if money(world, index, &figures).iter().any(|check| !check.passed) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn wide(units: u128) -> i128 {
    i128::try_from(units).unwrap_or(i128::MAX)
}

/// Where the rewards went, and that ledger, chain and custody agree.
fn money(world: &World, index: usize, figures: &Figures) -> Vec<Check> {
    let (Some(pool), Some(book)) = (world.pools.get(index), world.ledger.pool(index)) else { return Vec::new() };
    let scope = pool.plan.preset.name();
    let (sums, chain, ledger) = (book.sums, &figures.chain, figures.ledger());
    let waiting = signed(ledger.undistributed.as_ref()) + signed(ledger.in_distribution.as_ref());
    let amount = |one: &Option<v1::Amount>| units(one.as_ref());
    let moved = world.custody.moved(&pool.plan.name());
    let on_chain = [&ledger.liquid, &ledger.in_flight, &ledger.delegated, &ledger.unbonding, &ledger.matured];
    let assets = on_chain.into_iter().chain([&ledger.custody, &ledger.in_transit]);
    let claims = [
        &ledger.principal,
        &ledger.undistributed,
        &ledger.in_distribution,
        &ledger.payable,
        &ledger.carry,
        &ledger.unclaimed,
        &ledger.suspense,
        &ledger.house,
    ];
    let sum = |parts: &mut dyn Iterator<Item = &Option<v1::SignedAmount>>| -> i128 {
        parts.fold(0_i128, |sum, one| sum.saturating_add(signed(one.as_ref())))
    };
    vec![
        Check::equal(
            scope,
            "payouts + fees + carry + undistributed + house share = paid by the chain",
            &[
                wide(sums.credited),
                wide(sums.fee_due),
                wide(sums.carry_due),
                waiting,
                wide(sums.house_out) - wide(sums.house_in),
            ],
            &[wide(amount(&chain.rewards_paid))],
        ),
        Check::equal(
            scope,
            "liquid + in flight + delegated + unbonding + matured = the chain's liquid + delegated + unbonding",
            &on_chain.map(|one| signed(one.as_ref())),
            &[wide(amount(&chain.liquid)), wide(amount(&chain.delegated)), wide(amount(&chain.unbonding))],
        ),
        Check::equal(
            scope,
            "funded + rewards + donated = the chain's liquid + delegated + unbonding + fees + slashed + defunded",
            &[&chain.funded, &chain.rewards_paid, &chain.donated].map(|one| wide(amount(one))),
            &[&chain.liquid, &chain.delegated, &chain.unbonding, &chain.fees_paid, &chain.slashed, &chain.defunded]
                .map(|one| wide(amount(one))),
        ),
        Check::equal(
            scope,
            "sent by custody = funded on the chain",
            &[wide(moved.sent)],
            &[wide(amount(&chain.funded))],
        ),
        Check::equal(
            scope,
            "received by custody = defunded on the chain",
            &[wide(moved.received)],
            &[wide(amount(&chain.defunded))],
        ),
        Check::equal(
            scope,
            "sum(eligible) of the events sent = the service's eligible total = principal",
            &[wide(pool.reference.eligible_total())],
            &[units(figures.pool.totals.as_ref().and_then(|totals| totals.eligible_total.as_ref()))].map(wide),
        ),
        Check::equal(
            scope,
            "sum(assets) = sum(claims) - slash receivable",
            &[sum(&mut assets.into_iter())],
            &[sum(&mut claims.into_iter()), -signed(ledger.slash_receivable.as_ref())],
        ),
    ]
}

/// Everything that is to be shown and checked.
pub(super) async fn outcome(plan: &Plan, client: &Client, world: World) -> Result<Outcome, DemoError> {
    let mut out = Outcome::default();
    let mut happened = Happened::default();
    for (index, pool) in world.pools.iter().enumerate() {
        let name = pool.plan.name();
        let figures = Figures::of(client, &name).await?;
        let Some(book) = world.ledger.pool(index) else { continue };
        let distributions = distributions(client, &name, plan.days).await?;
        let operations = operations(client, &name).await?;
        out.checks.extend(splits(pool.plan.preset.name(), book, &distributions, plan.days));
        out.checks.extend(money(&world, index, &figures));
        for equation in &figures.pool.equations {
            out.checks.push(Check {
                scope: pool.plan.preset.name().to_owned(),
                name: format!("the service's own equation {}: {} {}", equation.number, equation.name, equation.subject),
                left: equation.left.clone(),
                right: equation.right.clone(),
                passed: equation.holds,
            });
        }
        let stuck = operations.iter().filter(|one| one.state() == OperationState::NeedsOperator).count();
        out.checks.push(Check::equal(
            pool.plan.preset.name(),
            "operations that wait for a person = none",
            &[stuck as i128],
            &[0],
        ));
        happened.look(pool.plan.redelegates(), book.sums, &operations, &figures.ledger());
        out.faults.extend(book.faults.iter().cloned());
        out.pools.push(PoolOutcome {
            validators: validators(client, &name, false).await?,
            delegations: delegations(client, &name).await?,
            distributions,
            history: book.history.clone(),
            confirmed: operations.iter().filter(|one| one.state() == OperationState::Confirmed).cloned().collect(),
            moved: world.custody.moved(&name),
            pool: figures.pool,
        });
    }
    let feed = &world.feed;
    out.faults.extend(feed.counts.rejected.iter().cloned());
    out.checks.push(Check::equal(
        "feed",
        "events sent = events durable",
        &[feed.sent().into()],
        &[feed.durable().into()],
    ));
    let odd = [feed.counts.rejected_count, feed.counts.clamped, feed.counts.late];
    out.checks.push(Check::equal("feed", "rejected + clamped + late = none", &odd.map(i128::from), &[0]));
    happened.report(plan, &world, &mut out);
    out.events = feed.sent();
    out.batches = feed.counts.batches;
    out.restart = world.seen.restart;
    out.redelivered = world.seen.redelivered;
    out.customer = customer(client, &world).await?;
    if let Some(customer) = &out.customer {
        let told = customer.payouts.iter().map(|payout| units(payout.amount.as_ref())).sum::<u128>();
        let books = (0..world.pools.len()).filter_map(|index| world.ledger.pool(index));
        let credited = books.filter_map(|book| book.history.get(&customer.account)).flatten();
        let credited = credited.map(|(_, amount)| *amount).sum::<u128>();
        let earned = customer.earnings.iter().map(|one| units(one.total.as_ref())).sum::<u128>();
        let name = format!("payouts of {} in the history = credited, in base units of all assets", customer.account);
        out.checks
            .push(Check::equal("customer", &name, &[told].map(wide), &[credited].map(wide)).and(earned == credited));
    }
    Ok(out)
}

/// The split, once more, in sums over all distributions. Each single payout was compared as it came.
fn splits(scope: &str, book: &super::ledger::PoolBook, found: &[v1::Distribution], days: u32) -> Vec<Check> {
    let sums = book.sums;
    let acknowledged = found.iter().map(|one| units(one.acknowledged_amount.as_ref())).sum::<u128>();
    vec![
        Check::equal(scope, "distributions released = days", &[found.len() as i128], &[i128::from(days)]),
        Check::equal(
            scope,
            "receipts + carry in + house in = fee + recovery + payouts + house out + carry out",
            &[sums.receipts, sums.carry_in, sums.house_in].map(wide),
            &[sums.fee, sums.recovery, sums.payouts, sums.house_out, sums.carry_out].map(wide),
        ),
        Check::equal(scope, "fees = floor(receipts x fee), recomputed", &[wide(sums.fee)], &[wide(sums.fee_due)]),
        Check {
            scope: scope.to_owned(),
            name: "own weights recomputed + house weight = W, in base units x seconds".to_owned(),
            left: format!("{} + {}", sums.own_weight, sums.house_weight),
            right: sums.weight_total.to_string(),
            passed: sums.own_weight + sums.house_weight == sums.weight_total,
        },
        Check::equal(
            scope,
            "payouts streamed = payouts recomputed from the events sent, in number",
            &[sums.credited_count.into()],
            &[sums.payout_count_due.into()],
        ),
        Check::equal(
            scope,
            "payouts streamed = payouts recomputed = payouts acknowledged, in base units",
            &[wide(sums.credited)],
            &[wide(sums.payouts_due)],
        )
        .and(sums.payouts == sums.payouts_due && acknowledged == sums.credited),
        Check::equal(
            scope,
            "single payouts and figures that differ from their recomputation = none",
            &[book.fault_count.into()],
            &[0],
        ),
    ]
}

/// What has to have happened.
#[derive(Default)]
struct Happened {
    fees: u64,
    carries: u64,
    matured: i128,
    redelegations: u64,
    redelegation_possible: bool,
}

impl Happened {
    fn look(
        &mut self,
        redelegates: bool,
        sums: super::ledger::Sums,
        operations: &[v1::Operation],
        ledger: &v1::LedgerBalances,
    ) {
        let confirmed = |kind: OperationKind| {
            operations.iter().filter(move |one| one.state() == OperationState::Confirmed && one.kind() == kind)
        };
        self.fees += sums.distributions_with_fee;
        self.carries += sums.distributions_with_carry;
        // What began to unbond and no longer does has matured.
        let undelegated: u128 = confirmed(OperationKind::Undelegate)
            .map(|one| units(one.effective_amount.as_ref().or(one.amount.as_ref())))
            .sum();
        let matured = i128::try_from(undelegated).unwrap_or(i128::MAX) - signed(ledger.unbonding.as_ref());
        self.matured = self.matured.saturating_add(matured.max(0));
        self.redelegations += confirmed(OperationKind::Redelegate).count() as u64;
        self.redelegation_possible |= redelegates;
    }

    fn report(self, plan: &Plan, world: &World, out: &mut Outcome) {
        let seen = &world.seen;
        let longest = plan.pools.iter().map(super::plan::PoolPlan::unbonding_days).min().unwrap_or(0);
        let left = (plan.story().end - plan.story().mass_withdrawal) / super::plan::DAY;
        let ineligible: u64 = world.pools.iter().map(|pool| pool.reference.ineligible_seen()).sum();
        let confirmed = seen.opt_outs.iter().filter(|out| out.confirmed).count();
        out.happened("fee > 0", self.fees > 0, format!("in {} distributions", self.fees));
        out.happened("carry > 0", self.carries > 0, format!("in {} distributions", self.carries));
        out.happened(
            "matured unbonding",
            self.matured > 0,
            format!("{} base units; unbonding takes {longest} days at the shortest, {left} were left", self.matured),
        );
        if self.redelegation_possible {
            let said =
                format!("{} operations after {} validators were taken off", self.redelegations, seen.removed.len());
            out.happened("redelegation", self.redelegations > 0, said);
        } else {
            out.not_asked("redelegation", "no chain of this run can move stake without unbonding it");
        }
        let who: Vec<String> = seen
            .opt_outs
            .iter()
            .map(|out| {
                let from = if out.everywhere { "every pool".to_owned() } else { name_of(world, out.pool) };
                format!("{} out of {from}, while {} base units earned", out.account, out.earning)
            })
            .collect();
        out.happened("opt-out", confirmed > 0 && confirmed == who.len(), who.join("; "));
        let said = format!("{ineligible} times, such as {}", seen.ineligible.first().map_or("nobody", String::as_str));
        out.happened("ineligible account", ineligible > 0 && !seen.ineligible.is_empty(), said);
        let said = seen.restart.map_or("never".to_owned(), |cut| {
            format!(
                "killed with {} events sent and {} acknowledged; {} were durable; {} payouts came again and were not \
                 credited again",
                cut.sent, cut.acknowledged, cut.durable, seen.redelivered
            )
        });
        out.happened("restart", seen.restart.is_some(), said);
    }
}

fn name_of(world: &World, pool: usize) -> String {
    world.pools.get(pool).map(|pool| pool.plan.name()).unwrap_or_default()
}

/// A customer with payouts in as many pools as possible, as AccountService tells it.
async fn customer(client: &Client, world: &World) -> Result<Option<super::report::Customer>, DemoError> {
    let mut best: Option<(usize, usize, &str)> = None;
    for pool in &world.pools {
        for (who, account) in pool.market.accounts().iter().enumerate().take(200) {
            let books = (0..world.pools.len()).filter_map(|index| world.ledger.pool(index));
            let paid: Vec<usize> = books.map(|book| book.history.get(account).map_or(0, Vec::len)).collect();
            let rank = (paid.iter().filter(|count| **count > 0).count(), paid.iter().sum::<usize>());
            // The first are whales: an ordinary customer is more telling.
            if who >= 20 && rank.1 > 0 && best.is_none_or(|(pools, count, _)| rank > (pools, count)) {
                best = Some((rank.0, rank.1, account));
            }
        }
    }
    let Some((_, _, account)) = best else { return Ok(None) };
    let mut payouts = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListPayoutsRequest {
            parent: format!("accounts/{account}"),
            asset: String::new(),
            start_time: Some(stamp(START)),
            end_time: None,
            page_size: 50,
            page_token,
        };
        let page = client.list_payouts(request).await.map_err(DemoError::call("ListPayouts"))?;
        payouts.extend(page.payouts);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let request = v1::GetEarningsRequest { name: format!("accounts/{account}"), asset: String::new() };
    let earnings = client.get_earnings(request).await.map_err(DemoError::call("GetEarnings"))?.earnings;
    Ok(Some(super::report::Customer { account: account.to_owned(), payouts, earnings }))
}

async fn distributions(client: &Client, pool: &str, days: u32) -> Result<Vec<v1::Distribution>, DemoError> {
    let mut out = Vec::new();
    for day in 0..i64::from(days) {
        out.extend(distribution(client, pool, START + day * super::plan::DAY).await?);
    }
    Ok(out)
}

async fn operations(client: &Client, pool: &str) -> Result<Vec<v1::Operation>, DemoError> {
    let mut out = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            v1::ListOperationsRequest { parent: pool.to_owned(), page_size: 1_000, page_token, states: Vec::new() };
        let page = client.list_operations(request).await.map_err(DemoError::call("ListOperations"))?;
        out.extend(page.operations);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(out);
        }
    }
}
