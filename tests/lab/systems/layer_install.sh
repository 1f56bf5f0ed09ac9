# Installs the packages in /mnt into a root that is not booted, offline. Argument: deb or rpm.
case $1 in
deb)
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -y -o Dpkg::Use-Pty=0 install /mnt/*.deb
    apt-get clean
    rm -f /var/cache/apt/*.bin
    ;;
rpm)
    # A system made of RPMs enables no service that no preset names.
    echo 'disable *' >/usr/lib/systemd/system-preset/99-default-disable.preset
    # It does not say that it is Debian, by which the agent would take apt for its own.
    sed 's/^ID=.*/ID=lab\nID_LIKE="rhel fedora"/' /usr/lib/os-release >/etc/os-release.lab
    mv /etc/os-release.lab /etc/os-release
    # It has this directory from its package `filesystem`.
    mkdir -p /usr/share/licenses

    # What rpm finds no package for: libraries with exactly the symbols that this system has, and packages of Debian's by
    # the names and with the versions that an RPM asks for.
    mkdir /tmp/lab-base
    {
        printf 'Name: lab-base\nVersion: 1\nRelease: 1\nSummary: What Debian has\nLicense: none\nBuildArch: noarch\n'
        printf 'Provides: /bin/sh, glibc, shadow-utils, rtld(GNU_HASH)\n'
        for library in libc.so.6 libm.so.6 libgcc_s.so.1 'ld-linux-*.so.*'; do
            find /usr/lib/*-linux-gnu /usr/lib64 /lib64 -name "$library" | sort -u | head -1
        done | /usr/lib/rpm/elfdeps --provides | sed 's/^/Provides: /'
        set -- systemd munge slurmd slurmctld slurm-client
        dpkg-query -W -f '${Package} ${Version}\n' "$@" | while read -r name version; do
            version=${version#*:}
            case $name in
            slurm-client) name=slurm ;;
            slurm*) name=slurm-$name ;;
            esac
            printf 'Provides: %s = %s\n' "$name" "${version%%-*}"
        done
        printf '%%description\n%%files\n'
    } >/tmp/lab-base/lab-base.spec
    rpmbuild --quiet -bb --define '_topdir /tmp/lab-base' /tmp/lab-base/lab-base.spec
    set -- /tmp/lab-base/RPMS/noarch/lab-base-1-1.noarch.rpm
    for package in /mnt/*.rpm; do [ ! -e "$package" ] || set -- "$@" "$package"; done
    dnf -q -y install "$@"
    rm -rf /tmp/lab-base /var/cache/dnf /var/cache/libdnf5 /var/log/dnf*
    ;;
esac
# As in the bases, nothing runs by the clock: a test that wants a timer starts it.
rm -rf /etc/systemd/system/timers.target.wants

# Else every node's first boot would bring /etc and /var up to date with /usr.
touch -r /usr /etc/.updated /var/.updated
