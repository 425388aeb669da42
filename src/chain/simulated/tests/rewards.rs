//! Rewards against a model with big rationals, written apart from the chain's own arithmetic.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{ToPrimitive, Zero};

use super::*;
use crate::chain::simulated::seeded_validators;
use crate::domain::time::UnixSeconds;

fn ratio(numerator: u128, denominator: u128) -> BigRational {
    BigRational::new(BigInt::from(numerator), BigInt::from(denominator))
}

/// What one base unit of stake earns in a second with a validator of this commission.
fn rate(config: &SimulatedConfig, index: usize) -> BigRational {
    let commission = config.validators[index].commission;
    let kept = BigRational::from(BigInt::from(1))
        - BigRational::new(BigInt::from(commission.mantissa()), BigInt::from(10_u128.pow(commission.scale())));
    ratio(u128::from(config.apr_bps), 10_000) * kept / BigRational::from(BigInt::from(365 * DAY))
}

fn floor(value: &BigRational) -> u128 {
    value.floor().to_integer().to_u128().unwrap()
}

#[tokio::test]
async fn atom_pays_what_the_model_says_to_the_unit() {
    let mut rig = Rig::funded(preset("atom"), 2_000_000_000_003).await;
    let rate = rate(&rig.config, 3);
    let moves = [(777_777_777_777_u128, 100_003_i64), (1_000_000_000, 7), (13, 2 * DAY), (5_555, 63_072)];
    let mut stake = 0;
    let mut since = 0;
    let mut earned = BigRational::zero();
    let mut paid = 0;
    for (more, wait) in moves {
        let effects = rig.done(rig.delegate(3, more)).await;
        let at = rig.effects().await.last().unwrap().at.get();
        earned += &rate * ratio(stake, 1) * ratio((at - since) as u128, 1);
        if stake > 0 && floor(&earned) > paid {
            let EffectKind::RewardPaid { amount, earned_from, earned_to, .. } = &effects[0] else { panic!() };
            assert_eq!(amount.get(), floor(&earned) - paid);
            assert_eq!((earned_from.get(), earned_to.get()), (since, at));
        }
        paid = floor(&earned);
        stake += more;
        since = at;
        rig.pass(wait);
    }
    let observed = rig.observe().await;
    earned += &rate * ratio(stake, 1) * ratio((observed.at.get() - since) as u128, 1);
    assert_eq!(rig.delegation(3).await.unwrap().pending_reward.get(), floor(&earned) - paid);
    assert_eq!(rig.totals().await.minted_rewards_total.get(), floor(&earned));
    let claim = OperationKind::Claim { validator: Some(rig.validator(3)) };
    assert!(matches!(rig.done(claim).await[..], [EffectKind::RewardPaid { .. }]));
    let empty = OperationKind::Claim { validator: Some(rig.validator(4)) };
    assert_eq!(rig.done(empty).await, []);
    rig.audit().await;
}

#[tokio::test]
async fn compounding_chains_grow_as_the_model_says_to_the_unit() {
    for (name, stake) in [
        ("dot", 12_345_678_901_234_567_u128),
        ("near", 80_000_000_000_000_000_000_000_000_000),
        ("apt", 3_333_333_333_333),
    ] {
        let mut rig = Rig::funded(preset(name), stake * 2).await;
        let epoch = rig.config.epoch_seconds as i64;
        rig.pass(epoch / 3);
        rig.done(rig.delegate(4, stake)).await;
        let rate = rate(&rig.config, 4);
        let mut since = rig.effects().await.last().unwrap().at.get();
        // Days at once, not epoch by epoch.
        rig.pass(30 * DAY);
        let effects = rig.effects().await;
        let grown: Vec<_> = effects
            .iter()
            .filter_map(|effect| match &effect.kind {
                EffectKind::RewardCompounded { amount, earned_from, earned_to, .. } => {
                    Some((effect.clone(), amount.get(), earned_from.get(), earned_to.get()))
                }
                _ => None,
            })
            .collect();
        assert!(grown.len() as i64 >= 30 * DAY / epoch, "{name}");
        let mut stake = BigRational::from(BigInt::from(stake));
        let mut carried = BigRational::zero();
        let first = (since - START) / epoch + 1;
        for (number, (effect, amount, from, to)) in grown.iter().enumerate() {
            let boundary = START + (first + number as i64) * epoch;
            assert_eq!((*from, *to, effect.at), (since, boundary, UnixSeconds::new(boundary)));
            assert_eq!(effect.key.transaction.as_str(), format!("epoch-{}", first + number as i64));
            carried += &stake * &rate * ratio((boundary - since) as u128, 1);
            assert_eq!(*amount, floor(&carried), "{name}, epoch {number}");
            let whole = carried.floor();
            carried -= &whole;
            stake += whole;
            since = boundary;
        }
        assert_eq!(rig.delegation(4).await.unwrap().amount.get(), floor(&stake));
        rig.audit().await;
    }
}

#[tokio::test]
async fn how_often_the_chain_is_asked_changes_nothing() {
    for name in presets::NAMES {
        let mut often = Rig::funded(preset(name), tokens(&preset(name), 5_000_000)).await;
        let mut once = Rig::funded(preset(name), tokens(&preset(name), 5_000_000)).await;
        for rig in [&mut often, &mut once] {
            rig.done(rig.delegate(2, tokens(&rig.config, 4_000_000))).await;
        }
        for step in 0..500 {
            often.pass(1 + step * 7 % 1111);
            often.observe().await;
        }
        once.pass(often.now() - once.now());
        assert_eq!(often.totals().await, once.totals().await);
        assert_eq!(often.effects().await, once.effects().await);
        assert_eq!(often.observe().await, once.observe().await);
    }
}

#[tokio::test]
async fn inactive_and_jailed_validators_earn_nothing() {
    let mut rig = Rig::funded(preset("apt"), 100_000_000_000_000).await;
    rig.done(rig.delegate(10, 10_000_000_000_000)).await;
    rig.pass(30 * DAY);
    let totals = rig.totals().await;
    assert!(totals.minted_rewards_total.is_zero() && totals.pending_rewards.is_zero());
}

#[tokio::test]
async fn thirty_days_at_once_with_105_validators_add_up() {
    for name in presets::NAMES {
        let mut config = preset(name);
        config.limits.max_validators = 200;
        let unit = tokens(&config, 1);
        config.validators = seeded_validators(3, &config.asset, 105);
        let mut rig = Rig::funded(config, 100_000_000 * unit).await;
        for index in 0..103 {
            let id = rig.id();
            let signed = rig.signed(&id, &rig.delegate(index, 600_000 * unit)).await.unwrap();
            rig.chain.submit(&id, &signed).await.unwrap();
        }
        rig.settle();
        assert_eq!(rig.observe().await.delegations.len(), 103);
        rig.pass(30 * DAY);
        rig.totals().await;
        rig.audit().await;
    }
}
