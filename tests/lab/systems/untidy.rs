//! A compute node as sites have them: little is where, or when, a fresh installation has it.

use crate::error::Result;
use crate::systems::inside::NodeRoot;

/// Makes a node of the same base with the package `other` 2 in its repository install that at boot, beside whatever
/// else happens, if this file exists.
pub const UPDATE_AT_BOOT: &str = "/etc/lab-update-at-boot";

/// Mount point of an automount.
pub const AUTOMOUNT: &str = "/scratch";

/// `slurm-rollout-agent`'s state directory, on a file system of its own that is mounted late.
const LATE_MOUNT: &str = "[Unit]\nAfter=lab-storage.service\nRequires=lab-storage.service\n\
                          [Mount]\nWhat=/srv/ledger\nWhere=/var/lib/slurm-rollout-agent\nType=none\nOptions=bind,nofail\n\
                          [Install]\nWantedBy=multi-user.target\n";
const LATE_MOUNT_UNIT: &str = "var-lib-slurm\\x2drollout\\x2dagent.mount";

/// Storage that takes a while to appear.
const STORAGE: &str = "[Unit]\nDefaultDependencies=no\nAfter=sysinit.target\n\
                       [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/sleep 3\n";

/// The site's configuration at boot: it sets the host name, and starts slurmd, which is not enabled.
const BOOT_SCRIPT: &str =
    "#!/bin/sh\nsleep 2\nhostname \"node-of-$1\"\nexec systemctl start --no-block slurmd.service\n";
const BOOT_SCRIPT_PATH: &str = "/usr/local/sbin/lab-boot";

const AUTOMOUNT_UNIT: &str = "[Automount]\nWhere=/scratch\n[Install]\nWantedBy=multi-user.target\n";
const SCRATCH_UNIT: &str = "[Mount]\nWhat=scratch\nWhere=/scratch\nType=tmpfs\n";

const UPDATE: &str = "[Unit]\nConditionPathExists=/etc/lab-update-at-boot\n\
                      [Service]\nType=oneshot\nExecStart=/usr/bin/dnf -q -y upgrade other\n\
                      [Install]\nWantedBy=multi-user.target\n";

/// The defaults of EL, and checks of local files.
const DNF_CONF: &str = "[main]\ngpgcheck=1\nlocalpkg_gpgcheck=1\ninstallonly_limit=3\nclean_requirements_on_remove=True\n\
                        best=True\nskip_if_unavailable=False\n";

/// The node that is in slurm.conf with its host name. The others are slurmd's by `-N`.
const BY_HOST_NAME: &str = "cn02";

/// Makes a controller the one of untidy nodes before its first boot: slurm.conf has the host name of one node.
pub fn make_untidy_controller(root: &NodeRoot) -> Result<()> {
    let node = format!("s/^NodeName={BY_HOST_NAME} /&NodeHostname=node-of-{BY_HOST_NAME} /");
    root.run(&["sed", "-i", &node, "/etc/slurm/slurm.conf"]).map(drop)
}

/// Makes a compute node untidy before its first boot.
///
/// It is configless and its NodeName is not its host name, which a script sets late in the boot. The same script starts
/// slurmd. The agent's state directory is on a file system of its own, mounted late. `/scratch` is an automount. dnf
/// checks the signatures of all packages.
pub fn make_untidy(root: &NodeRoot) -> Result<()> {
    let name = root.name().to_owned();
    let unit = |unit: &str, text: &str| root.write_file(&format!("/etc/systemd/system/{unit}"), text, 0o644);
    root.run(&["rm", "-f", "/etc/slurm/slurm.conf", "/etc/slurm/cgroup.conf"])?;
    root.run(&["systemctl", "--quiet", "disable", "slurmd.service"])?;
    unit("slurmd.service.d/configless.conf", "[Unit]\nConditionPathExists=\n")?;
    let named = if name == BY_HOST_NAME { String::new() } else { format!(" -N {name}") };
    let options = format!("SLURMD_OPTIONS=\"--conf-server ctl:6817{named}\"\n");
    root.write_file("/etc/default/slurmd", options, 0o644)?;
    root.write_file("/etc/hostname", "unnamed\n", 0o644)?;
    root.write_file("/etc/dnf/dnf.conf", DNF_CONF, 0o644)?;
    root.write_file(BOOT_SCRIPT_PATH, BOOT_SCRIPT, 0o755)?;
    let boot = format!(
        "[Unit]\nWants=network-online.target\nAfter=network-online.target\n[Service]\nType=oneshot\n\
         ExecStart={BOOT_SCRIPT_PATH} {name}\n[Install]\nWantedBy=multi-user.target\n"
    );
    unit("lab-boot.service", &boot)?;
    root.run(&["mkdir", "-p", "/srv/ledger"])?;
    root.run(&["chmod", "700", "/srv/ledger"])?;
    unit("lab-storage.service", STORAGE)?;
    unit(LATE_MOUNT_UNIT, LATE_MOUNT)?;
    unit("scratch.automount", AUTOMOUNT_UNIT)?;
    unit("scratch.mount", SCRATCH_UNIT)?;
    unit("lab-update.service", UPDATE)?;
    root.enable_units(&["lab-boot.service", LATE_MOUNT_UNIT, "scratch.automount", "lab-update.service"])
}
