//! The captured blocks of `fixtures/`, for this room's tests.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::effects::{Stake, Us};
use super::results::{Block, Header, Results};
use super::shares::base_units;
use crate::domain::ids::ValidatorId;

/// The chain that they are of.
pub(super) const CHAIN: &str = "softstake-test-1";

const BLOCKS: &str = include_str!("fixtures/blocks.json");

#[derive(Deserialize)]
struct Fixture {
    staking: String,
    custody: String,
    blocks: Vec<Captured>,
}

/// One block, as CometBFT told it, and the address's state.
#[derive(Deserialize)]
pub(super) struct Captured {
    pub(super) height: u64,
    pub(super) before: State,
    pub(super) after: State,
    pub(super) block: serde_json::Value,
    pub(super) results: serde_json::Value,
}

/// By validator's address, in base units.
#[derive(Clone, Deserialize)]
pub(super) struct State {
    pub(super) liquid: String,
    pub(super) delegated: BTreeMap<String, String>,
    pub(super) unbonding: BTreeMap<String, String>,
}

impl State {
    pub(super) fn stake(&self) -> Stake {
        let read = |all: &BTreeMap<String, String>| {
            let one =
                |(whom, amount): (&String, &String)| (ValidatorId::new(whom).unwrap(), base_units(amount).unwrap());
            all.iter().map(one).collect()
        };
        Stake { delegated: read(&self.delegated), unbonding: read(&self.unbonding) }
    }
}

pub(super) fn fixture() -> (Us, Vec<Captured>) {
    let Fixture { staking, custody, blocks } = serde_json::from_str(BLOCKS).unwrap();
    (Us { staking, custody, denom: "uatom".to_owned() }, blocks)
}

pub(super) fn block(captured: &Captured) -> Block {
    let header = Header::read(captured.block.to_string().as_bytes(), captured.height, CHAIN).unwrap();
    Results::read(captured.results.to_string().as_bytes(), captured.height).unwrap().of(&header).unwrap()
}
