//! Requests of reboots, and their withdrawal.

use super::Scontrol;
use super::arguments::{MAX_ARGUMENT, SlurmError, check_name, check_nodes, for_each_part, parts};
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::reason::Reason;
use rollout_core::text::one_line;

/// Length limit of a node list in a line on standard input. scontrol without readline reads lines of up to 4095 bytes
/// (`_getline` in `src/scontrol/scontrol.c`, 22.05 to 26.05).
const MAX_LIST_IN_LINE: usize = 3400;

/// Length limit of a Reason in such a line, in bytes.
const MAX_REASON_IN_LINE: usize = 400;

/// A kind of `scontrol reboot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebootRequest<'a> {
    /// `ASAP nextstate=resume`: the node starts no more jobs and reboots after its last one. For nodes in service.
    Asap { reason: &'a str },
    /// `nextstate=resume`: jobs start on the node until it is idle. Slurm reboots a node that is DOWN at once.
    WhenIdle { reason: &'a str },
    /// Neither nextstate nor Reason: a DRAIN of others and its Reason outlive the reboot. For idle nodes only, because
    /// cancelling such a request would remove that DRAIN.
    KeepingDrain,
}

impl RebootRequest<'_> {
    fn arguments(self) -> Result<Vec<String>, SlurmError> {
        let with_reason = |options: &[&str], reason| {
            check_name("reason", reason)?;
            let options = options.iter().map(|option| (*option).to_owned());
            Ok(options.chain([format!("reason={reason}")]).collect())
        };
        match self {
            Self::Asap { reason } => with_reason(&["ASAP", "nextstate=resume"], reason),
            Self::WhenIdle { reason } => with_reason(&["nextstate=resume"], reason),
            Self::KeepingDrain => Ok(Vec::new()),
        }
    }
}

impl Scontrol {
    /// Requests a reboot of nodes. A Reason must be a name, such as that of a rollout.
    ///
    /// Slurm silently skips nodes whose reboot is requested or issued and those that are powered down
    /// (`_slurm_rpc_reboot_nodes` in `src/slurmctld/proc_req.c`, 22.05 to 26.05): read the nodes back. Up to 25.11,
    /// Slurm runs RebootProgram with all nodes that are ready at the same second as one argument without ranges, which
    /// Linux limits to 128 KiB: request at most 2,000 nodes at a time.
    ///
    /// # Errors
    /// If an argument is refused, or scontrol fails or does not answer in time. Other nodes of a long list may have
    /// been requested.
    pub fn reboot(&self, nodes: &NodeSet, request: RebootRequest<'_>) -> Result<(), SlurmError> {
        let arguments = request.arguments()?;
        for_each_part(nodes, MAX_ARGUMENT, |part| {
            self.program(["reboot"]).args(&arguments).arg(part.to_string()).run().map(drop)
        })
    }

    /// Cancels requested reboots. Read the nodes back: one without REBOOT_REQUESTED is cancelled, and one with
    /// REBOOT_ISSUED goes on.
    ///
    /// A node that is not requested, or already issued, makes scontrol fail with `Invalid node state`, although Slurm
    /// cancels all others of the list (`update_node` in `src/slurmctld/node_mgr.c`, 22.05 to 26.05). Such a failure is
    /// none.
    ///
    /// # Errors
    /// If an argument is refused, or scontrol fails for other causes or does not answer in time.
    pub fn cancel_reboot(&self, nodes: &NodeSet) -> Result<(), SlurmError> {
        for_each_part(nodes, MAX_ARGUMENT, |part| {
            let program = self.program(["cancel_reboot"]).arg(part.to_string());
            let output = program.output()?;
            let is_too_late =
                [&output.stderr, &output.stdout].iter().any(|text| text.contains("Invalid node state"));
            if output.status.success() || is_too_late { Ok(()) } else { Err(program.failed(&output)) }
        })
    }

    /// Cancels requested reboots of nodes that must stay drained, for which [`Scontrol::cancel_reboot`] would remove
    /// the DRAIN.
    ///
    /// State=RESUME cancels the request and leaves the node unschedulable until slurmd answers, which takes a fraction
    /// of a second. State=DRAIN follows from the same process. Read the nodes back: RESUME removes REBOOT_ISSUED from a
    /// node that was handed over in between, although it boots.
    ///
    /// Slurm refuses RESUME of a node that is INVALID_REG, but not the cancellation (`_valid_node_state_change` in
    /// `src/slurmctld/node_mgr.c`, 22.05 to 26.05). That may remove the DRAIN, and State=DRAIN follows in the same way.
    ///
    /// # Errors
    /// If an argument is refused, or a command fails or does not end in time. The nodes may have been resumed: repeat
    /// it, or drain them.
    pub fn cancel_reboot_keeping_drain(
        &self,
        nodes: &NodeSet,
        reason: &Reason,
        invalid_reg: bool,
    ) -> Result<(), SlurmError> {
        check_nodes(nodes)?;
        let text = in_quotes(reason.as_str());
        if text.is_empty() {
            return Err(SlurmError::argument(
                "reason",
                reason.as_str(),
                "Slurm drains no node without a Reason",
            ));
        }
        let mut lines = String::new();
        for part in parts(nodes, MAX_LIST_IN_LINE) {
            lines.push_str(&match invalid_reg {
                true => format!("cancel_reboot {part}\n"),
                false => format!("update NodeName={part} State=RESUME\n"),
            });
            lines.push_str(&format!("update NodeName={part} State=DRAIN Reason=\"{text}\"\n"));
        }
        let drained = self.program([]).stdin(lines).run().map(drop);
        let corrected = match text == reason.as_str() {
            true => Ok(()),
            false => for_each_part(nodes, MAX_ARGUMENT, |part| self.set_reason(part, reason)),
        };
        drained.map_err(SlurmError::from).and(corrected)
    }
}

/// Returns a Reason in a form that scontrol reads between double quotes on standard input, where it knows no escapes:
/// one line of ASCII without double quotes, because readline may change other characters.
fn in_quotes(reason: &str) -> String {
    let plain = |c: char| match c {
        '"' => '\'',
        c if c.is_ascii() => c,
        _ => '?',
    };
    let text: String = reason.chars().map(plain).collect();
    // `one_line` shortens with a character that is not ASCII.
    one_line(&text, MAX_REASON_IN_LINE).chars().map(plain).collect()
}
