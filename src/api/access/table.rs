//! Who may call what: every call that is served, and the roles that may make it. What has no row is refused.

use std::fmt;

/// What a principal may do, by the kind of service or person that it is. A principal may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The ledger service: balances and decisions of customers in, payouts out.
    Ledger,
    /// The custody service: transfers.
    Custody,
    /// Reads pools and every account, and changes nothing.
    Reader,
    /// Runs the service from day to day, and proposes what takes a second person.
    Operator,
    /// The second person.
    Approver,
    /// Sets the service up: pools, policies, sources, backups.
    Admin,
    /// Moves a simulated world by hand.
    Simulator,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 7] =
        [Self::Ledger, Self::Custody, Self::Reader, Self::Operator, Self::Approver, Self::Admin, Self::Simulator];

    /// Its name in an identity file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Custody => "custody",
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
            Self::Simulator => "simulator",
        }
    }

    /// The role of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever reaches the service. For probes alone.
    Anyone,
    /// Every known principal, whatever its roles.
    Known,
    /// A principal with one of these roles.
    Roles(&'static [Role]),
}

/// One call and who may make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its path, such as `/softstake.v1.PoolService/GetPool`.
    pub path: &'static str,
    /// Who may make it.
    pub who: Who,
    /// Whether its answer is a stream, which may be open for days. Any other answer says what was done already.
    pub streams: bool,
}

impl Row {
    /// The call as records and messages name it: `PoolService/GetPool`, and by its whole path where it is none of
    /// `softstake.v1`.
    pub fn call(&self) -> &'static str {
        self.path.strip_prefix("/softstake.v1.").unwrap_or(self.path)
    }

    /// The row of the call at `path`.
    pub fn of(path: &str) -> Option<&'static Self> {
        TABLE.iter().find(|row| row.path == path)
    }
}

use Role::{Admin, Approver, Custody, Ledger, Operator, Reader, Simulator};

const LEDGER: Who = Who::Roles(&[Ledger]);
const CUSTODY: Who = Who::Roles(&[Custody]);
const APPROVER: Who = Who::Roles(&[Approver]);
const OPERATOR: Who = Who::Roles(&[Operator]);
const ADMIN: Who = Who::Roles(&[Admin]);
const SIMULATOR: Who = Who::Roles(&[Simulator]);
const LEDGER_OR_OPERATOR: Who = Who::Roles(&[Ledger, Operator]);
const OPERATOR_OR_ADMIN: Who = Who::Roles(&[Operator, Admin]);
const OPERATOR_OR_APPROVER: Who = Who::Roles(&[Operator, Approver]);
/// Those who run the service, whichever part of it.
const STAFF: Who = Who::Roles(&[Operator, Approver, Admin]);
/// What says something of a single customer.
const ACCOUNTS: Who = Who::Roles(&[Ledger, Reader, Operator, Approver]);
/// What says something of a pool as a whole.
const POOLS: Who = Who::Roles(&[Ledger, Custody, Reader, Operator, Approver, Admin]);

macro_rules! table {
    ($($service:literal { $($call:ident: $who:expr $(=> $stream:ident)?),+ $(,)? })+) => {
        &[$($(Row {
            path: concat!("/", $service, "/", stringify!($call)),
            who: $who,
            streams: table!(@ $($stream)?),
        }),+),+]
    };
    (@ stream) => { true };
    (@) => { false };
}

/// Every call that there is.
pub const TABLE: &[Row] = table! {
    "softstake.v1.BalanceFeedService" {
        StreamBalances: LEDGER => stream,
        PutBalance: LEDGER,
        GetCursor: Who::Roles(&[Ledger, Reader, Operator]),
        CorrectBalance: LEDGER_OR_OPERATOR,
        SetEnrolment: LEDGER_OR_OPERATOR,
    }
    "softstake.v1.TransferService" {
        StreamTransfers: CUSTODY => stream,
        AckTransfer: CUSTODY,
        ReportCustody: CUSTODY,
    }
    "softstake.v1.PayoutService" {
        StreamPayouts: LEDGER => stream,
        AckPayouts: LEDGER,
    }
    "softstake.v1.AccountService" {
        GetPosition: ACCOUNTS,
        ListPayouts: ACCOUNTS,
        ListEnrolments: ACCOUNTS,
        GetEarnings: ACCOUNTS,
        ExplainPayout: ACCOUNTS,
        GetPayoutProof: ACCOUNTS,
    }
    "softstake.v1.PoolService" {
        ListPools: POOLS,
        GetPool: POOLS,
        ListValidators: POOLS,
        ListDelegations: POOLS,
        ListDistributions: POOLS,
        GetDistribution: POOLS,
        ListOperations: POOLS,
        GetOperation: POOLS,
        WatchPool: POOLS => stream,
    }
    "softstake.v1.AdminService" {
        CreatePool: ADMIN,
        UpdatePool: ADMIN,
        RegisterSource: ADMIN,
        RetireSource: ADMIN,
        ListSources: Who::Roles(&[Reader, Operator, Approver, Admin]),
        HandOverPosition: OPERATOR,
        PutValidator: OPERATOR_OR_ADMIN,
        RemoveValidator: OPERATOR_OR_ADMIN,
        PlanRebalance: STAFF,
        Rebalance: OPERATOR,
        ClosePeriod: OPERATOR,
        ApproveDistribution: APPROVER,
        VoidDistribution: OPERATOR_OR_APPROVER,
        PausePool: STAFF,
        ResumePool: OPERATOR,
        RetryOperation: OPERATOR,
        ResolveOperation: OPERATOR,
        RecordReceipt: OPERATOR,
        Reconcile: OPERATOR,
        AcceptDifferences: OPERATOR,
        ListApprovals: STAFF,
        Approve: APPROVER,
        ListAuditEvents: STAFF,
        Backup: OPERATOR_OR_ADMIN,
    }
    "softstake.sim.v1.SimulationService" {
        AdvanceTime: SIMULATOR,
        GetTime: SIMULATOR,
        SetFault: SIMULATOR,
        ClearFaults: SIMULATOR,
        GetChainTotals: SIMULATOR,
        SendFromCustody: SIMULATOR,
    }
    "grpc.health.v1.Health" {
        Check: Who::Anyone,
        Watch: Who::Known => stream,
    }
    "grpc.reflection.v1.ServerReflection" {
        ServerReflectionInfo: Who::Known => stream,
    }
    "grpc.reflection.v1alpha.ServerReflection" {
        ServerReflectionInfo: Who::Known => stream,
    }
};

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use prost::Message;
    use prost_types::{FileDescriptorSet, MethodDescriptorProto};

    use super::*;

    /// The path of every call of every descriptor that reflection is given, and whether its answer is a stream.
    fn described() -> BTreeMap<String, bool> {
        let mut paths = BTreeMap::new();
        for set in [
            crate::pb::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    let name = format!("{}.{}", file.package(), service.name());
                    let row = |method: &MethodDescriptorProto| {
                        (format!("/{name}/{}", method.name()), method.server_streaming())
                    };
                    paths.extend(service.method.iter().map(row));
                }
            }
        }
        paths
    }

    #[test]
    fn every_call_has_one_row_and_every_row_is_a_call() {
        let rows: BTreeMap<String, bool> = TABLE.iter().map(|row| (row.path.to_owned(), row.streams)).collect();
        assert_eq!(rows.len(), TABLE.len(), "a call has two rows");
        let described = described();
        let missing: Vec<_> = described.keys().filter(|path| !rows.contains_key(*path)).collect();
        assert!(missing.is_empty(), "without a row nobody may call {missing:?}");
        let unknown: Vec<_> = rows.keys().filter(|path| !described.contains_key(*path)).collect();
        assert!(unknown.is_empty(), "there is no such call: {unknown:?}");
        assert_eq!(rows, described, "which calls answer with a stream");
    }

    #[test]
    fn only_a_health_check_is_open() {
        let open: Vec<_> = TABLE.iter().filter(|row| row.who == Who::Anyone).map(|row| row.path).collect();
        assert_eq!(open, ["/grpc.health.v1.Health/Check"]);
        let known = TABLE.iter().filter(|row| row.who == Who::Known);
        assert!(known.into_iter().all(|row| row.path.starts_with("/grpc.")));
    }

    #[test]
    fn a_row_names_its_roles_once_and_nobody_proposes_and_approves_by_one_role() {
        for row in TABLE {
            if let Who::Roles(roles) = row.who {
                let once: BTreeSet<_> = roles.iter().collect();
                assert!(!roles.is_empty() && once.len() == roles.len(), "{}", row.path);
            }
        }
        let roles = |call: &str| TABLE.iter().find(|row| row.call() == call).map(|row| row.who);
        for approving in ["AdminService/Approve", "AdminService/ApproveDistribution"] {
            assert_eq!(roles(approving), Some(Who::Roles(&[Role::Approver])));
        }
        for proposing in ["AdminService/UpdatePool", "AdminService/ResumePool", "AdminService/RecordReceipt"] {
            assert!(matches!(roles(proposing), Some(Who::Roles(roles)) if !roles.contains(&Role::Approver)));
        }
    }

    #[test]
    fn a_role_has_its_name_back() {
        for role in Role::ALL {
            assert_eq!(Role::named(role.name()), Some(role));
        }
        assert_eq!(Role::named("root"), None);
    }
}
