//! What is asked of the service, each under its own request id: sent again until it is answered, and now and then once
//! more, to see that the answer is the same.

use crate::app::enrol::Enrol;
use crate::app::pay::RejectedAck;
use crate::app::transfer::Acknowledgement;
use crate::app::{App, AppError, Failure, Once, Reason, Request};
use crate::domain::amount::BaseUnits;
use crate::domain::caller::Caller;
use crate::domain::distribution::AfterVoid;
use crate::domain::ids::{AccountId, OperationId, PoolId, RequestId, SourceId, TransferId};
use crate::domain::operation::Resolution;
use crate::domain::payout::SetHash;
use crate::domain::period::PeriodIndex;
use crate::domain::policy::{PoolPolicy, PoolSettings};
use crate::domain::time::UnixSeconds;
use crate::store::records::ValidatorChoice;

use super::fault::Fault;
use super::world::{Stop, World};
use super::{Problem, founding};

/// What is asked.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    CreatePool(Box<crate::app::administer::NewPool>),
    RegisterSource(SourceId),
    RetireSource(SourceId),
    PutBalance {
        pool: usize,
        account: usize,
        balance: u128,
        at: Option<UnixSeconds>,
    },
    SetEnrolment(Box<Enrol>),
    HandOver {
        pool: usize,
        account: usize,
        from: usize,
        to: usize,
    },
    AckPayouts {
        pool: usize,
        period: PeriodIndex,
        revision: u32,
        hash: SetHash,
        through: u64,
        rejected: Vec<RejectedAck>,
    },
    AckTransfer {
        pool: usize,
        id: TransferId,
        word: Acknowledgement,
    },
    ReportCustody {
        pool: usize,
        balance: BaseUnits,
        as_of: UnixSeconds,
    },
    Approve {
        pool: usize,
        period: PeriodIndex,
        revision: u32,
        hash: SetHash,
    },
    Void {
        pool: usize,
        period: PeriodIndex,
        revision: u32,
        mode: AfterVoid,
    },
    Pause {
        pool: usize,
        reason: Option<String>,
    },
    Retry {
        pool: usize,
        id: OperationId,
    },
    Resolve {
        pool: usize,
        id: OperationId,
        resolution: Resolution,
    },
    Correct {
        pool: usize,
        account: usize,
        balance: u128,
        at: UnixSeconds,
    },
    ApproveProposal {
        number: u64,
        hash: [u8; 32],
        /// Whether whoever proposed it approves it, which is always refused.
        own: bool,
    },
    Accept {
        pool: usize,
        hash: [u8; 32],
    },
    Close {
        pool: usize,
        index: PeriodIndex,
    },
    Update {
        pool: usize,
        etag: Option<u64>,
        policy: Option<Box<PoolPolicy>>,
        settings: Option<Box<PoolSettings>>,
    },
    PutValidator {
        pool: usize,
        etag: Option<String>,
        choice: ValidatorChoice,
    },
    Rebalance {
        pool: usize,
    },
}

impl Ask {
    /// The method, as the service names it.
    pub(super) const fn method(&self) -> &'static str {
        match self {
            Self::CreatePool(_) => "AdminService/CreatePool",
            Self::RegisterSource(_) => "AdminService/RegisterSource",
            Self::RetireSource(_) => "AdminService/RetireSource",
            Self::PutBalance { .. } => "BalanceFeedService/PutBalance",
            Self::SetEnrolment(_) => "BalanceFeedService/SetEnrolment",
            Self::HandOver { .. } => "AdminService/HandOverPosition",
            Self::AckPayouts { .. } => "PayoutService/AckPayouts",
            Self::AckTransfer { .. } => "TransferService/AckTransfer",
            Self::ReportCustody { .. } => "TransferService/ReportCustody",
            Self::Approve { .. } => "AdminService/ApproveDistribution",
            Self::Void { .. } => "AdminService/VoidDistribution",
            Self::Pause { reason: Some(_), .. } => "AdminService/PausePool",
            Self::Pause { reason: None, .. } => "AdminService/ResumePool",
            Self::Retry { .. } => "AdminService/RetryOperation",
            Self::Resolve { .. } => "AdminService/ResolveOperation",
            Self::Correct { .. } => "BalanceFeedService/CorrectBalance",
            Self::ApproveProposal { .. } => "AdminService/Approve",
            Self::Accept { .. } => "AdminService/AcceptDifferences",
            Self::Close { .. } => "AdminService/ClosePeriod",
            Self::Update { .. } => "AdminService/UpdatePool",
            Self::PutValidator { .. } => "AdminService/UpdateValidator",
            Self::Rebalance { .. } => "AdminService/Rebalance",
        }
    }
}

/// Where a call stands, as its caller knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallState {
    /// Not answered: it has to be sent again.
    Open,
    /// Done.
    Done,
    /// Refused: nothing was changed.
    Refused(Reason),
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) id: RequestId,
    pub(super) ask: Ask,
    pub(super) state: CallState,
    /// Whether some attempt may have been carried out without its answer being heard.
    unsure: bool,
}

impl Call {
    fn request(&self, body: &Ask) -> Request {
        let caller = match self.ask {
            Ask::ApproveProposal { own: false, .. } => Caller::local("the second person"),
            _ => Caller::service(),
        };
        Request::new(self.ask.method(), self.id.clone(), caller, format!("{body:?}").as_bytes())
    }
}

async fn send(app: &App, world: &Names, request: &Request, ask: &Ask) -> Result<Once, AppError> {
    let pool = |index: usize| app.pool(world.pools.get(index).unwrap_or(&world.nowhere));
    let account = |index: usize| world.accounts.get(index).unwrap_or(&world.nobody).clone();
    let source = |index: usize| world.sources.get(index).unwrap_or(&world.no_source);
    match ask.clone() {
        Ask::CreatePool(new) => app.create_pool(request, *new).await,
        Ask::RegisterSource(id) => app.register_source(request, id, "a simulated producer").await,
        Ask::RetireSource(id) => app.retire_source(request, &id).await,
        Ask::PutBalance { pool: of, account: whose, balance, at } => {
            let asset = pool(of)?.record.asset.clone();
            let balance = BaseUnits::new(balance).unwrap_or(BaseUnits::MAX);
            app.put_balance(request, account(whose), asset, balance, at).await.map(|(once, _)| once)
        }
        Ask::SetEnrolment(enrol) => app.set_enrolment(request, *enrol).await.map(|(once, _)| once),
        Ask::HandOver { pool: of, account: whose, from, to } => {
            app.hand_over_position(request, &*pool(of)?, &account(whose), source(from), source(to)).await
        }
        Ask::AckPayouts { pool: of, period, revision, hash, through, rejected } => {
            app.ack_payouts(request, &*pool(of)?, period, revision, hash, through, rejected).await
        }
        Ask::AckTransfer { pool: of, id, word } => {
            app.acknowledge_transfer(request, &*pool(of)?, &id, word, "simulated").await
        }
        Ask::ReportCustody { pool: of, balance, as_of } => {
            app.report_custody(request, &*pool(of)?, balance, as_of).await.map(|(once, _)| once)
        }
        Ask::Approve { pool: of, period, revision, hash } => {
            app.approve_distribution(request, &*pool(of)?, period, revision, hash).await
        }
        Ask::Void { pool: of, period, revision, mode } => {
            app.void_distribution(request, &*pool(of)?, period, revision, mode, "simulated").await
        }
        Ask::Pause { pool: of, reason: Some(reason) } => app.pause_pool(request, &*pool(of)?, &reason).await,
        Ask::Pause { pool: of, reason: None } => app.resume_pool(request, &*pool(of)?, "looked at").await,
        Ask::Retry { pool: of, id } => app.retry_operation(request, &*pool(of)?, &id).await,
        Ask::Resolve { pool: of, id, resolution } => {
            app.resolve_operation(request, &*pool(of)?, &id, &resolution, "looked up on the chain").await
        }
        Ask::Correct { pool: of, account: whose, balance, at } => {
            let what = (account(whose), pool(of)?.record.asset.clone());
            let balance = BaseUnits::new(balance).unwrap_or(BaseUnits::MAX);
            app.correct_balance(request, what, balance, at, "simulated").await.map(|(once, _)| once)
        }
        Ask::ApproveProposal { number, hash, own } => match app.approve(request, number, hash).await? {
            _ if own => Err(AppError::Broken(format!("approval {number} was given by whoever proposed it"))),
            (once, _) => Ok(once),
        },
        Ask::Accept { pool: of, hash } => app.accept_differences(request, &*pool(of)?, hash, "looked at").await,
        Ask::Close { pool: of, index } => app.close_period(request, &*pool(of)?, index).await,
        Ask::Update { pool: of, etag, policy, settings } => {
            let (policy, settings) = (policy.map(|policy| *policy), settings.map(|settings| *settings));
            app.update_pool(request, &*pool(of)?, etag, policy, settings).await
        }
        Ask::PutValidator { pool: of, etag, choice } => {
            app.put_validator(request, &*pool(of)?, etag.as_deref(), choice).await
        }
        Ask::Rebalance { pool: of } => app.rebalance(request, &*pool(of)?).await.map(|(once, _)| once),
    }
}

/// The names of a world.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) pools: Vec<PoolId>,
    pub(super) accounts: Vec<AccountId>,
    pub(super) sources: Vec<SourceId>,
    pub(super) nowhere: PoolId,
    pub(super) nobody: AccountId,
    pub(super) no_source: SourceId,
}

impl Names {
    pub(super) fn new(pools: Vec<PoolId>) -> Result<Self, Problem> {
        let account = |n: usize| AccountId::new(&format!("account-{n:03}")).map_err(Problem::of);
        let source = |name: &str| SourceId::new(name).map_err(Problem::of);
        Ok(Self {
            pools,
            accounts: (0..founding::ACCOUNTS).map(account).collect::<Result<_, _>>()?,
            // The last one is softstake's own.
            sources: ["spot", "margin", "earn", crate::app::ingest::PUT_BALANCE_NAME]
                .into_iter()
                .map(source)
                .collect::<Result<_, _>>()?,
            nowhere: PoolId::new("nowhere").map_err(Problem::of)?,
            nobody: AccountId::new("nobody").map_err(Problem::of)?,
            no_source: source("no-such-source")?,
        })
    }
}

impl World {
    /// Asks for something new. Says whether it is done.
    pub(super) async fn ask(&mut self, ask: Ask) -> Result<CallState, Stop> {
        let number = self.calls.len();
        let id = RequestId::new(&format!("call-{number}")).map_err(Problem::of)?;
        self.calls.push(Call { id, ask, state: CallState::Open, unsure: false });
        self.send_call(number).await
    }

    /// Sends the calls that are not answered.
    pub(super) async fn send_open_calls(&mut self) -> Result<(), Stop> {
        let open: Vec<usize> = (0..self.calls.len())
            .filter(|n| self.calls.get(*n).is_some_and(|call| call.state == CallState::Open))
            .collect();
        for number in open {
            self.send_call(number).await?;
        }
        Ok(())
    }

    async fn send_call(&mut self, number: usize) -> Result<CallState, Stop> {
        let Some(call) = self.calls.get(number).cloned() else { return Ok(CallState::Done) };
        let request = call.request(&call.ask);
        // Whoever is cut off does not know.
        if let Some(call) = self.calls.get_mut(number) {
            call.unsure = true;
        }
        let (names, ask) = (self.names.clone(), call.ask.clone());
        let answer = self.drive(async move |app| send(&app, &names, &request, &ask).await).await?;
        let method = call.ask.method();
        let (state, unsure) = match &answer {
            Ok(Once::First) => (CallState::Done, false),
            Ok(Once::Repeated { .. }) if call.unsure => (CallState::Done, false),
            Ok(Once::Repeated { .. }) => {
                return Err(Stop::failed(format!("{method} {}: repeated, and it was never sent before", call.id)));
            }
            Err(AppError::Refused(refusal)) => {
                self.coverage.hit("refusal", refusal.reason.as_str());
                if let Some((_, name)) = refusal.metadata.iter().find(|(key, _)| *key == "rejected") {
                    self.coverage.hit("rejected event", name.clone());
                }
                let later = matches!(refusal.reason, Reason::Overloaded | Reason::PeriodNotOpen);
                if later { (CallState::Open, call.unsure) } else { (CallState::Refused(refusal.reason), false) }
            }
            Err(error) => (self.unanswered(method, error)?, call.unsure || error.failure() != Failure::Busy),
        };
        self.note(|| match &answer {
            Ok(once) => format!("{method} {}: {once:?}  {:?}", call.id, call.ask),
            Err(error) => format!("{method} {}: {error}  {:?}", call.id, call.ask),
        });
        self.coverage.hit("call", method);
        if let Some(call) = self.calls.get_mut(number) {
            (call.state, call.unsure) = (state, unsure);
        }
        if state != CallState::Open {
            self.answered(&call.ask, state)?;
        }
        Ok(state)
    }

    /// What a failure leaves: the caller has to ask again, unless the failure must not be.
    pub(super) fn unanswered(&mut self, what: &str, error: &AppError) -> Result<CallState, Stop> {
        let failure = error.failure();
        self.coverage.hit("failure", format!("{failure:?}"));
        match failure {
            Failure::Busy | Failure::OutcomeUnknown | Failure::Chain => Ok(CallState::Open),
            Failure::Contention | Failure::Fault => Err(Stop::failed(format!("{what}: {error}"))),
        }
    }

    /// Repeats a call that was answered: the answer has to be the first one, and another body has to be refused.
    pub(super) async fn repeat_call(&mut self) -> Result<(), Stop> {
        let done: Vec<usize> = (0..self.calls.len())
            .filter(|n| self.calls.get(*n).is_some_and(|call| call.state == CallState::Done))
            .collect();
        let Some(number) = done.get(self.rng.index(done.len())) else { return Ok(()) };
        let Some(call) = self.calls.get(*number).cloned() else { return Ok(()) };
        let other = self.rng.below(3) == 0;
        let body = if other { Ask::Rebalance { pool: 99 } } else { call.ask.clone() };
        let (request, names, ask) = (call.request(&body), self.names.clone(), call.ask.clone());
        let answer = self.drive(async move |app| send(&app, &names, &request, &ask).await).await?;
        self.note(|| format!("again {} {}, other body {other}: {answer:?}", call.ask.method(), call.id));
        self.coverage.fault(if other { Fault::RequestOtherBody } else { Fault::RequestAgain });
        let told =
            |what: &str| Err(Stop::failed(format!("{} {} was done, and then {what}", call.ask.method(), call.id)));
        match answer {
            Ok(Once::Repeated { .. }) if !other => Ok(()),
            Ok(once) => told(&format!("{once:?} was the answer to a repeat")),
            Err(AppError::Refused(refusal)) => {
                self.coverage.hit("refusal", refusal.reason.as_str());
                match refusal.reason {
                    Reason::RequestIdReused if other => Ok(()),
                    // The first answer of a balance that was not accepted is a refusal too.
                    Reason::EventRejected | Reason::Overloaded => Ok(()),
                    _ => told(&format!("refused: {refusal}")),
                }
            }
            Err(error) => self.unanswered("a repeat", &error).map(|_| ()),
        }
    }
}
