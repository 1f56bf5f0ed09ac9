//! The effects of steps in Slurm.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{JobEnd, Way};
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::reason::Reason;
use rollout_core::slurm::reservations::{name_of, name_of_job, name_of_wave};
use rollout_host::run::RunError;
use rollout_host::scontrol::{
    NewJob, NewReservation, NodesChange, RebootRequest, ReservationChange, ReservationFlag, Scontrol,
    SlurmError,
};
use rollout_plan::plan::{Effect, has_our_drain};

/// Messages of Slurm's commands if slurmctld was not reached or did not answer (`src/common/slurm_errno.c`, 22.05 to
/// 26.05).
const NO_ANSWER: [&str; 9] = [
    "Unable to contact slurm controller",
    "Slurm backup controller in standby mode",
    "Socket timed out",
    "Connection timed out",
    "Zero Bytes were transmitted or received",
    "Communication connection failure",
    "Message send failure",
    "Message receive failure",
    "Protocol authentication error",
];

/// Has Slurm carry out an effect. Hooks do not concern it. Its outcome is read back at the next tick.
///
/// # Errors
/// If Slurm was not asked, or refuses. The effect may have taken place all the same.
pub fn carry_out(scontrol: &Scontrol, rollout: &str, effect: &Effect) -> Result<(), SlurmError> {
    match effect {
        Effect::Request { nodes, way } => scontrol.reboot(nodes, request(rollout, *way)),
        Effect::Reserve { node, from_s, until_s } => {
            let nodes: NodeSet = std::iter::once(node.clone()).collect();
            reserve(scontrol, &name_of(rollout, node), &nodes, (Some(*from_s), *until_s), None)
        }
        Effect::Unreserve { node } => scontrol.delete_reservation(&name_of(rollout, node)),
        Effect::ReserveWave { wave, nodes, until_s, user, exists } => {
            let name = name_of_wave(rollout, *wave);
            match exists {
                true => extend(scontrol, &name, nodes, *until_s),
                false => reserve(scontrol, &name, nodes, (None, *until_s), user.as_deref()),
            }
        }
        Effect::UnreserveWave { wave } => scontrol.delete_reservation(&name_of_wave(rollout, *wave)),
        Effect::Submit { wave, run, nodes, job } => scontrol.submit(&NewJob {
            script: &job.script,
            name: &name_of_job(rollout, *wave, *run),
            reservation: &name_of_wave(rollout, *wave),
            nodes,
            time_limit: job.time_limit,
            user: job.user.as_deref(),
            options: &job.options,
        }),
        Effect::Cancel { nodes } => scontrol.cancel_reboot(nodes),
        Effect::CancelKeepingDrain { nodes, invalid_reg, reason } => {
            scontrol.cancel_reboot_keeping_drain(nodes, reason, *invalid_reg)
        }
        Effect::Drain { nodes, reason } => Ok(scontrol.drain(nodes, reason)?),
        Effect::Undrain { nodes, earlier } => Ok(undrain(scontrol, rollout, nodes, earlier.as_deref())?),
        Effect::Warn { record, ends_ms } => scontrol.notify(*record, &warning(rollout, *ends_ms)),
        // The executor has called it already.
        Effect::Call(_) => Ok(()),
        Effect::End { job, how: JobEnd::Requeued } => scontrol.requeue(*job),
        Effect::End { job, how: JobEnd::Cancelled } => scontrol.cancel(*job),
    }
}

/// Returns whether Slurm has refused: it was asked and has answered.
#[must_use]
pub fn is_refusal(error: &SlurmError) -> bool {
    match error {
        SlurmError::Run(RunError::Failed { status, tail, .. }) => {
            status.code().is_some() && !NO_ANSWER.iter().any(|message| tail.contains(message))
        }
        _ => false,
    }
}

/// Returns whether an effect ends a request. It needs no other one to come first.
#[must_use]
pub fn withdraws(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Cancel { .. }
            | Effect::CancelKeepingDrain { .. }
            | Effect::Unreserve { .. }
            | Effect::UnreserveWave { .. }
    )
}

/// Returns the effect in words, for the report of a failure.
#[must_use]
pub fn describe(effect: &Effect) -> String {
    match effect {
        Effect::Request { nodes, .. } => format!("reboot of {nodes} not requested"),
        Effect::Reserve { node, .. } => format!("{node} not reserved"),
        Effect::Unreserve { node } => format!("reservation of {node} not deleted"),
        Effect::Cancel { nodes } | Effect::CancelKeepingDrain { nodes, .. } => {
            format!("reboot of {nodes} not cancelled")
        }
        Effect::ReserveWave { wave, nodes, .. } => format!("{nodes} not reserved to qualify wave {wave}"),
        Effect::UnreserveWave { wave } => format!("reservation of wave {wave} not deleted"),
        Effect::Submit { wave, nodes, .. } => {
            format!("job that qualifies wave {wave} on {nodes} not submitted")
        }
        Effect::Drain { nodes, .. } => format!("{nodes} not drained"),
        Effect::Undrain { nodes, .. } => format!("drain of {nodes} not removed"),
        Effect::Warn { record, .. } => format!("users of job {record} not warned"),
        Effect::Call(call) => format!("hook {} not called", call.hook.name),
        Effect::End { job, how } => format!("job {job} not {}", how.name()),
    }
}

fn request(rollout: &str, way: Way) -> RebootRequest<'_> {
    match way {
        Way::Asap => RebootRequest::Asap { reason: rollout },
        Way::Drained => RebootRequest::KeepingDrain,
        // On a busy node, the Reason of a plain request is soon gone: it is for people, and nothing depends on it.
        Way::Down | Way::Reserved => RebootRequest::WhenIdle { reason: rollout },
    }
}

/// Keeps users' jobs from starting on nodes from a time on, in seconds since 1970, or from now on. Jobs that run then go
/// on. Jobs of root, of SlurmUser and of `user` may use the reservation.
fn reserve(
    scontrol: &Scontrol,
    name: &str,
    nodes: &NodeSet,
    (from_s, until_s): (Option<u64>, u64),
    user: Option<&str>,
) -> Result<(), SlurmError> {
    scontrol.create_reservation(&NewReservation {
        name,
        nodes,
        users: user.unwrap_or("root"),
        start_s: from_s,
        end_s: until_s,
        flags: &[ReservationFlag::Maint, ReservationFlag::IgnoreJobs],
    })
}

/// Sets the nodes of a reservation and its end, in seconds since 1970.
fn extend(scontrol: &Scontrol, name: &str, nodes: &NodeSet, until_s: u64) -> Result<(), SlurmError> {
    let nodes = Some(NodesChange::To(nodes));
    scontrol.update_reservation(name, ReservationChange { nodes, end_s: Some(until_s) })
}

/// Removes the drain of nodes that still have one of ours. Those that are down get their earlier Reason back.
fn undrain(
    scontrol: &Scontrol,
    rollout: &str,
    nodes: &NodeSet,
    earlier: Option<&str>,
) -> Result<(), RunError> {
    let mut infos = scontrol.show_nodes(nodes)?;
    infos.retain(|info| has_our_drain(rollout, info));
    let names = |chosen: &dyn Fn(&NodeInfo) -> bool| -> NodeSet {
        infos.iter().filter(|info| chosen(info)).map(|info| info.name.clone()).collect()
    };
    let is_given_back = |info: &NodeInfo| info.has("DOWN") && earlier.is_some();
    let (down, up) = (names(&is_given_back), names(&|info| !is_given_back(info)));
    if let Some(earlier) = earlier.filter(|_| !down.is_empty()) {
        scontrol.undrain_with_reason(&down, &Reason::restored(earlier))?;
    }
    if up.is_empty() { Ok(()) } else { scontrol.undrain(&up) }
}

fn warning(rollout: &str, ends_ms: u64) -> String {
    let at = i64::try_from(ends_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(
        || "soon".to_owned(),
        |at| format!("at {}", at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M %Z")),
    );
    format!("This job will be ended {at}: its node is updated ({rollout}).")
}
