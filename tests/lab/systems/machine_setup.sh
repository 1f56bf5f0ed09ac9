# Makes a debootstrapped root into what a virtual machine boots. Arguments: the packages to install.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
export DEBIAN_FRONTEND=noninteractive
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
# What is not there need not be copied onto disks.
printf 'path-exclude=/usr/share/%s/*\n' doc man locale info >/etc/dpkg/dpkg.cfg.d/lab
# The initial root is made with what it takes to mount the root on an emulated disk, and no more: emulation is slow.
mkdir -p /etc/initramfs-tools/conf.d
printf 'MODULES=list\nCOMPRESS=lz4\n' >/etc/initramfs-tools/conf.d/lab
apt-get -qq update
apt-get -qq -y --no-install-recommends install "$@" lz4
printf 'virtio_pci\nvirtio_blk\next4\n' >>/etc/initramfs-tools/modules
update-initramfs -u -k all
rm /usr/sbin/policy-rc.d

rm -rf /usr/share/doc /usr/share/man /usr/share/locale /usr/share/info
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /etc/resolv.conf /etc/apt/sources.list /etc/apt/sources.list.d/*
mkdir -p /var/cache/apt/archives/partial /var/lib/apt/lists/partial

# Nothing runs by the clock, nobody logs in.
rm -rf /etc/systemd/system/timers.target.wants
systemctl --quiet mask getty.target systemd-pstore.service systemd-networkd-wait-online.service \
    systemd-timesyncd.service systemd-tmpfiles-clean.timer systemd-update-utmp.service
rm -f /etc/machine-id /var/lib/dbus/machine-id
mkdir -p /var/log/journal
touch -r /usr /etc/.updated /var/.updated
