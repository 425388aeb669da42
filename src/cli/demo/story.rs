//! What has to happen in a run besides trading: opt-outs, a validator taken off, a look at somebody who earns nothing.

use super::DemoError;
use super::feed::Break;
use super::plan::{HOUR, PoolPlan, Story};
use super::world::World;
use crate::client::Client;
use crate::pb::v1;
use v1::{Eligibility, EnrolmentDecision, ValidatorStatus};

/// Validators that a pool is given where its allocation lists none.
const LISTED: usize = 16;

/// What has happened that has to happen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Who opted out.
    pub(super) opt_outs: Vec<OptOut>,
    /// Who was found below the minimum, by the service too: `accounts/{account}/positions/{pool}`.
    pub(super) ineligible: Vec<String>,
    /// The validators taken off, each with the number of its pool.
    pub(super) removed: Vec<(usize, String)>,
    /// What the kill cost.
    pub(super) restart: Option<Break>,
    /// Payouts that the ledger service saw again after the restart.
    pub(super) redelivered: u64,
}

/// One account that opted out while it held something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OptOut {
    /// The pool in which it held something, by number.
    pub(super) pool: usize,
    pub(super) account: String,
    /// What earned until then.
    pub(super) earning: u128,
    /// Whether it opted out of every pool.
    pub(super) everywhere: bool,
    /// Whether the service says so too.
    pub(super) confirmed: bool,
}

impl World {
    /// What the story has for this moment.
    pub(super) async fn tell(&mut self, client: &Client, story: &Story, now: i64) -> Result<(), DemoError> {
        if now == story.opt_out {
            // One out of its pool, one out of everything.
            self.opt_out(client, 0, 3, false).await?;
            self.opt_out(client, self.pools.len().saturating_sub(1), 2, true).await?;
        }
        if now == story.opt_in
            && let Some(first) = self.seen.opt_outs.first().cloned()
        {
            self.decide(client, &first, EnrolmentDecision::OptIn).await?;
        }
        if now >= story.validator_removed && now % HOUR == 0 {
            for index in 0..self.pools.len() {
                self.remove_a_validator(client, index).await?;
            }
        }
        self.confirm_opt_outs(client).await?;
        if self.seen.ineligible.is_empty() {
            self.find_someone_ineligible(client).await?;
        }
        Ok(())
    }

    /// Somebody who earns, from `1 / part` of the way down the list, opts out.
    async fn opt_out(&mut self, client: &Client, pool: usize, part: usize, everywhere: bool) -> Result<(), DemoError> {
        let Some(one) = self.pools.get(pool) else { return Ok(()) };
        let count = one.plan.opening.len();
        let taken = |who: usize| self.seen.opt_outs.iter().any(|out| out.account == one.market.account(who));
        let who = (count / part..count).find(|who| one.reference.earning(*who) > 0 && !taken(*who));
        let Some(who) = who else { return Ok(()) };
        let account = one.market.account(who).to_owned();
        let out = OptOut { pool, account, earning: one.reference.earning(who), everywhere, confirmed: false };
        self.decide(client, &out, EnrolmentDecision::OptOut).await?;
        self.seen.opt_outs.push(out);
        Ok(())
    }

    /// Asks the service about those who opted out: a decision may enter the positions a step later.
    async fn confirm_opt_outs(&mut self, client: &Client) -> Result<(), DemoError> {
        for index in 0..self.seen.opt_outs.len() {
            let Some(out) = self.seen.opt_outs.get(index).filter(|out| !out.confirmed) else { continue };
            let eligibility = self.eligibility(client, out.pool, &out.account).await?;
            if let Some(out) = self.seen.opt_outs.get_mut(index) {
                out.confirmed = eligibility == Eligibility::OptedOut;
            }
        }
        Ok(())
    }

    /// Enters a decision, and takes over the time that the service gives it.
    async fn decide(&mut self, client: &Client, of: &OptOut, decision: EnrolmentDecision) -> Result<(), DemoError> {
        let pool = if of.everywhere { None } else { self.pools.get(of.pool).map(|pool| pool.plan.name()) };
        let into = decision == EnrolmentDecision::OptIn;
        let request = v1::SetEnrolmentRequest {
            request_id: format!("{}-{}", if into { "opt-in" } else { "opt-out" }, of.account),
            account: of.account.clone(),
            pool: pool.unwrap_or_default(),
            decision: decision.into(),
            terms_version: if into { "2026-11".to_owned() } else { String::new() },
            jurisdiction: String::new(),
            reason_code: String::new(),
        };
        let answer = client.set_enrolment(request).await.map_err(DemoError::call("SetEnrolment"))?;
        let at = answer.enrolment.and_then(|enrolment| enrolment.effective_time).map(|time| time.seconds);
        let at = at.ok_or_else(|| DemoError::Server("SetEnrolment gives no effective_time".to_owned()))?;
        for (index, pool) in self.pools.iter_mut().enumerate() {
            if (of.everywhere || index == of.pool)
                && let Some(who) = pool.market.who(&of.account)
            {
                pool.reference.decide(who, at, !into);
            }
        }
        Ok(())
    }

    /// Asks the service about one account that holds less than the minimum.
    pub(super) async fn find_someone_ineligible(&mut self, client: &Client) -> Result<(), DemoError> {
        let found = self.pools.iter().enumerate().find_map(|(index, pool)| {
            let who = pool.reference.someone_below_minimum()?;
            Some((index, pool.market.account(who).to_owned(), pool.plan.name()))
        });
        let Some((index, account, pool)) = found else { return Ok(()) };
        if self.eligibility(client, index, &account).await? == Eligibility::BelowMinimum {
            self.seen.ineligible.push(format!("{account} in {pool}"));
        }
        Ok(())
    }

    async fn eligibility(&self, client: &Client, pool: usize, account: &str) -> Result<Eligibility, DemoError> {
        let id = self.pools.get(pool).map_or("", |pool| pool.plan.preset.name());
        let request = v1::GetPositionRequest { name: format!("accounts/{account}/positions/{id}") };
        let answer = client.get_position(request).await.map_err(DemoError::call("GetPosition"))?;
        Ok(answer.position.map_or(Eligibility::Unspecified, |position| position.eligibility()))
    }

    /// Takes the validator with the most stake off the pool's allocation, once, as soon as there is stake.
    async fn remove_a_validator(&mut self, client: &Client, index: usize) -> Result<(), DemoError> {
        let Some(pool) = self.pools.get(index) else { return Ok(()) };
        if self.seen.removed.iter().any(|(removed, _)| *removed == index) {
            return Ok(());
        }
        let delegations = delegations(client, &pool.plan.name()).await?;
        let held = |one: &v1::Delegation| super::amounts::units(one.amount.as_ref());
        let Some(most) = delegations.iter().filter(|one| held(one) > 0).max_by_key(|one| held(one)) else {
            return Ok(());
        };
        let request = v1::RemoveValidatorRequest {
            request_id: format!("remove-{}", pool.plan.preset.name()),
            name: most.validator.clone(),
            etag: String::new(),
        };
        client.remove_validator(request).await.map_err(DemoError::call("RemoveValidator"))?;
        self.seen.removed.push((index, most.validator.clone()));
        Ok(())
    }
}

/// What a pool has staked with whom.
pub(super) async fn delegations(client: &Client, pool: &str) -> Result<Vec<v1::Delegation>, DemoError> {
    let mut out = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListDelegationsRequest { parent: pool.to_owned(), page_size: 1_000, page_token };
        let page = client.list_delegations(request).await.map_err(DemoError::call("ListDelegations"))?;
        out.extend(page.delegations);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(out);
        }
    }
}

/// The validators of a pool's allocation; with `unlisted`, all that the chain knows.
pub(super) async fn validators(client: &Client, pool: &str, unlisted: bool) -> Result<Vec<v1::Validator>, DemoError> {
    let mut out = Vec::new();
    let mut page_token = String::new();
    loop {
        let include_unlisted = unlisted;
        let parent = pool.to_owned();
        let request = v1::ListValidatorsRequest { parent, page_size: 1_000, page_token, include_unlisted };
        let page = client.list_validators(request).await.map_err(DemoError::call("ListValidators"))?;
        out.extend(page.validators);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(out);
        }
    }
}

/// Where a pool's allocation lists nobody, an operator lists the largest active validators with a low commission.
pub(super) async fn list_validators(client: &Client, pool: &PoolPlan) -> Result<(), DemoError> {
    let known = validators(client, &pool.name(), true).await?;
    if known.iter().any(|one| one.listed && one.weight > 0) {
        return Ok(());
    }
    let highest = rust_decimal::Decimal::new(2, 1);
    let low = |one: &v1::Validator| rust_decimal::Decimal::from_str_exact(&one.commission).is_ok_and(|c| c <= highest);
    let active = |one: &&v1::Validator| one.status() == ValidatorStatus::Active && low(one);
    let mut chosen: Vec<&v1::Validator> = known.iter().filter(active).collect();
    chosen.sort_by_key(|one| (std::cmp::Reverse(super::amounts::units(one.tokens.as_ref())), one.name.clone()));
    for one in chosen.into_iter().take(LISTED) {
        let request = v1::PutValidatorRequest {
            request_id: format!("list-{}", one.address),
            name: one.name.clone(),
            weight: 100,
            operator_group: String::new(),
            etag: String::new(),
        };
        client.put_validator(request).await.map_err(DemoError::call("PutValidator"))?;
    }
    Ok(())
}
