//! A cluster of thousands of nodes on one machine: a real slurmctld that has never seen any of them, and agents that
//! are one process. Slurm has nodes that are DOWN rebooted at once, so it hands all of them over in one go.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::cluster::node::Node;
use crate::cluster::{Cluster, ClusterSpec};
use crate::error::{LabError, Result};
use crate::load::many_agents::ManyAgents;
use crate::product::Product;
use crate::systems::base::Base;

/// slurm-rollout's port for agents.
const AGENT_PORT: u16 = 6821;
/// slurmctld reads thousands of nodes, on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(200);
/// Number of nodes on one line of slurm.conf; one byte of an address has room for them.
const IN_A_LINE: usize = 250;

/// Names, number and addresses of the nodes.
#[derive(Debug, Clone, Copy)]
pub struct ManyNodes {
    /// Their names are this and five digits from 00001.
    pub prefix: &'static str,
    /// Number of nodes, a multiple of 500.
    pub count: usize,
    /// Number of dead nodes, which are the last ones; a multiple of 500. Half of them refuse connections, half are
    /// silent.
    pub dead: usize,
}

/// The cluster: one machine, on which slurmctld and the agents run.
#[derive(Debug)]
pub struct Crowd {
    pub cluster: Cluster,
    pub agents: ManyAgents,
    nodes: ManyNodes,
}

impl ManyNodes {
    /// All nodes as a hostlist.
    pub fn list(&self) -> String {
        format!("{}[00001-{:05}]", self.prefix, self.count)
    }

    /// Names of the living and of the dead nodes.
    pub fn fates(&self) -> (Vec<String>, Vec<String>) {
        let name = |number| format!("{}{number:05}", self.prefix);
        let living = self.count - self.dead;
        ((1..=living).map(name).collect(), (living + 1..=self.count).map(name).collect())
    }

    /// A node's address: the living ones are this machine, the others behind a router, which refuses or drops.
    pub fn address(&self, name: &str) -> Option<IpAddr> {
        let index = name.strip_prefix(self.prefix)?.parse::<usize>().ok()?.checked_sub(1)?;
        let [first, second, third] = self.network(index / IN_A_LINE);
        let last = u8::try_from(index % IN_A_LINE + 1).ok()?;
        Some(Ipv4Addr::new(first, second, third, last).into())
    }

    fn network(&self, line: usize) -> [u8; 3] {
        let living = (self.count - self.dead) / IN_A_LINE;
        let third = u8::try_from(line % 256).unwrap_or(0);
        match line.checked_sub(living) {
            None => [127, 1, third],
            Some(dead) if dead % 2 == 0 => [10, REFUSES, third],
            Some(_) => [10, DROPS, third],
        }
    }

    fn slurm_conf(&self) -> String {
        let line = |line: usize| {
            let (from, [a, b, c]) = (line * IN_A_LINE, self.network(line));
            let (first, last) = (from + 1, from + IN_A_LINE);
            let names = format!("{}[{first:05}-{last:05}]", self.prefix);
            format!("NodeName={names} NodeAddr={a}.{b}.{c}.[1-{IN_A_LINE}] CPUs=1 RealMemory=500\n")
        };
        (0..self.count / IN_A_LINE).map(line).collect()
    }

    /// Boots the cluster; slurmctld has read all nodes when this returns, and all of them are DOWN.
    pub fn start(self, product: &Product, base: Base, reboot_program: Option<&str>) -> Result<Crowd> {
        let spec = ClusterSpec {
            base,
            nodes: 0,
            resume_timeout_s: 3000,
            slurm_conf_extra: format!("SlurmdTimeout=0\n{}", self.slurm_conf()),
            ..ClusterSpec::default()
        };
        let mut spec = product.install(spec);
        spec.reboot_program = reboot_program.map_or(spec.reboot_program, str::to_owned);
        let cluster = Cluster::start(&spec)?;
        let end = Instant::now() + LIMIT;
        let controller = cluster.controller();
        while controller.exec(&["scontrol", "ping"]).map_or(true, |said| !said.stdout.contains("is UP")) {
            if Instant::now() > end {
                return Err(LabError::Setup(format!("slurmctld is not up: {}", controller.console_tail())));
            }
            std::thread::sleep(POLL);
        }
        cluster.route_to_dead_nodes()?;
        let agents = ManyAgents::on(controller, AGENT_PORT)?;
        let crowd = Crowd { cluster, agents, nodes: self };
        crowd.all_down()?;
        Ok(crowd)
    }
}

/// Second byte of a dead node's address, by its behaviour.
pub(crate) const REFUSES: u8 = 98;
pub(crate) const DROPS: u8 = 99;

impl Crowd {
    /// The machine.
    pub fn controller(&self) -> &Node {
        self.cluster.controller()
    }

    /// Makes all nodes DOWN, as after a long absence, whatever the last hand-over has left.
    pub fn all_down(&self) -> Result<()> {
        let name = format!("nodename={}", self.nodes.list());
        // From a reboot that was issued there is no other way to DOWN that Slurm remembers as one.
        if self.count("REBOOT_ISSUED")? > 0 {
            self.scontrol(&["update", &name, "state=resume"])?;
        }
        self.scontrol(&["update", &name, "state=down", "reason=lab"])
    }

    /// One `scontrol reboot` for all nodes. When this returns Slurm has handed all of them over.
    pub fn hand_over(&self) -> Result<()> {
        self.scontrol(&["reboot", "nextstate=resume", "reason=update", &self.nodes.list()])?;
        let end = Instant::now() + LIMIT;
        loop {
            let issued = self.count("REBOOT_ISSUED")?;
            if issued == self.nodes.count {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(LabError::Setup(format!("{issued} of {} are handed over", self.nodes.count)));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Makes the dead nodes answer: packets to them come to this machine.
    pub fn raise_the_dead(&self) -> Result<()> {
        self.cluster.route_dead_nodes_here()
    }

    /// Counts the nodes with this flag in their state.
    fn count(&self, flag: &str) -> Result<usize> {
        let text = self.controller().command(&["scontrol", "show", "node", "-o"])?.limit(LIMIT).run()?;
        let states = text.lines().filter_map(crate::state_of);
        Ok(states.filter(|state| state.split('+').any(|word| word.trim_end_matches('*') == flag)).count())
    }

    fn scontrol(&self, args: &[&str]) -> Result<()> {
        let argv = [&["scontrol"], args].concat();
        self.controller().command(&argv)?.limit(LIMIT).run().map(drop)
    }
}
