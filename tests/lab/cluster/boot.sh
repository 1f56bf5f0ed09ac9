# Boots a node once. Arguments: the host's uptime, the node's root, its name, the bridge, and its control groups.
uptime=$1 root=$2 name=$3 bridge=$4
shift 4
for group; do echo 0 >"$group/cgroup.procs"; done
# Of the entries that ostree has written, a boot loader boots the one with the highest version; what ostree-prepare-root does in
# the initial root is done here.
entry=$(grep -H '^version ' "$root"/boot/loader/entries/ostree-*.conf 2>/dev/null | sort -k 2n | tail -n 1 | cut -d : -f 1)
if [ -n "$entry" ]; then
    deployment=$(realpath "$root$(sed -n 's/^options .*ostree=\([^ ]*\).*/\1/p' "$entry")")
    touch "$root.ostree-booted"
    set -- -D "$deployment" --bind="$root:/sysroot" --bind="$root/boot:/boot" \
        --bind="$(realpath "$deployment/../../var"):/var" --bind-ro="$root.ostree-booted:/run/ostree-booted"
else
    set -- -D "$root"
fi
# systemd asks for this device before it makes an automount.
if ls "$root"/etc/systemd/system/*.automount >/dev/null 2>&1; then set -- "$@" --bind=/dev/autofs; fi
exec unshare --time --boottime=-$uptime --monotonic=-$uptime -- systemd-nspawn --quiet --register=no --keep-unit \
    --capability=all --console=read-only --network-bridge=$bridge "$@" -M "$name" -b
