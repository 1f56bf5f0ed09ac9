# Mounts a layer over a base and installs into it. Arguments: the base, the layer's directory with `packages` in it, the
# packages' format, and the script that is run in the root. Runs in mounts of its own, which end with it.
base=$1 directory=$2 format=$3 install=$4
mkdir "$directory/upper" "$directory/work" "$directory/root"
# The directory `work` of a dead overlay has mode 0: it is removed below, so that anybody can remove the rest.
mount -t overlay lab -o "lowerdir=$base,upperdir=$directory/upper,workdir=$directory/work" "$directory/root"
mount -t proc proc "$directory/root/proc"
mount --bind "$directory/packages" "$directory/root/mnt"
chroot "$directory/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    sh -ec "$install" install "$format"
umount "$directory/root/mnt" "$directory/root/proc" "$directory/root"
rm -rf "$directory/work" "$directory/root" "$directory/packages"
