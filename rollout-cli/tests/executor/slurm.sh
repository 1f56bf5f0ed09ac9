#!/bin/sh
# Stands in for scontrol, squeue, sbatch and scancel. Knows the nodes n1, n2 ... and keeps their state below DIR.
d=DIR
echo "${0##*/} $*" >>"$d/calls"
if [ "${0##*/}" = squeue ]; then
    [ ! -e "$d/no-jobs" ] || exit 1
    case "$*" in
    *--name=*) cat "$d/runs" ;;
    *) cat "$d/jobs" ;;
    esac
    exit
fi

# Prints the names of a hostlist.
expand() {
    case $1 in
    *\[*) numbers=${1#*\[} numbers=${numbers%\]} ;;
    *) numbers=${1#n} ;;
    esac
    for range in $(echo "$numbers" | tr , ' '); do
        seq "${range%-*}" "${range#*-}" | sed s/^/n/
    done
}

# Kills the caller if it is to die here.
die() {
    if [ "$(cat "$d/die" 2>/dev/null)" = "$1" ]; then
        rm "$d/die"
        kill -9 $PPID
        exit 1
    fi
}

if [ "${0##*/}" = sbatch ]; then
    die before
    if [ -e "$d/refuse-job" ]; then
        echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' >&2
        exit 1
    fi
    for word; do
        case $word in
        --job-name=*) name=${word#*=} ;;
        --reservation=*) reservation=${word#*=} ;;
        esac
    done
    job=$(($(wc -l <"$d/runs") + 1))
    echo "$job|RUNNING|None|$reservation|$name" >>"$d/runs"
    echo "$job"
    die after
    exit
fi
if [ "${0##*/}" = scancel ]; then
    sed -i "s/^$1|[A-Z]*|/$1|CANCELLED|/" "$d/runs"
    exit
fi

set_node() {
    printf %s "$2" >"$d/nodes/.$1" && mv "$d/nodes/.$1" "$d/nodes/$1"
    printf %s "$3" >"$d/reasons/$1"
}

if [ -e "$d/away" ]; then
    echo 'slurm_load_node error: Unable to contact slurm controller (connect failure)' >&2
    exit 1
fi
for last; do :; done
case "$1 $2" in
'show config')
    echo "SlurmctldHost[0]        = $(uname -n)"
    echo 'KillWait                = 30 sec'
    echo "ResumeTimeout           = $(cat "$d/resume-timeout")"
    ;;
'show node')
    for file in "$d"/nodes/*; do
        name=${file##*/} reason=$(cat "$d/reasons/${file##*/}")
        printf 'NodeName=%s NodeAddr=127.0.0.1 NodeHostName=%s State=%s Partitions=batch BootTime=%s' \
            "$name" "$name" "$(cat "$file")" "$(cat "$d/boots/$name")"
        [ ! -e "$d/kinds/$name" ] || printf ' %s' "$(cat "$d/kinds/$name")"
        [ -z "$reason" ] || printf ' Reason=%s [root@2026-01-01T00:00:00]' "$reason"
        echo
    done
    ;;
'show part')
    sleep "$(cat "$d/slow" 2>/dev/null || echo 0)"
    echo 'PartitionName=batch Nodes=n[1-6] State=UP'
    ;;
'show res')
    for file in "$d"/reservations/*; do
        [ -e "$file" ] || continue
        read -r start end nodes <"$file"
        printf 'ReservationName=%s StartTime=%s EndTime=%s Nodes=%s Flags=MAINT,IGNORE_JOBS Users=root\n' \
            "${file##*/}" "$start" "$end" "$nodes"
    done
    ;;
'create reservation')
    die before
    for word; do
        case $word in
        reservationname=*) name=${word#*=} ;;
        starttime=uts*) start=${word#*uts} ;;
        starttime=now) start=$(date +%s) ;;
        endtime=uts*) end=${word#*uts} ;;
        nodes=*) nodes=${word#*=} ;;
        esac
    done
    if [ -e "$d/reservations/$name" ]; then
        echo 'Error creating the reservation: Reservation name is already in use' >&2
        exit 1
    fi
    echo "$start $end $nodes" >"$d/$name" && mv "$d/$name" "$d/reservations/$name"
    die after
    ;;
'update reservationname='*)
    name=${2#*=} nodes=${3#*=} end=${4#*uts}
    read -r start rest <"$d/reservations/$name" || exit 1
    echo "$start $end $nodes" >"$d/$name" && mv "$d/$name" "$d/reservations/$name"
    ;;
'delete reservationname='*)
    die before
    rm "$d/reservations/${2#*=}" || exit 1
    die after
    ;;
reboot*)
    die before
    if [ -e "$d/refuse" ]; then
        echo 'scontrol_reboot_nodes error: Access/permission denied' >&2
        exit 1
    fi
    for node in $(expand "$last"); do
        state=$(cat "$d/nodes/$node")
        case $2:$state in
        *REBOOT*) ;;
        ASAP:IDLE) set_node "$node" IDLE+DRAIN+REBOOT_REQUESTED "${4#reason=}" ;;
        nextstate=*) set_node "$node" "$state+REBOOT_REQUESTED" '' ;;
        esac
    done
    die after
    ;;
notify*)
    [ ! -e "$d/notify" ] || { cat "$d/notify" >&2 && exit 1; }
    ;;
requeue*) sleep "$(cat "$d/slow-requeue" 2>/dev/null || echo 0)" ;;
cancel_reboot*)
    die before
    for node in $(expand "$last"); do
        case $(cat "$d/nodes/$node") in
        IDLE*REBOOT_REQUESTED) set_node "$node" IDLE '' ;;
        MIXED+REBOOT_REQUESTED) set_node "$node" MIXED '' ;;
        esac
    done
    die after
    ;;
update*)
    die before
    for node in $(expand "${2#NodeName=}"); do
        state=$(cat "$d/nodes/$node")
        case "$3" in
        State=DRAIN) set_node "$node" "$state+DRAIN" "${4#Reason=}" ;;
        State=UNDRAIN) set_node "$node" "${state%+DRAIN}" "${4#Reason=}" ;;
        esac
    done
    die after
    ;;
esac
