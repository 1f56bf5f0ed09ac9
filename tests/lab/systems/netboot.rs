//! Nodes without a disk: the machine that starts the containers is their boot server. Like a TFTP server it looks for
//! a file named after the node, and boots the image that the file names: with an empty upper layer each time, or with
//! the layer of the last boot if the node has a disk.

use std::fs::{create_dir_all, rename};
use std::path::Path;

use crate::error::{IoContext, Result};
use crate::processes::namespaces::Namespaces;
use crate::systems::inside::NodeRoot;

/// Directory of the controller that it serves.
pub const BOOT_DIRECTORY: &str = "/srv/boot";

/// File for nodes without a file of their own, like `default` of pxelinux.
const DEFAULT: &str = "default";

/// An image: its files besides the system of its cluster, and its os-release.
#[derive(Debug, Clone)]
pub struct NetImage {
    pub image: String,
    pub version: String,
    /// Name of the image on the boot server.
    pub served_as: String,
    /// Files of the image, with their content.
    pub files: Vec<(String, String)>,
    /// False for an image that panics, which leaves the node off.
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

#[derive(Debug)]
pub(crate) struct Netboot {
    script: Vec<String>,
}

/// Mounts the node's next root, run as `sh -ec BOOT boot SERVED NODE IMAGES DIRECTORY ROOT BELOW DISK`.
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
    /// Takes over a node whose root is mounted: its own files become a layer that is never written again.
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

    /// Command to run before the node's container.
    pub(crate) fn script(&self) -> &[String] {
        &self.script
    }
}

/// Lets the controller serve this image by default. SlurmUser may write there.
pub(crate) fn serve(root: &NodeRoot, image: &NetImage) -> Result<()> {
    let default = format!("{BOOT_DIRECTORY}/{DEFAULT}");
    root.write_file(&default, format!("boot {}\n", image.served_as), 0o644)?;
    root.run(&["chown", "-R", "slurm:slurm", BOOT_DIRECTORY]).map(drop)
}
