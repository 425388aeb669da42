//! Tests of the room, over transactions that CosmJS made and over nodes that say what a test wants.

mod fates;
mod node;
mod nodes;
mod transactions;
mod vectors;

use std::time::Duration;

use rust_decimal::Decimal;

use super::config::{CosmosConfig, GasLimits, Terms};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{AssetId, ChainId};

/// A configuration for the key and the addresses of the vectors.
fn config() -> CosmosConfig {
    let gas = GasLimits { delegate: 250_000, undelegate: 300_000, redelegate: 400_000, claim: 200_000, send: 100_000 };
    CosmosConfig {
        chain: ChainId::new("cosmoshub-4").unwrap(),
        asset: AssetId::new("ATOM").unwrap(),
        first_height: 0,
        endpoints: vec![node::nowhere()],
        certificates: None,
        public_key: vectors::key("custody").public_key,
        custody_address: vectors::key("second").address,
        denom: "uatom".to_owned(),
        prefix: "cosmos".to_owned(),
        gas_price: Decimal::new(5, 3),
        gas,
        gas_adjustment: Decimal::new(11, 1),
        max_fee: BaseUnits::from_u64(10_000),
        timeout_blocks: 50,
        max_lag_blocks: 3,
        request_timeout: Duration::from_secs(5),
    }
}

fn terms() -> Terms {
    Terms::new(config()).unwrap()
}
