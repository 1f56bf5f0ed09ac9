//! Names and addresses in a cluster. Every cluster has the same ones, each in a network of its own.

use std::net::Ipv4Addr;

/// Name of the controller.
pub(crate) const CONTROLLER: &str = "ctl";
/// Name of the backup controller.
pub(crate) const BACKUP: &str = "ctl2";
/// The bridge that supervise.sh makes.
pub(crate) const BRIDGE: &str = "lab";
/// An end of the bridge itself, for clusters that need a router.
pub(crate) const ROUTER: &str = "10.77.0.254/24";

/// Form of the nodes' addresses in slurm.conf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeAddr {
    /// `NodeAddr=10.77.0.11`
    Literal,
    /// No NodeAddr: the node's name, found in /etc/hosts.
    Name,
}

/// One end in the cluster's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    /// The last byte of its addresses.
    number: u8,
}

impl Host {
    /// The controller, then `cn01` and so on.
    pub(crate) fn all(nodes: u8) -> Vec<Host> {
        let controller = Host { name: CONTROLLER.into(), number: 1 };
        let nodes = (1..=nodes).map(|n| Host { name: format!("cn{n:02}"), number: n.saturating_add(10) });
        std::iter::once(controller).chain(nodes).collect()
    }

    /// The backup controller.
    pub(crate) fn backup() -> Host {
        Host { name: BACKUP.into(), number: 2 }
    }

    /// Returns whether slurmctld runs here.
    pub(crate) fn is_controller(&self) -> bool {
        self.name == CONTROLLER || self.name == BACKUP
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// Hardware address. It is fixed, so that others can go on sending to a node that does not answer.
    pub(crate) fn mac(&self) -> String {
        format!("02:00:0a:4d:00:{:02x}", self.number)
    }

    /// The bridge's end of the node's cable, as systemd-nspawn names it.
    pub(crate) fn cable(&self) -> String {
        format!("vb-{}", self.name)
    }

    /// /etc/machine-id. An empty one would make systemd enable every unit as on a first boot.
    pub(crate) fn machine_id(&self) -> String {
        format!("{:032x}\n", 0x1ab0_0000_u32 + u32::from(self.number))
    }

    /// The unit that gives the node its address before anything needs it.
    pub(crate) fn network_unit(&self) -> String {
        format!(
            "[Unit]\n\
             Description=Address in the lab\n\
             After=local-fs.target systemd-tmpfiles-setup.service\n\
             Before=network.target network-online.target munge.service\n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             ExecStart=ip link set lo up\n\
             ExecStart=ip link set host0 address {} up\n\
             ExecStart=ip address add {}/24 dev host0\n\
             [Install]\n\
             WantedBy=multi-user.target\n",
            self.mac(),
            self.address()
        )
    }
}

/// /etc/hosts, the same on all.
pub(crate) fn hosts_file(hosts: &[Host]) -> String {
    let mut text = String::from("127.0.0.1 localhost\n");
    for host in hosts {
        text.push_str(&format!("{} {}\n", host.address(), host.name));
    }
    text
}
