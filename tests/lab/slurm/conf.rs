//! The text of a cluster's slurm.conf and cgroup.conf. Pure.

use crate::cluster::ClusterSpec;
use crate::cluster::network::{Host, NodeAddr};

pub(crate) const SLURMCTLD_LOG: &str = "/var/log/slurm/slurmctld.log";
pub(crate) const SLURMD_LOG: &str = "/var/log/slurm/slurmd.log";
/// State of slurmctld, which belongs to user slurm.
pub(crate) const STATE_SAVE_LOCATION: &str = "/var/spool/slurmctld";
pub(crate) const SLURMD_SPOOL: &str = "/var/spool/slurmd";

/// slurm.conf, the same on all nodes.
pub(crate) fn slurm_conf(spec: &ClusterSpec, hosts: &[Host]) -> String {
    let mut parameters = spec.slurmctld_parameters.clone();
    if spec.reboot_from_controller {
        parameters.insert(0, "reboot_from_controller".into());
    }
    let controllers = hosts.iter().filter(|host| host.is_controller());
    let controllers = controllers.map(|host| format!("SlurmctldHost={}({})\n", host.name, host.address()));
    let mut text = format!(
        "ClusterName=lab\n\
         {controllers}\
         SlurmUser=slurm\n\
         AuthType=auth/munge\n\
         StateSaveLocation={STATE_SAVE_LOCATION}\n\
         SlurmdSpoolDir={SLURMD_SPOOL}\n\
         SlurmctldLogFile={SLURMCTLD_LOG}\n\
         SlurmdLogFile={SLURMD_LOG}\n\
         ProctrackType=proctrack/linuxproc\n\
         TaskPlugin=task/none\n\
         SelectType=select/linear\n\
         MailProg=/bin/true\n\
         MinJobAge=86400\n\
         ReturnToService={return_to_service}\n\
         ResumeTimeout={resume_timeout}\n\
         RebootProgram={reboot_program}\n",
        controllers = controllers.collect::<String>(),
        return_to_service = spec.return_to_service,
        resume_timeout = spec.resume_timeout_s,
        reboot_program = spec.reboot_program,
    );
    if !parameters.is_empty() {
        text.push_str(&format!("SlurmctldParameters={}\n", parameters.join(",")));
    }
    text.push_str(spec.slurm_conf_extra.trim_end());
    text.push('\n');
    for host in hosts.iter().filter(|host| !host.is_controller()) {
        let address = match spec.node_addr {
            NodeAddr::Literal => format!(" NodeAddr={}", host.address()),
            NodeAddr::Name => String::new(),
        };
        text.push_str(&format!("NodeName={}{address} CPUs=1 RealMemory=500\n", host.name));
    }
    text.push_str("PartitionName=all Nodes=ALL Default=YES\n");
    text
}
