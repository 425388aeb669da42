//! What the chain says of an operation.

use super::effect::{effect, write_effects};
use super::{Malformed, Read, each};
use crate::chain::Lookup;
use crate::domain::effect::Effect;
use crate::domain::ids::OperationId;
use crate::pb::adapter::v1 as pb;
use crate::pb::adapter::v1::lookup_response::Outcome;

/// Reads it: effects that are final together are of one height and of the operation that was asked for.
pub(in crate::chain::remote) fn lookup(id: &OperationId, answer: pb::LookupResponse) -> Read<Lookup> {
    Ok(match answer.outcome.ok_or_else(|| Malformed::new("outcome", "is missing"))? {
        Outcome::AbsentForGood(_) => Lookup::AbsentForGood,
        Outcome::Absent(_) => Lookup::Absent,
        Outcome::Pending(_) => Lookup::Pending,
        Outcome::Done(done) => {
            let effects = each("done.effects", done.effects, effect)?;
            of_one(id, "done.effects", &effects, done.height)?;
            Lookup::Done { height: done.height, effects }
        }
        Outcome::Failed(failed) => {
            let effects = each("failed.effects", failed.effects, effect)?;
            of_one(id, "failed.effects", &effects, failed.height)?;
            Lookup::Failed { height: failed.height, reason: failed.reason, effects }
        }
    })
}

fn of_one(id: &OperationId, path: &str, effects: &[Effect], height: u64) -> Read<()> {
    for (at, effect) in effects.iter().enumerate() {
        if effect.operation.as_ref() != Some(id) {
            let problem = format!("is not {id}, which was asked for");
            return Err(Malformed::new(&format!("{path}[{at}].operation_id"), problem));
        }
        if effect.height < height {
            return Err(Malformed::new(&format!("{path}[{at}].height"), "is before the operation's"));
        }
        if effects.iter().take(at).any(|other| other.key == effect.key) {
            return Err(Malformed::new(&format!("{path}[{at}].key"), format!("{} stands there twice", effect.key)));
        }
    }
    Ok(())
}

/// The same as a message.
pub(in crate::chain::remote) fn write_lookup(lookup: &Lookup) -> pb::LookupResponse {
    let outcome = match lookup {
        Lookup::AbsentForGood => Outcome::AbsentForGood(pb::AbsentForGood {}),
        Lookup::Absent => Outcome::Absent(pb::Absent {}),
        Lookup::Pending => Outcome::Pending(pb::Pending {}),
        Lookup::Done { height, effects } => {
            Outcome::Done(pb::Done { height: *height, effects: write_effects(effects) })
        }
        Lookup::Failed { height, reason, effects } => {
            Outcome::Failed(pb::Failed { height: *height, reason: reason.clone(), effects: write_effects(effects) })
        }
    };
    pb::LookupResponse { outcome: Some(outcome) }
}
