use super::*;
use crate::api::render;

fn atom() -> AssetId {
    AssetId::new("ATOM").unwrap()
}

fn defaults() -> v1::PoolSettings {
    let (min_move, fee) = (BaseUnits::from_u64(7), BaseUnits::from_u64(100));
    with_defaults(&atom(), &ChainDefaults { min_move, fee, custody_address: "custody" }, None)
}

fn read_settings(given: &v1::PoolSettings) -> Result<PoolSettings, ApiError> {
    settings(&Path::of("settings"), &atom(), given, 600)
}

#[test]
fn defaults_are_whole_and_come_back_as_they_are_shown() {
    let read = read_settings(&defaults()).unwrap();
    read.check(600).unwrap();
    assert_eq!(read.reserve.min_move, BaseUnits::from_u64(7));
    assert_eq!(read.reserve.house_float_target, BaseUnits::from_u64(20_000));
    assert_eq!(read.feed.close_grace_seconds, 300, "half the period, where that is shorter than an hour");
    assert_eq!(read_settings(&render::policy::settings(&atom(), &read)), Ok(read));
    let policy_read = policy(&Path::of("policy"), &atom(), &default_policy()).unwrap();
    policy_read.check().unwrap();
    assert_eq!(policy(&Path::of("policy"), &atom(), &render::policy::policy(&atom(), &policy_read)), Ok(policy_read));
}

#[test]
fn a_fixed_rate_belongs_to_fixed_apr_alone() {
    let path = Path::of("policy");
    let mut given = v1::Policy { fixed_apr: "0.05".to_owned(), ..default_policy() };
    assert_eq!(policy(&path, &atom(), &given).unwrap_err().field, "policy.fixed_apr");
    given.reward_policy = v1::RewardPolicy::FixedApr.into();
    let read = policy(&path, &atom(), &given).unwrap();
    assert_eq!(render::policy::policy(&atom(), &read).fixed_apr, "0.05");
    given.fixed_apr.clear();
    assert_eq!(policy(&path, &atom(), &given).unwrap_err().reason, "FIELD_REQUIRED");
    given = v1::Policy { slash_policy: 0, ..default_policy() };
    assert_eq!(policy(&path, &atom(), &given).unwrap_err().field, "policy.slash_policy");
}

#[test]
fn a_new_pool_has_limits_and_one_that_names_none_has_none() {
    let read = read_settings(&defaults()).unwrap();
    let limits = |apr, change, receipts| (apr, change, receipts);
    let release = |read: &PoolSettings| {
        let release = &read.release;
        limits(release.max_apr, release.max_apr_change, release.max_receipts_bps)
    };
    assert_eq!(release(&read), (Some(Decimal::new(5, 1)), Some(Decimal::ONE), Some(200)));
    assert_eq!((read.reserve.forecast_percentile_bps, read.reserve.forecast_windows), (9_900, 90));
    assert_eq!((read.reserve.max_outflow_per_run_bps, read.reserve.max_outflow_per_day_bps), (5_000, 8_000));
    assert_eq!(read.reserve.custody_address, "custody");
    let mut given = defaults();
    given.release_limits = Some(v1::ReleaseLimits::default());
    let read = read_settings(&given).unwrap();
    assert_eq!(release(&read), (None, None, None));
    assert_eq!(read_settings(&render::policy::settings(&atom(), &read)), Ok(read));
    for bad in ["0", "1000.1", "-1", "x"] {
        let mut given = defaults();
        given.release_limits.get_or_insert_default().max_apr = bad.to_owned();
        let ApiError::Invalid(wrong) = read_settings(&given).unwrap_err() else { panic!("{bad} is taken") };
        assert_eq!(wrong[0].field, "settings.release_limits.max_apr", "{bad}");
    }
}

#[test]
fn a_mask_changes_what_it_names_and_nothing_else() {
    let there = || (default_policy(), defaults());
    let mut settings = v1::PoolSettings::default();
    settings.reserve.get_or_insert_default().reserve_ratio_bps = 9;
    let wanted = v1::Pool {
        policy: Some(v1::Policy { fee_bps: 700, period_seconds: 60, ..v1::Policy::default() }),
        settings: Some(settings),
        ..v1::Pool::default()
    };
    let paths = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let changed = masked(&paths(&["policy.fee_bps"]), &wanted, there()).unwrap();
    assert_eq!(changed.settings, None);
    assert_eq!(changed.policy, Some(v1::Policy { fee_bps: 700, ..default_policy() }));
    let changed = masked(&paths(&["settings.reserve.reserve_ratio_bps"]), &wanted, there()).unwrap();
    let mut expected = defaults();
    expected.reserve.get_or_insert_default().reserve_ratio_bps = 9;
    assert_eq!((changed.policy, changed.settings), (None, Some(expected)));
    for bad in ["", "state", "policy.", "policy.nothing", "settings.reserve.nothing", "settings.nothing.a", "*"] {
        let wrong = masked(&paths(&["policy.fee_bps", bad]), &wanted, there()).unwrap_err();
        assert_eq!((wrong.field.as_str(), wrong.reason), ("update_mask.paths[1]", "MASK_UNKNOWN"), "{bad}");
    }
    assert_eq!(masked(&[], &wanted, there()).unwrap_err().field, "update_mask");
}
