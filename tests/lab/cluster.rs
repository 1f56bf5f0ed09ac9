//! A Slurm cluster: a controller and compute nodes, from its description to all nodes IDLE, and its end.

pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod node;

use std::fs::create_dir_all;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::machine::{Hardware, Machine};
use crate::cluster::network::{BACKUP, BRIDGE, Host, NodeAddr, ROUTER, hosts_file};
use crate::cluster::node::Node;
use crate::error::{IoContext, LabError, Result};
use crate::load::many_nodes::{DROPS, REFUSES};
use crate::processes::namespaces::Namespaces;
use crate::slurm::conf::{SLURMCTLD_LOG, STATE_SAVE_LOCATION, slurm_conf};
use crate::slurm::node_state::{line_of, state_of};
use crate::systems::base::Base;
use crate::systems::inside::{Inside, NodeRoot};
use crate::systems::layer::{Layer, Preinstalled};
use crate::systems::netboot::{BOOT_DIRECTORY, NetImage, Netboot, serve, write_images};
use crate::wait::MINUTES;

/// Interval between questions to slurmctld.
const POLL: Duration = Duration::from_millis(200);

/// Change of a node's root before its first boot.
pub type Prepare = Arc<dyn Fn(&NodeRoot) -> Result<()> + Send + Sync>;

/// A file of the host's that goes into a node.
#[derive(Debug, Clone)]
pub struct File {
    /// On the host.
    pub source: PathBuf,
    /// In the node.
    pub path: String,
    pub mode: u32,
}

impl File {
    /// `source` on the host becomes `path` in the node.
    pub fn new(source: impl Into<PathBuf>, path: &str, mode: u32) -> File {
        File { source: source.into(), path: path.into(), mode }
    }
}

/// Description of a cluster. The default has two nodes of Slurm 24.11.
#[derive(Clone)]
pub struct ClusterSpec {
    /// The system on all nodes, and with it the version of Slurm.
    pub base: Base,
    /// Number of compute nodes: `cn01` to `cnNN`.
    pub nodes: u8,
    /// Adds a second controller, `ctl2`. Both share Slurm's and slurm-rollout's state directories.
    pub backup_controller: bool,
    pub reboot_program: String,
    /// Lets slurmctld run it, not slurmd.
    pub reboot_from_controller: bool,
    pub slurmctld_parameters: Vec<String>,
    /// slurm.conf's ResumeTimeout, in seconds.
    pub resume_timeout_s: u32,
    pub return_to_service: u8,
    /// Form of the nodes' addresses in slurm.conf.
    pub node_addr: NodeAddr,
    pub slurm_conf_extra: String,
    /// Packages that are installed on the controller first.
    pub controller_packages: Preinstalled,
    /// Packages that are installed on every compute node first.
    pub node_packages: Preinstalled,
    pub node_files: Vec<File>,
    /// Units to enable on every compute node, after `prepare`.
    pub enable_units_on_nodes: Vec<String>,
    /// Images that the controller serves. Compute nodes then boot over the network, the first image by default.
    pub images: Vec<NetImage>,
    /// Gives such a node a disk, which keeps its changes of the image for the next boot.
    pub disks: bool,
    /// Further change of each root, the controller's included, before the first boot.
    pub prepare: Option<Prepare>,
}

impl Default for ClusterSpec {
    /// Two nodes of Slurm 24.11 that slurmd reboots.
    fn default() -> ClusterSpec {
        ClusterSpec {
            base: Base::Trixie,
            nodes: 2,
            backup_controller: false,
            reboot_program: "/usr/sbin/reboot".into(),
            reboot_from_controller: false,
            slurmctld_parameters: Vec::new(),
            resume_timeout_s: 120,
            return_to_service: 1,
            node_addr: NodeAddr::Literal,
            slurm_conf_extra: String::new(),
            controller_packages: Preinstalled::default(),
            node_packages: Preinstalled::default(),
            node_files: Vec::new(),
            enable_units_on_nodes: Vec::new(),
            images: Vec::new(),
            disks: true,
            prepare: None,
        }
    }
}

/// A running cluster. It ends when it is dropped and when this process ends, for whatever reason.
#[derive(Debug)]
pub struct Cluster {
    // Dropped before the nodes, which end with them.
    namespaces: Option<Namespaces>,
    directory: PathBuf,
    /// The controller is the first one.
    nodes: Vec<Node>,
    backup: Option<Node>,
    /// Lower layers of their roots.
    _layers: [Option<Layer>; 2],
}

impl Cluster {
    /// Boots a cluster and returns when all its nodes are IDLE.
    pub fn start(spec: &ClusterSpec) -> Result<Cluster> {
        let base = spec.base.prepare()?;
        let controllers = spec.controller_packages.prepare(spec.base)?;
        let others = spec.node_packages.prepare(spec.base)?;
        let mut hosts = Host::all(spec.nodes);
        hosts.extend(spec.backup_controller.then(Host::backup));
        let namespaces = Namespaces::new()?;
        let directory = namespaces.directory.clone();
        let _layers = [controllers, others];
        write_images(&spec.images, &base, &directory.join("images"))?;
        let mut cluster = Cluster { namespaces: None, directory, nodes: Vec::new(), backup: None, _layers };
        for host in &hosts {
            let [controllers, others] = &cluster._layers;
            let layer = if host.is_controller() { controllers } else { others };
            let mut hardware = assemble(&namespaces, &base, layer.as_ref(), host)?;
            let inside = Inside::Root { namespaces: namespaces.init, root: hardware.root.clone() };
            install(spec, &hosts, host, &NodeRoot { name: host.name.clone(), inside })?;
            if spec.backup_controller && host.is_controller() {
                share_state(&namespaces, &hardware.root)?;
            }
            if let (false, Some(_)) = (host.is_controller(), spec.images.first()) {
                let images = namespaces.directory.join("images");
                let below = below(&base, layer.as_ref());
                let controller = namespaces.directory.join(&hosts[0].name).join("root");
                let served = controller.join(BOOT_DIRECTORY.trim_start_matches('/'));
                let directory = namespaces.directory.join(&host.name);
                let node = (host.name.as_str(), directory.as_path(), hardware.root.as_path());
                hardware.netboot =
                    Some(Netboot::of_node(&namespaces, node, (&served, &images, spec.disks), &below)?);
            }
            let node = Node { machine: Machine::new(hardware) };
            if host.name == BACKUP {
                cluster.backup = Some(node);
            } else {
                cluster.nodes.push(node);
            }
        }
        cluster.namespaces = Some(namespaces);
        for node in cluster.machines() {
            node.power_on();
        }
        cluster.wait_idle()?;
        Ok(cluster)
    }

    /// The machine that slurmctld runs on.
    pub fn controller(&self) -> &Node {
        &self.nodes[0]
    }

    /// The second machine that slurmctld runs on; panics if the cluster has none.
    pub fn backup_controller(&self) -> &Node {
        self.backup.as_ref().unwrap_or_else(|| panic!("this cluster has one controller"))
    }

    /// The first controller that has power.
    pub fn active_controller(&self) -> &Node {
        match &self.backup {
            Some(backup) if !self.controller().is_running() => backup,
            _ => self.controller(),
        }
    }

    /// Returns a compute node by its name; panics on an unknown name.
    pub fn node(&self, name: &str) -> &Node {
        let found = self.compute_nodes().iter().find(|node| node.name() == name);
        found.unwrap_or_else(|| panic!("no node {name} in this cluster"))
    }

    /// All compute nodes.
    pub fn compute_nodes(&self) -> &[Node] {
        &self.nodes[1..]
    }

    /// The names of all compute nodes.
    pub fn node_names(&self) -> Vec<&str> {
        self.compute_nodes().iter().map(Node::name).collect()
    }

    /// Directory of the cluster's files on the host: `NAME/console.log`, and `NAME/upper` with the changes of the node.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs scontrol on the controller that has power, as root.
    pub fn scontrol(&self, args: &[&str]) -> Result<String> {
        let argv: Vec<&str> = std::iter::once("scontrol").chain(args.iter().copied()).collect();
        self.active_controller().run(&argv)
    }

    /// Returns a node's state and flags in Slurm, for example `IDLE+DRAIN`.
    pub fn node_state(&self, name: &str) -> Result<String> {
        let lines = self.scontrol(&["show", "node", "-o", name])?;
        let state = line_of(&lines, name).and_then(state_of).map(String::from);
        state.ok_or_else(|| LabError::Setup(format!("no state of {name} in: {lines}")))
    }

    /// Waits until `wanted` holds for a node's state and returns the state.
    pub fn wait_state(&self, name: &str, wanted: impl Fn(&str) -> bool, limit: Duration) -> Result<String> {
        let until = Instant::now() + limit;
        loop {
            // slurmctld may be restarting: an error is one more unwanted state.
            let seen = self.node_state(name);
            match seen {
                Ok(state) if wanted(&state) => return Ok(state),
                _ if Instant::now() > until => {
                    let seen = seen.unwrap_or_else(|error| error.to_string());
                    let what = format!("the wanted state of {name}");
                    return Err(LabError::Timeout { what, after: limit, seen });
                }
                _ => std::thread::sleep(POLL),
            }
        }
    }

    /// Reads slurmctld's log.
    pub fn slurmctld_log(&self) -> Result<String> {
        self.controller().read_file(SLURMCTLD_LOG)
    }

    /// Cuts a machine off the network, or connects it again. Packets to it and from it are lost in silence: all
    /// machines go on sending, as through a switch that drops, and get no "no route".
    pub fn drop_packets(&self, name: &str, dropped: bool) -> Result<()> {
        let cut = self.machines().find(|node| node.name() == name);
        let cut = cut.ok_or_else(|| LabError::Setup(format!("no node {name} in this cluster")))?;
        for other in self.machines().filter(|node| node.name() != name) {
            neighbour(cut, other, dropped)?;
            neighbour(other, cut, dropped)?;
        }
        cut.machine.unplug(dropped)
    }

    /// Gives the controller a router, in the cluster's own network, to addresses that no node has: behind it
    /// connections to 10.98.x.x are refused, and packets to 10.99.x.x are lost in silence.
    pub(crate) fn route_to_dead_nodes(&self) -> Result<()> {
        let Some(namespaces) = &self.namespaces else { return Ok(()) };
        let (refuses, drops) = (format!("10.{REFUSES}.0.0/16"), format!("10.{DROPS}.0.0/16"));
        namespaces.command(&["ip", "address", "add", ROUTER, "dev", BRIDGE]).run()?;
        namespaces.command(&["ip", "route", "add", "local", &refuses, "dev", "lo"]).run()?;
        namespaces.command(&["ip", "route", "add", "blackhole", &drops]).run()?;
        let router = ROUTER.split('/').next().unwrap_or_default();
        for network in [refuses, drops] {
            self.controller().run(&["ip", "route", "add", &network, "via", router])?;
        }
        Ok(())
    }

    /// Makes the same addresses the controller's own.
    pub(crate) fn route_dead_nodes_here(&self) -> Result<()> {
        for dead in [REFUSES, DROPS] {
            let network = format!("10.{dead}.0.0/16");
            self.controller().run(&["ip", "route", "delete", &network])?;
            self.controller().run(&["ip", "route", "add", "local", &network, "dev", "lo"])?;
        }
        Ok(())
    }

    fn machines(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().chain(&self.backup)
    }

    fn wait_idle(&self) -> Result<()> {
        let until = Instant::now() + MINUTES;
        for node in self.compute_nodes() {
            let left = until.saturating_duration_since(Instant::now());
            if let Err(error) = self.wait_state(node.name(), |state| state == "IDLE", left) {
                return Err(LabError::Setup(format!("{error}{}", self.report(node))));
            }
        }
        Ok(())
    }

    /// Describes a failed start.
    fn report(&self, node: &Node) -> String {
        let mut text = String::new();
        for machine in [self.controller(), node] {
            let fault = machine.machine.fault().unwrap_or_default();
            text.push_str(&format!("\n--- {} {fault}\n{}", machine.name(), machine.console_tail()));
        }
        let log = self.slurmctld_log().unwrap_or_else(|error| error.to_string());
        let slurmd = node.read_file(crate::slurm::conf::SLURMD_LOG).unwrap_or_else(|error| error.to_string());
        let (log, slurmd) = (crate::processes::run::tail(&log), crate::processes::run::tail(&slurmd));
        format!("{text}\n--- slurmctld\n{log}\n--- slurmd\n{slurmd}")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.machines() {
            node.machine.close();
        }
        drop(self.namespaces.take());
    }
}

/// Mounts a node's root in the cluster's namespaces.
fn assemble(namespaces: &Namespaces, base: &Path, layer: Option<&Layer>, host: &Host) -> Result<Hardware> {
    let directory = namespaces.directory.join(&host.name);
    let [upper, work, root] = ["upper", "work", "root"].map(|part| directory.join(part));
    for part in [&upper, &work, &root] {
        create_dir_all(part).on("create", part)?;
    }
    let below = below(base, layer);
    let options = format!("lowerdir={below},upperdir={},workdir={}", upper.display(), work.display());
    let target = root.display().to_string();
    namespaces.command(&["mount", "-t", "overlay", "lab", "-o", &options, &target]).run()?;
    let (host, cluster, console) = (host.clone(), namespaces.id.clone(), directory.join("console.log"));
    Ok(Hardware { host, namespaces: namespaces.init, cluster, root, console, netboot: None })
}

/// Layers below a node's own, the uppermost first.
fn below(base: &Path, layer: Option<&Layer>) -> String {
    let layer = layer.map_or(String::new(), |layer| format!("{}:", layer.directory.display()));
    format!("{layer}{}", base.display())
}

/// Replaces each state directory by one directory that all controllers share. SlurmUser owns them.
fn share_state(namespaces: &Namespaces, root: &Path) -> Result<()> {
    let script =
        "mkdir -p \"$1\" \"$2$3\" && chroot \"$2\" stat -c %u:%g /var/log/slurm | xargs -I{} chown {} \"$1\"
        mount --bind \"$1\" \"$2$3\"";
    for (name, path) in [("slurmctld", STATE_SAVE_LOCATION), ("slurm-rollout", "/var/lib/slurm-rollout")] {
        let shared = namespaces.directory.join("shared").join(name).display().to_string();
        let root = root.display().to_string();
        namespaces.command(&["sh", "-ec", script, "share", &shared, &root, path]).run()?;
    }
    Ok(())
}

/// Prepares a node's root for the cluster, and then for the test.
fn install(spec: &ClusterSpec, hosts: &[Host], host: &Host, root: &NodeRoot) -> Result<()> {
    root.write_file("/etc/hostname", format!("{}\n", host.name), 0o644)?;
    root.write_file("/etc/machine-id", host.machine_id(), 0o444)?;
    root.write_file("/etc/hosts", hosts_file(hosts), 0o644)?;
    root.write_file("/etc/slurm/slurm.conf", slurm_conf(spec, hosts), 0o644)?;
    root.write_file("/etc/slurm/cgroup.conf", spec.base.cgroup_conf(), 0o644)?;
    root.write_file("/etc/systemd/system/lab-network.service", host.network_unit(), 0o644)?;
    let (daemon, files, units) = if host.is_controller() {
        ("slurmctld.service", [].as_slice(), [].as_slice())
    } else {
        ("slurmd.service", spec.node_files.as_slice(), spec.enable_units_on_nodes.as_slice())
    };
    root.enable_units(&["lab-network.service", daemon])?;
    if let (true, Some(image)) = (host.is_controller(), spec.images.first()) {
        serve(root, image)?;
    }
    for file in files {
        root.copy_in(&file.source, &file.path, file.mode)?;
    }
    if let Some(prepare) = &spec.prepare {
        prepare(root)?;
    }
    if units.is_empty() {
        Ok(())
    } else {
        root.enable_units(&units.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// Fixes `node`'s hardware address in the neighbour table of `of`, or lets `of` ask for it again.
fn neighbour(node: &Node, of: &Node, fixed: bool) -> Result<()> {
    if !of.is_running() {
        return Ok(());
    }
    let host = &node.machine.hardware().host;
    let (address, mac) = (host.address().to_string(), host.mac());
    if fixed {
        of.run(&[
            "ip",
            "neighbour",
            "replace",
            &address,
            "lladdr",
            &mac,
            "dev",
            "host0",
            "nud",
            "permanent",
        ])?;
    } else {
        // After a boot the entry is gone already.
        of.exec(&["ip", "neighbour", "delete", &address, "dev", "host0"])?;
    }
    Ok(())
}
