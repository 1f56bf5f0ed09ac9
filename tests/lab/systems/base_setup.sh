# Makes a debootstrapped root into a base of the lab. Arguments: the packages to install.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
export DEBIAN_FRONTEND=noninteractive
# Nothing is started while packages are installed.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get -qq update
apt-get -qq -y --no-install-recommends install "$@"
rm /usr/sbin/policy-rc.d

# Nodes reach each other and nobody else.
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /etc/resolv.conf /etc/apt/sources.list /etc/apt/sources.list.d/*
mkdir -p /var/cache/apt/archives/partial /var/lib/apt/lists/partial

# A node enables what it is; nothing runs by the clock; no unit that must fail in a container.
systemctl --quiet disable slurmd.service slurmctld.service
rm -rf /etc/systemd/system/timers.target.wants
systemctl --quiet mask systemd-modules-load.service systemd-pstore.service console-getty.service getty.target \
    systemd-networkd-wait-online.service systemd-timesyncd.service systemd-tmpfiles-clean.timer
rm -f /etc/machine-id /var/lib/dbus/machine-id

# The journal tells of earlier boots, too.
mkdir -p /var/log/journal
mkdir -p /var/log/slurm /var/spool/slurmctld /var/spool/slurmd /etc/slurm
chown slurm: /var/log/slurm /var/spool/slurmctld
printf 'ClusterName=none\nSlurmctldHost=none\n' >/etc/slurm/hostlist.conf

# On Debian rpm keeps its database in the caller's home, if told nothing else, and dnf does not find a release.
mkdir -p /etc/rpm /etc/dnf/vars /etc/yum.repos.d
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
echo 1 >/etc/dnf/vars/releasever
rpm --initdb

# Else every node's first boot would bring /etc and /var up to date with /usr.
touch -r /usr /etc/.updated /var/.updated
