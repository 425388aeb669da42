//! Validators and delegations: the chain as it was last seen, beside what operators chose and what the ledger has.

use std::collections::{BTreeMap, BTreeSet};

pub use crate::chain::Unbonding;
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{OperatorGroup, ValidatorId};
use crate::domain::validator::ChainValidator;
use crate::store::records::{Record, ValidatorChoice};

use super::lists::Listed;
use crate::app::{App, AppError, Pool, Reason};

/// A validator as a pool uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorView {
    /// Which.
    pub id: ValidatorId,
    /// As the chain reports it; `None` where the chain does not know it.
    pub chain: Option<ChainValidator>,
    /// Its weight in the allocation. Without any choice of an operator, all weigh 1.
    pub weight: u32,
    /// Who runs it, where an operator said so.
    pub group: Option<OperatorGroup>,
    /// Whether the allocation may use it.
    pub listed: bool,
    /// What is staked with it, by the ledger.
    pub delegated: BaseUnits,
    /// Stands for the operator's choice: another choice has another one.
    pub etag: String,
}

/// A pool's stake with one validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationView {
    /// Which.
    pub validator: ValidatorId,
    /// By the ledger.
    pub amount: BaseUnits,
    /// As the chain was last seen.
    pub on_chain: BaseUnits,
    /// What a claim would have paid then.
    pub pending_reward: BaseUnits,
    /// What must not be redelegated yet.
    pub redelegation_locked: BaseUnits,
    /// What comes back from it, earliest first.
    pub unbondings: Vec<Unbonding>,
}

/// What stands for an operator's choice on a validator.
pub fn choice_etag(choice: Option<&ValidatorChoice>) -> String {
    let bytes = choice.map(Record::encode).unwrap_or_default();
    blake3::hash(&bytes).to_hex().chars().take(16).collect()
}

impl App {
    /// A page of validators by address, from after one. Those that are not listed only where `all` is set.
    pub async fn validators_page(
        &self,
        pool: &Pool,
        all: bool,
        after: Option<&ValidatorId>,
        size: usize,
    ) -> Result<Listed<ValidatorView>, AppError> {
        let asked = |id: &ValidatorId| after.is_none_or(|after| id > after);
        let shown = |view: &ValidatorView| all || view.listed || !view.delegated.is_zero();
        Ok(Listed::cut(self.validator_views(pool, asked, shown, size.saturating_add(1)).await?, size))
    }

    /// One validator.
    pub async fn validator_view(&self, pool: &Pool, id: &ValidatorId) -> Result<ValidatorView, AppError> {
        let mut views = self.validator_views(pool, |one| one == id, |_| true, 1).await?;
        views.pop().ok_or_else(|| {
            let message = format!("{} has no validator {id}", pool.record.chain);
            AppError::refused(Reason::UnknownValidator, message)
        })
    }

    /// The first validators of those `asked` for that are `shown`, up to so many. No other one is put together.
    async fn validator_views(
        &self,
        pool: &Pool,
        asked: impl Fn(&ValidatorId) -> bool,
        shown: impl Fn(&ValidatorView) -> bool,
        most: usize,
    ) -> Result<Vec<ValidatorView>, AppError> {
        let seen = self.last_seen(pool).await?;
        let ledger = self.ledger_view(pool).await?;
        let choices: BTreeMap<ValidatorId, ValidatorChoice> =
            self.validator_choices(pool).await?.into_iter().map(|choice| (choice.id.clone(), choice)).collect();
        let chosen = choices.values().any(|choice| !choice.removed);
        let on_chain: BTreeMap<&ValidatorId, &ChainValidator> =
            seen.validators.iter().map(|validator| (&validator.id, validator)).collect();
        let delegated: BTreeMap<&ValidatorId, BaseUnits> = ledger.delegations().collect();
        let ids: BTreeSet<&ValidatorId> =
            on_chain.keys().copied().chain(choices.keys()).chain(delegated.keys().copied()).collect();
        let view = |id: &ValidatorId| {
            let choice = choices.get(id);
            let listed = match choice {
                Some(choice) => !choice.removed,
                None => !chosen && on_chain.contains_key(id),
            };
            ValidatorView {
                chain: on_chain.get(id).map(|validator| ChainValidator::clone(validator)),
                weight: if listed { choice.map_or(1, |choice| choice.weight) } else { 0 },
                group: choice.and_then(|choice| choice.group.clone()),
                listed,
                delegated: delegated.get(id).copied().unwrap_or_default(),
                etag: choice_etag(choice),
                id: id.clone(),
            }
        };
        let asked = ids.into_iter().filter(|id| asked(id));
        Ok(asked.map(view).filter(shown).take(most).collect())
    }

    /// A page of delegations by validator, from after one.
    pub async fn delegations_page(
        &self,
        pool: &Pool,
        after: Option<&ValidatorId>,
        size: usize,
    ) -> Result<Listed<DelegationView>, AppError> {
        let seen = self.last_seen(pool).await?;
        let ledger = self.ledger_view(pool).await?;
        let delegated: BTreeMap<&ValidatorId, BaseUnits> = ledger.delegations().collect();
        let on_chain: BTreeMap<_, _> = seen.delegations.iter().map(|one| (&one.validator, one)).collect();
        let mut unbondings: BTreeMap<&ValidatorId, Vec<Unbonding>> = BTreeMap::new();
        for unbonding in &seen.unbondings {
            unbondings.entry(&unbonding.validator).or_default().push(unbonding.clone());
        }
        unbondings.values_mut().for_each(|list| list.sort_by_key(|unbonding| unbonding.matures_at));
        let ids: BTreeSet<&ValidatorId> =
            delegated.keys().copied().chain(on_chain.keys().copied()).chain(unbondings.keys().copied()).collect();
        let beyond = ids.into_iter().filter(|id| after.is_none_or(|after| *id > after));
        let view = |id: &ValidatorId| {
            let chain = on_chain.get(id);
            DelegationView {
                validator: id.clone(),
                amount: delegated.get(id).copied().unwrap_or_default(),
                on_chain: chain.map_or(BaseUnits::ZERO, |one| one.amount),
                pending_reward: chain.map_or(BaseUnits::ZERO, |one| one.pending_reward),
                redelegation_locked: chain.map_or(BaseUnits::ZERO, |one| one.redelegation_locked),
                unbondings: unbondings.get(id).cloned().unwrap_or_default(),
            }
        };
        Ok(Listed::cut(beyond.take(size.saturating_add(1)).map(view).collect(), size))
    }
}
