# Holds one cluster together. Started by namespaces.rs as `sh -c THIS supervise DIRECTORY CGROUP...`; stdin is a pipe that
# nobody writes to: it ends when the process that holds the cluster drops it, or dies of whatever. Then this script's inner
# shell ends, which is process 1 of the cluster's pid namespace, and with it the kernel ends every process, mount,
# bridge and address of the cluster. stderr is a file whose lock tells others that the cluster is alive.
directory=$1
shift
unshare --mount --pid --net --fork --kill-child --mount-proc --propagation private -- sh -ec '
    # nspawn keeps one directory for each machine name in /run: not to be shared between clusters.
    mount -t tmpfs -o mode=755 run /run
    ip link set lo up
    ip link add name lab type bridge
    ip link set lab up
    echo ready
    while read -r line; do :; done
'
for group; do
    for attempt in 1 2 3 4 5 6 7 8 9 10; do
        find "$group" -depth -type d -delete && break
        sleep 0.1
    done
done 2>/dev/null
# ostree protects the roots that it has deployed.
chattr -f -i "$directory"/*/upper/ostree/deploy/*/deploy/* 2>/dev/null
rm -rf "$directory"
