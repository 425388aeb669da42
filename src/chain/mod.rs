//! Chains: what softstake asks of one, and who signs. Adapters hold no durable state: `app/operate.rs` keeps the
//! signed bytes, the nonce and the expiry, and passes them in.
//!
//! An adapter may be called from `app/` only, never from an RPC handler.

pub mod bounded;
pub mod cosmos;
pub mod signer;
pub mod simulated;

use async_trait::async_trait;
use rust_decimal::Decimal;

use crate::domain::amount::BaseUnits;
use crate::domain::effect::Effect;
use crate::domain::ids::{AssetId, ChainId, OperationId, TransactionId, ValidatorId};
use crate::domain::operation::{ChainPace, OperationKind};
use crate::domain::signing::{Decoded, Lifetime};
use crate::domain::time::UnixSeconds;
use crate::domain::validator::ChainValidator;

/// How a chain pays rewards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewardStyle {
    /// They wait until a claim per validator (ATOM).
    ClaimPerValidator,
    /// They wait until one claim for the whole account (TRX).
    ClaimPerAccount,
    /// They grow the stake by themselves (DOT with payee Staked, NEAR, APT).
    Compounding,
}

/// How matured unbondings become liquid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithdrawStyle {
    /// The chain credits them by itself (ATOM).
    Automatic,
    /// One withdrawal for the whole account (DOT, TRX).
    PerAccount,
    /// One withdrawal per validator or pool contract (NEAR, APT).
    PerValidator,
}

/// What the chain allows, read from the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainLimits {
    /// The least that may be delegated with one validator.
    pub min_delegation: BaseUnits,
    /// How many unbondings may be pending at once, per validator or per account as `unbonding_entries_per_account`.
    pub max_unbonding_entries: u32,
    /// Whether the entries are counted over the whole account (DOT, TRX) or per validator (ATOM, NEAR, APT).
    pub unbonding_entries_per_account: bool,
    /// Whether stake can move between validators without unbonding.
    pub redelegation: bool,
    /// Seconds for which stake that was redelegated must not move onward; zero where there is no such lock.
    pub redelegation_lock_seconds: u64,
    /// The most validators one account can stake with.
    pub max_validators: u32,
    /// The least seconds between two claims; zero where there is no such rule.
    pub min_claim_interval_seconds: u64,
    /// Delegations and undelegations move whole multiples of this many base units (TRX votes).
    pub delegation_unit: BaseUnits,
}

/// What a chain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The chain.
    pub chain: ChainId,
    /// Its native asset.
    pub asset: AssetId,
    /// Decimals of the asset, for showing only.
    pub decimals: u32,
    /// Where our stake is kept, and where a FUND goes to.
    pub staking_address: String,
    /// The one address that a DEFUND goes to.
    pub custody_address: String,
    /// Seconds from undelegating to maturity.
    pub unbonding_seconds: u64,
    /// An unbonding begun within so many seconds of the start of one that pends with the same validator becomes part of
    /// it and comes back with it (DOT: of one era, APT: of one lock-up cycle). Zero where each is its own, and where joining
    /// would restart the wait of what pends (NEAR).
    pub unbonding_join_seconds: u64,
    /// Seconds of one reward epoch.
    pub epoch_seconds: u64,
    /// How rewards are paid.
    pub reward_style: RewardStyle,
    /// How matured funds become liquid.
    pub withdraw_style: WithdrawStyle,
    /// Limits.
    pub limits: ChainLimits,
    /// How soon it does what it took.
    pub pace: ChainPace,
    /// What one ordinary transaction is expected to cost at most.
    pub fee_estimate: BaseUnits,
    /// What one operation may lose of the stake that it touches by the chain's own rounding: a drop of no more is no slash
    /// and the house's.
    pub rounding_units: BaseUnits,
    /// Whether this is the simulated chain. It is shown in every pool, distribution and payout.
    pub simulated: bool,
}

/// Our stake with one validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// With whom.
    pub validator: ValidatorId,
    /// How much is staked.
    pub amount: BaseUnits,
    /// Rewards that a claim would pay now.
    pub pending_reward: BaseUnits,
    /// Part of `amount` that must not be redelegated yet.
    pub redelegation_locked: BaseUnits,
}

/// One pending or matured unbonding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbonding {
    /// From whom.
    pub validator: ValidatorId,
    /// How much.
    pub amount: BaseUnits,
    /// When it matures.
    pub matures_at: UnixSeconds,
    /// Whether it has matured and waits for a withdrawal.
    pub matured: bool,
}

/// Everything about the staking address, at one height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The height that all of it was read at.
    pub height: u64,
    /// The chain's time at that height.
    pub at: UnixSeconds,
    /// Liquid balance of the staking address.
    pub liquid: BaseUnits,
    /// Our delegations, by validator, those of zero left out.
    pub delegations: Vec<Delegation>,
    /// Our unbondings, matured ones that were not withdrawn included.
    pub unbondings: Vec<Unbonding>,
    /// All validators that the chain knows.
    pub validators: Vec<ChainValidator>,
}

/// A transaction before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    /// The bytes to sign, whole: what the chain hashes and verifies the signature of.
    pub bytes: Vec<u8>,
    /// What the bytes do, decoded from the bytes and not copied from the request.
    pub says: Decoded,
}

/// A signed transaction: exactly these bytes are stored before the first broadcast, and only they are ever sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The bytes to broadcast.
    pub bytes: Vec<u8>,
    /// The transaction's id, computed here and not by a node.
    pub transaction: TransactionId,
    /// How long the bytes live.
    pub lifetime: Lifetime,
}

/// What an adapter makes of unsigned bytes and a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// What is to be sent.
    pub signed: Signed,
    /// What the bytes to be sent do, decoded from them again.
    pub says: Decoded,
}

/// What the chain says of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Proved: it is not on the chain, and the bytes last signed for it can never be.
    AbsentForGood,
    /// It is not on the chain at this height; the bytes last signed for it may still be included.
    Absent,
    /// Seen, not final.
    Pending,
    /// Final and done: all its effects.
    Done { height: u64, effects: Vec<Effect> },
    /// Final and failed: it did nothing but what `effects` say (a fee, as a rule).
    Failed { height: u64, reason: String, effects: Vec<Effect> },
}

/// Why a chain could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No answer, or a lost one. After `submit` the outcome is unknown; only `lookup` tells.
    #[error("the chain did not answer: {0}")]
    Unavailable(String),
    /// The chain or the adapter refused for good: nothing happened and nothing will.
    #[error("the chain refused: {0}")]
    Refused(String),
    /// What the chain answered contradicts itself or the request.
    #[error("the chain's answer can't be trusted: {0}")]
    Untrusted(String),
}

/// One chain, as softstake needs it: the contract of every adapter.
///
/// - **Idempotency.** All but `submit` are reads: they may be repeated, dropped and made at the same time, and reserve or
///   change nothing. `submit` has at most one effect per operation id, however often it is called with the same bytes.
/// - **Timeouts.** Every call is bounded from outside (`operations.call_timeout_ms`, [`bounded::Bounded`]) and counts as
///   [`ChainError::Unavailable`] then. An adapter bounds each of its own requests below that.
/// - **Cancellation.** A call's future may be dropped at any point. Dropping a read loses nothing. Dropping `submit`
///   leaves the outcome unknown, which a look-up tells.
/// - **Finality.** Everything that is answered is final on the chain, but for [`Lookup::Pending`].
/// - **State.** An adapter keeps none that has to last: signed bytes, id and lifetime are handed in.
#[async_trait]
pub trait ChainAdapter: Send + Sync + 'static {
    /// What this chain is. A read; limits come from the chain itself.
    async fn descriptor(&self) -> Result<Descriptor, ChainError>;

    /// Our whole state at one final height: all that it names is of that height. A read.
    async fn observe(&self) -> Result<Observation, ChainError>;

    /// Builds the transaction for one operation. A read; nothing is reserved, a nonce neither. `Refused` where no block
    /// could do it.
    async fn prepare(&self, id: &OperationId, kind: &OperationKind) -> Result<Unsigned, ChainError>;

    /// The transaction of `unsigned` and the signature that a signer gave for it. A read that asks no node. `Untrusted`
    /// where the signature is none of these bytes by the staking address's key.
    async fn assemble(&self, id: &OperationId, unsigned: &Unsigned, signature: &[u8]) -> Result<Assembled, ChainError>;

    /// Broadcasts. At most one effect per operation id, however often it is called with the same bytes; other bytes for
    /// it are sent only after the ones before were proved dead.
    ///
    /// `Refused` is a proof that these bytes are nowhere and never will be, since the first one ends the operation: a
    /// node that says "already known", or whatever else may follow an earlier delivery, is `Ok` or `Unavailable`.
    async fn submit(&self, id: &OperationId, signed: &Signed) -> Result<(), ChainError>;

    /// What became of an operation. `signed` is what was last stored for it. A read. `AbsentForGood` is a proof at
    /// finality: past the bytes' lifetime, and not included before. A node that has forgotten as much proves nothing.
    async fn lookup(&self, id: &OperationId, signed: &Signed) -> Result<Lookup, ChainError>;

    /// Every final effect on our addresses with `from < height <= to`, in chain order, without gaps, under the same
    /// keys as [`Lookup::Done`] gives, whoever caused it. A read. `Unavailable` where a part can't be read: never less.
    async fn effects(&self, from: u64, to: u64) -> Result<Vec<Effect>, ChainError>;
}

/// Whoever holds the key of the staking address.
#[async_trait]
pub trait Signer: Send + Sync + 'static {
    /// The signature of `unsigned.bytes` for the operation `id`, as the chain takes it. `Refused` if it will not sign.
    ///
    /// May be asked again for the same operation, with the same or with other bytes: softstake stores one signed
    /// transaction at a time for it, and asks for another after the one before was proved dead or was never stored. A
    /// call's future may be dropped; a signature that was made then is lost, and nothing was sent.
    async fn sign(&self, id: &OperationId, unsigned: &Unsigned) -> Result<Vec<u8>, ChainError>;
}

/// The share of a whole as a decimal between 0 and 1, as chains and configurations write rates.
pub type Rate = Decimal;
