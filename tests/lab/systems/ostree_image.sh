# Makes of a node's root, as it is now, the image `compute` 1, deployed by ostree in that same root; and of it, in another
# repository that is the remote `site`, compute/2, and compute/3, which says that it is version 2. Runs in the root,
# which is not booted. There is no kernel in it that could be booted: the lab plays boot loader and kernel.
mount -t proc proc /proc
site=/srv/site skeleton=/tmp/skeleton new=/tmp/new
os_release() { sed '/^IMAGE_/d' /usr/lib/os-release; printf 'IMAGE_ID=compute\nIMAGE_VERSION=%s\n' "$1"; }
mkdir -p $skeleton $new/usr/lib $site /ostree/repo /ostree/deploy /usr/lib/modules/1
echo kernel >/usr/lib/modules/1/vmlinuz
echo initrd >/usr/lib/modules/1/initramfs.img
for directory in boot dev home media mnt opt proc root run srv sys sysroot tmp usr var; do mkdir $skeleton/$directory; done
cp -a /bin /sbin /lib* $skeleton/
ln -s sysroot/ostree $skeleton/ostree
for repository in $site /ostree/repo; do
    ostree --repo=$repository init --mode=bare
    ostree --repo=$repository config set core.fsync false
done
commit() { ostree --repo=$site commit --branch "$@" >/dev/null; }
printf '[remote "site"]\nurl=file:///sysroot%s\ngpg-verify=false\n' $site >/etc/ostree/remotes.d/site.conf
os_release 1 >/tmp/os-release
cat /tmp/os-release >/usr/lib/os-release
# What would only be copied.
rm -rf /usr/share/doc /usr/share/locale /usr/share/man
# In mounts of its own, so that nothing is copied.
mkdir /usr/etc
mount --bind /etc /usr/etc
mount --rbind /usr $skeleton/usr
commit compute/1 --tree=dir=$skeleton
umount $skeleton/usr/etc $skeleton/usr /usr/etc
os_release 2 >$new/usr/lib/os-release
commit compute/2 --tree=ref=compute/1 --tree=dir=$new
echo more >$new/usr/lib/more
commit compute/3 --tree=ref=compute/1 --tree=dir=$new

ostree admin os-init lab
ostree --repo=/ostree/repo pull-local $site compute/1
ostree admin deploy --os=lab compute/1
cp -a /var/. /ostree/deploy/lab/var/
rm -rf $skeleton $new
