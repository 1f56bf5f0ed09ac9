//! docs/install.md and README.md as a new user follows them: every block of code, in order, on a cluster that has never
//! seen slurm-rollout.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rollout_lab::{
    AGENT, Base, Block, BuiltPackages, CONTROLLER, ClusterSpec, DebRepository, Format, Node, NodeRoot,
    Package, RpmRepository, Site, Use, blocks, workspace,
};

const MINUTES: Duration = Duration::from_secs(240);
/// For one block, with all that it installs.
const BLOCK_LIMIT: Duration = Duration::from_secs(300);

/// The pages speak of a larger cluster than the lab's of two nodes.
const NAMES: [(&str, &str); 3] = [("cn[001-128]", "cn[01-02]"), ("cn[002-128]", "cn02"), ("cn001", "cn01")];

/// What the lab sets in slurm.conf that a page sets too.
const KEYS: [&str; 4] = ["RebootProgram", "ResumeTimeout", "ReturnToService", "SlurmctldParameters"];

/// The repository that the pages take for granted: both versions of ours, and the driver.
fn repository(format: Format) -> impl Fn(&NodeRoot) -> rollout_lab::Result<()> + Send + Sync {
    let mut files: Vec<PathBuf> = Vec::new();
    for built in [BuiltPackages::build().unwrap(), BuiltPackages::build_version("0.2.0").unwrap()] {
        files.extend([built.controller(format).to_owned(), built.agent(format).to_owned()]);
    }
    let driver = [Package::new("nvidia-driver", "580.65.06")];
    let of = |wanted| if format == wanted { files.as_slice() } else { &[] };
    let rpm = RpmRepository::build_with(&driver, of(Format::Rpm)).unwrap();
    let deb = DebRepository::build_with(&driver, of(Format::Deb)).unwrap();
    move |root| match format {
        Format::Rpm => rpm.install_in(root),
        Format::Deb => deb.install_in(root),
    }
}

struct Reader {
    site: Site,
}

impl Reader {
    /// Where a block is used.
    fn places(&self, block: &Block) -> Vec<&Node> {
        let cluster = &self.site.cluster;
        let nodes = cluster.compute_nodes().iter();
        match block.place.as_str() {
            "controller" => vec![cluster.controller()],
            "nodes" => nodes.collect(),
            "all" => std::iter::once(cluster.controller()).chain(nodes).collect(),
            name => vec![cluster.node(&in_the_lab(name))],
        }
    }

    fn wait(&self) {
        self.site.wait_idle(&self.site.cluster.node_names(), MINUTES).unwrap();
    }

    /// Does what a block says. Who reads a page goes on when the nodes are back.
    fn follow(&self, block: &Block) {
        let text = in_the_lab(&block.text);
        self.wait();
        for node in self.places(block) {
            match &block.used {
                Use::Run => {
                    // Whoever is asked says yes.
                    let argv = ["sh", "-exc", &format!("cd\n{text}")];
                    let command = node.command(&argv).unwrap().stdin(b"y\n").limit(BLOCK_LIMIT);
                    let output = command.output().unwrap();
                    println!(
                        "--- line {} on {}\n{}{}",
                        block.line,
                        node.name(),
                        output.stderr,
                        output.stdout
                    );
                    assert!(output.success(), "line {} on {}: {output:?}", block.line, node.name());
                }
                Use::Write(path) => node.write_file(&absolute(path), &text, 0o644).unwrap(),
                Use::Append(path) => {
                    let before = node.read_file(&absolute(path)).unwrap();
                    node.write_file(&absolute(path), before + &text, 0o644).unwrap();
                }
            }
        }
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/root/{path}") }
}

fn in_the_lab(text: &str) -> String {
    NAMES.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
}

/// A node's system as an image to install into, in the place that the page names.
fn make_an_image(node: &Node) {
    let script = "mkdir -p /srv/image /run/image/upper /run/image/work
        mount -t overlay image -o lowerdir=/,upperdir=/run/image/upper,workdir=/run/image/work /srv/image";
    node.run(&["sh", "-ec", script]).unwrap();
}

/// What must be so when a section has been followed; false if the section is none of those.
fn is_done(section: &str, reader: &Reader, format: Format) -> bool {
    let (cluster, site) = (&reader.site.cluster, &reader.site);
    let node = cluster.node("cn01");
    let has = |node: &Node, name: &str, version: &str| {
        let installed = format.installed(node, name).unwrap();
        assert!(installed.starts_with(version), "{section}: {name} on {}: {installed}", node.name());
    };
    match section {
        "Nodes" => {
            let link = "/srv/image/etc/systemd/system/multi-user.target.wants/slurm-rollout-agent.service";
            cluster.controller().run(&["test", "-L", link]).unwrap();
            for node in cluster.compute_nodes() {
                node.run(&["systemctl", "is-active", "slurm-rollout-agent"]).unwrap();
                node.run(&["systemctl", "is-enabled", "slurm-rollout-agent"]).unwrap();
            }
        }
        "First a reboot" => {
            assert_eq!(node.boot_count(), 2);
            assert!(node.journal("slurm-rollout-agent").unwrap().contains("plain reboot: order"));
        }
        "Then a rollout, on one node" => {
            for node in cluster.compute_nodes() {
                has(node, "nvidia-driver", "580.65.06");
                assert_eq!(site.status(node.name()).unwrap()[0].phase, "updated");
            }
        }
        "Update slurm-rollout" => {
            has(cluster.controller(), CONTROLLER, "0.2.0");
            for node in cluster.compute_nodes() {
                has(node, AGENT, "0.2.0");
                assert_eq!(site.agent_version(node.name()).unwrap(), "0.2.0");
            }
        }
        "Emergency" => drop(node.run(&["systemctl", "is-active", "slurmd"]).unwrap()),
        "Remove" => {
            assert_eq!(format.installed(cluster.controller(), CONTROLLER).unwrap(), "");
            assert!(!cluster.scontrol(&["show", "config"]).unwrap().contains("slurm-rollout"));
            for node in cluster.compute_nodes() {
                assert_eq!(format.installed(node, AGENT).unwrap(), "");
            }
        }
        _ => return false,
    }
    true
}

fn followed(page: &str, reader: &Reader, format: Format) -> usize {
    let text = std::fs::read_to_string(workspace().join(page)).unwrap();
    let blocks = blocks(&text, format).unwrap();
    let mut done = 0;
    for section in blocks.chunk_by(|one, next| one.section == next.section) {
        section.iter().for_each(|block| reader.follow(block));
        reader.wait();
        done += usize::from(is_done(&section[0].section, reader, format));
    }
    done
}

fn the_install_page(base: Base, format: Format) {
    let put = repository(format);
    let prepare = move |root: &NodeRoot| {
        let remove: String = KEYS.iter().map(|key| format!("/^{key}=/d;")).collect();
        root.run(&["sed", "-i", &remove, "/etc/slurm/slurm.conf"])?;
        put(root)
    };
    let spec = ClusterSpec { base, nodes: 2, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
    let reader = Reader { site: Site::without_packages(spec, format).unwrap() };
    make_an_image(reader.site.cluster.controller());
    assert_eq!(followed("docs/install.md", &reader, format), 6);
}

#[test]
fn the_install_page_with_debs() {
    the_install_page(Base::Bookworm, Format::Deb);
}

#[test]
fn the_install_page_with_rpms() {
    the_install_page(Base::Forky, Format::Rpm);
}
