//! What operations lose by the chain's rounding: the house's, and no slash.

use crate::app::control::Change;
use crate::app::{AppError, Pool, effects, slash};
use crate::domain::booking;
use crate::domain::effect::EffectKind;
use crate::domain::fixed_apr::SlashPolicy;
use crate::domain::ids::ValidatorId;
use crate::domain::reconciliation::{self, Difference, Verdict};
use crate::domain::time::UnixSeconds;

use super::{broken, slash_of};

/// Books to the house what is missing at validators where no more is missing than the operations that took effect since
/// ledger and chain last agreed may have lost by rounding. Says whether that was anything. What is tolerated is booked too:
/// left standing, it would add up to more than the operations since could explain.
pub(super) async fn rounded(
    pool: &Pool,
    change: &mut Change<'_>,
    differences: &[Difference],
    reconciled_height: u64,
    height: u64,
    at: UnixSeconds,
) -> Result<bool, AppError> {
    let units = pool.chain.descriptor.rounding_units;
    let drops = match reconciliation::judge(differences) {
        Verdict::Agrees | Verdict::Dropped(_) => reconciliation::drops(differences),
        Verdict::Grown(_) | Verdict::Unclear => return Ok(false),
    };
    if units.is_zero() || drops.is_empty() {
        return Ok(false);
    }
    let effects = effects::all_of(pool, reconciled_height, height).await?;
    let mut any = false;
    for (validator, drop) in drops {
        let touched = effects.iter().filter(|effect| effect.operation.is_some() && touches(&effect.kind, &validator));
        let bound = units.get().saturating_mul(touched.count() as u128);
        let lost = drop.delegated.checked_add(drop.unbonding).map_err(broken)?;
        if lost.get() > bound {
            continue;
        }
        let slash = slash_of(&validator, &drop, SlashPolicy::PlatformAbsorbs);
        change.post(&booking::rounding(height, &slash).map_err(broken)?, at)?;
        slash::unbonding_changed(change, &validator, drop.unbonding.negated()).await?;
        any = true;
    }
    Ok(any)
}

/// Whether an effect moved stake at a validator.
fn touches(kind: &EffectKind, whom: &ValidatorId) -> bool {
    match kind {
        EffectKind::Delegated { validator, .. } | EffectKind::Undelegated { validator, .. } => validator == whom,
        EffectKind::Redelegated { from, to, .. } => from == whom || to == whom,
        _ => false,
    }
}
