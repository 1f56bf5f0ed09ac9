//! docs/install.md and README.md as a new user follows them: every block of code, in order, on a cluster that has never
//! seen slurm-rollout.

use std::path::PathBuf;

use crate::prelude::*;

/// Time limit of one block, with all that it installs.
const BLOCK_LIMIT: Duration = Duration::from_secs(300);

/// The pages speak of a larger cluster than the lab's of two nodes.
const NAMES: [(&str, &str); 3] = [("cn[001-128]", "cn[01-02]"), ("cn[002-128]", "cn02"), ("cn001", "cn01")];

/// A site's repository in its format: the driver, and these versions of slurm-rollout.
enum Repository {
    Deb(DebRepository),
    Rpm(RpmRepository),
}

impl Repository {
    fn build(format: Format, versions: &[&BuiltPackages]) -> Repository {
        let both =
            |built: &&BuiltPackages| [built.controller(format), built.agent(format)].map(PathBuf::from);
        let files: Vec<PathBuf> = versions.iter().flat_map(both).collect();
        let driver = [Package::new("nvidia-driver", "580.65.06")];
        match format {
            Format::Deb => Repository::Deb(DebRepository::build_with(&driver, &files).unwrap()),
            Format::Rpm => Repository::Rpm(RpmRepository::build_with(&driver, &files).unwrap()),
        }
    }

    fn install_in(&self, root: &NodeRoot) -> Result<()> {
        match self {
            Repository::Deb(repository) => repository.install_in(root),
            Repository::Rpm(repository) => repository.install_in(root),
        }
    }

    fn install_on(&self, node: &Node) {
        match self {
            Repository::Deb(repository) => repository.install_on(node).unwrap(),
            Repository::Rpm(repository) => repository.install_on(node).unwrap(),
        }
    }
}

struct Reader {
    site: Site,
}

impl Reader {
    /// Returns the machines on which a block is used.
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

    /// Adds a version to the repository.
    fn site_gets(&self, format: Format, version: &str) {
        let (old, new) = (BuiltPackages::build().unwrap(), BuiltPackages::build_version(version).unwrap());
        let repository = Repository::build(format, &[&old, &new]);
        let cluster = &self.site.cluster;
        std::iter::once(cluster.controller())
            .chain(cluster.compute_nodes())
            .for_each(|node| repository.install_on(node));
    }

    fn wait(&self) {
        self.site.wait_idle(&self.site.cluster.node_names(), MINUTES).unwrap();
    }

    /// Follows a block. A reader continues when the nodes are back.
    fn follow(&self, block: &Block) {
        let text = in_the_lab(&block.text);
        match block.place.as_str() {
            "build" => return built_on_this_machine(&text),
            "checkout" => return,
            _ => {}
        }
        self.wait();
        for node in self.places(block) {
            match &block.used {
                Use::Run => {
                    // A reader answers yes.
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

/// Asserts that the page's command is the one that has built the lab's packages, and that they are at the page's path.
fn built_on_this_machine(text: &str) {
    assert_eq!(text.split_whitespace().next(), Some("packaging/build"));
    let packages = BuiltPackages::build().unwrap();
    let directory = workspace().join("target/packages");
    for format in [Format::Deb, Format::Rpm] {
        assert_eq!(packages.agent(format).parent(), Some(directory.join(format.name()).as_path()));
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/root/{path}") }
}

fn in_the_lab(text: &str) -> String {
    NAMES.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
}

/// Makes an image to install into, from a node's own system, at the page's path.
fn make_an_image(node: &Node) {
    let script = "mkdir -p /srv/image /run/image/upper /run/image/work
        mount -t overlay image -o lowerdir=/,upperdir=/run/image/upper,workdir=/run/image/work /srv/image";
    node.run(&["sh", "-ec", script]).unwrap();
}

/// Asserts the outcome of a section that has been followed. Returns false if the section has none to check.
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
            node.wait_journal(AGENT_UNIT, "plain reboot: order").unwrap();
        }
        "Then a rollout, on one node" => {
            for node in cluster.compute_nodes() {
                has(node, "nvidia-driver", "580.65.06");
                let phase = || site.status(node.name());
                until("updated", MINUTES, phase, |lines| lines[0].phase == "updated").unwrap();
            }
        }
        "Update slurm-rollout" => {
            has(cluster.controller(), CONTROLLER_PACKAGE, "0.2.0");
            for node in cluster.compute_nodes() {
                has(node, AGENT_PACKAGE, "0.2.0");
                site.wait_agent_version(node.name(), "0.2.0").unwrap();
            }
        }
        "Emergency" => node.wait_active("slurmd.service").unwrap(),
        "Remove" => {
            assert_eq!(format.installed(cluster.controller(), CONTROLLER_PACKAGE).unwrap(), "");
            assert!(!cluster.scontrol(&["show", "config"]).unwrap().contains("slurm-rollout"));
            for node in cluster.compute_nodes() {
                assert_eq!(format.installed(node, AGENT_PACKAGE).unwrap(), "");
            }
        }
        _ => return false,
    }
    true
}

/// Follows blocks and returns how many of their sections were checked afterwards.
fn followed(blocks: &[Block], reader: &Reader, format: Format) -> usize {
    let mut done = 0;
    for section in blocks.chunk_by(|one, next| one.section == next.section) {
        if section[0].section == "Update slurm-rollout" {
            reader.site_gets(format, "0.2.0");
        }
        section.iter().for_each(|block| reader.follow(block));
        reader.wait();
        done += usize::from(is_done(&section[0].section, reader, format));
    }
    done
}

fn page(path: &str, format: Format) -> Vec<Block> {
    blocks(&std::fs::read_to_string(workspace().join(path)).unwrap(), format).unwrap()
}

/// Boots a cluster that never had slurm-rollout, with all that the pages take for granted.
fn reader(base: Base, format: Format) -> Reader {
    let repository = Repository::build(format, &[&BuiltPackages::build().unwrap()]);
    let change = move |root: &NodeRoot| {
        remove_snippet_keys(root)?;
        root.run(&["mkdir", "-p", "/opt/slurm/24.11.5"])?;
        root.write_file("/usr/sbin/nhc", "#!/bin/sh\n", 0o755)?;
        repository.install_in(root)
    };
    let spec = ClusterSpec { base, prepare: prepare(change), ..nodes(2) };
    Reader { site: Site::without_packages(spec, format).unwrap() }
}

fn the_install_page(base: Base, format: Format) {
    let reader = reader(base, format);
    make_an_image(reader.site.cluster.controller());
    assert_eq!(followed(&page("docs/install.md", format), &reader, format), 6);
}

#[test]
fn the_install_page_with_debs() {
    the_install_page(Base::Bookworm, Format::Deb);
}

#[test]
fn the_install_page_with_rpms() {
    the_install_page(Base::Forky, Format::Rpm);
}

/// The README begins with commands that work once the installation has been done, and ends with a rollout of the same
/// manifest that runs itself.
#[test]
fn the_readme() {
    let reader = reader(Base::Trixie, Format::Rpm);
    let blocks = page("README.md", Format::Rpm);
    let (first, rest): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|block| block.section.is_empty());
    let (last, rest): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|block| block.section == "A rollout that runs itself");
    followed(&rest, &reader, Format::Rpm);
    assert_eq!(reader.site.cluster.node("cn01").boot_count(), 2);
    followed(&first, &reader, Format::Rpm);
    assert_eq!(reader.site.wait_phase("driver-580", "cn01", "updated").unwrap(), "");
    let link = reader.site.cluster.node("cn01").run(&["readlink", "/opt/slurm/current"]).unwrap();
    assert_eq!(link, "/opt/slurm/24.11.5\n");
    followed(&last, &reader, Format::Rpm);
    reader.site.wait_phase("driver-580@2", "cn01", "updated").unwrap();
}
