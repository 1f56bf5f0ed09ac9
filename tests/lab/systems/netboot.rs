//! Nodes without a disk: the machine that starts the containers is their boot server. It looks where a TFTP server would
//! for a file named after the node, and boots the image that it names: with an empty upper layer each time, or with that of
//! the last boot where the node has a disk.

use std::fs::{create_dir_all, rename};
use std::path::Path;

use crate::error::{IoContext, Result};
use crate::processes::namespaces::Namespaces;
use crate::systems::inside::NodeRoot;

/// The directory of the controller that is served.
pub const BOOT_DIRECTORY: &str = "/srv/boot";

/// What is booted where nothing is said of a node, as `default` of pxelinux.
const DEFAULT: &str = "default";

/// An image: what it has besides the system of its cluster, and what os-release says of it.
#[derive(Debug, Clone)]
pub struct NetImage {
    /// IMAGE_ID.
    pub image: String,
    /// IMAGE_VERSION.
    pub version: String,
    /// Under which name the boot server has it.
    pub served_as: String,
    /// Files in it, with their content.
    pub files: Vec<(String, String)>,
    /// Whether it boots. One that does not panics, and the node is off.
    pub boots: bool,
}

impl NetImage {
    /// `IMAGE_ID=image IMAGE_VERSION=version`, served as `image-version`.
    pub fn new(image: &str, version: &str) -> NetImage {
        let served_as = format!("{image}-{version}");
        let (image, version) = (image.to_owned(), version.to_owned());
        NetImage { image, version, served_as, files: Vec::new(), boots: true }
    }

    /// The same with one more file.
    #[must_use]
    pub fn with_file(mut self, path: &str, content: &str) -> NetImage {
        self.files.push((path.to_owned(), content.to_owned()));
        self
    }
}

/// What it takes to boot one node.
#[derive(Debug)]
pub(crate) struct Netboot {
    script: Vec<String>,
}

/// As `sh -ec BOOT boot SERVED NODE IMAGES DIRECTORY ROOT BELOW DISK`: mounts the node's next root.
const BOOT: &str = r#"
served=$1 node=$2 images=$3 directory=$4 root=$5 below=$6 disk=$7
file=$served/$node.boot
[ -e "$file" ] || file=$served/default
image=$(sed -n 's/^boot //p' "$file")
echo "boot server: $node boots $image, says $file"
[ -d "$images/$image" ]
if mountpoint -q "$root"; then umount --recursive "$root"; fi
rm -rf "$directory/work"
[ "$disk" ] || rm -rf "$directory/upper"
mkdir -p "$directory/upper" "$directory/work"
if [ -e "$images/$image/panic" ]; then echo "Kernel panic - not syncing: $image"; exit 1; fi
mount -t overlay lab -o "lowerdir=$directory/site:$images/$image:$below,upperdir=$directory/upper,workdir=$directory/work" "$root"
"#;

/// Writes the images, which all nodes of a cluster share.
pub(crate) fn write_images(images: &[NetImage], base: &Path, directory: &Path) -> Result<()> {
    for image in images {
        let root = directory.join(&image.served_as);
        let release = base.join("usr/lib/os-release");
        let mut text = std::fs::read_to_string(&release).on("read", &release)?;
        text.push_str(&format!("IMAGE_ID={}\nIMAGE_VERSION={}\n", image.image, image.version));
        let mut files = vec![("usr/lib/os-release".to_owned(), text)];
        files.extend(
            image.files.iter().map(|(path, text)| (path.trim_start_matches('/').to_owned(), text.clone())),
        );
        files.extend((!image.boots).then(|| ("panic".to_owned(), String::new())));
        for (path, text) in files {
            let path = root.join(path);
            let parent = path.parent().unwrap_or(&root);
            create_dir_all(parent).on("create", parent)?;
            std::fs::write(&path, text).on("write", &path)?;
        }
    }
    Ok(())
}

impl Netboot {
    /// Of a node whose root is mounted and holds what is its own: that becomes a layer that is never written again.
    pub(crate) fn of_node(
        namespaces: &Namespaces,
        (node, directory, root): (&str, &Path, &Path),
        (served, images, disk): (&Path, &Path, bool),
        below: &str,
    ) -> Result<Netboot> {
        namespaces.command(&["umount", &root.display().to_string()]).run()?;
        let (upper, site) = (directory.join("upper"), directory.join("site"));
        rename(&upper, &site).on("rename", &upper)?;
        let paths: Vec<String> =
            [served, images, directory, root].map(|path| path.display().to_string()).to_vec();
        let [served, images, directory, root] = paths.try_into().unwrap_or_default();
        let disk = if disk { "disk" } else { "" };
        let script = ["sh", "-ec", BOOT, "boot", &served, node, &images, &directory, &root, below, disk];
        Ok(Netboot { script: script.map(str::to_owned).to_vec() })
    }

    pub(crate) fn has_disk(&self) -> bool {
        self.script.last().is_some_and(|disk| !disk.is_empty())
    }

    /// What is to be run before the node's container.
    pub(crate) fn script(&self) -> &[String] {
        &self.script
    }
}

/// Has the controller serve this image to nodes of which nothing is said. SlurmUser may write there.
pub(crate) fn serve(root: &NodeRoot, image: &NetImage) -> Result<()> {
    let default = format!("{BOOT_DIRECTORY}/{DEFAULT}");
    root.write_file(&default, format!("boot {}\n", image.served_as), 0o644)?;
    root.run(&["chown", "-R", "slurm:slurm", BOOT_DIRECTORY]).map(drop)
}
