# Makes a disk with two systems on it and a boot loader: partition 1 is /boot, 2 the old system, 3 the new one, and on 4, which
# both have, is the agent's ledger. Arguments: grub or systemd-boot, the base, the layer with the agent, and the directory
# in which the file `disk` is made. Runs in mounts of its own, which end with it. Writes files only: no loop devices.
loader=$1 base=$2 layer=$3 directory=$4
cd "$directory"
mkdir upper work root parts
mount -t overlay lab -o "lowerdir=$layer:$base,upperdir=$directory/upper,workdir=$directory/work" root
# All tools are the base's own, whatever this host has.
mount --bind "$directory/parts" root/mnt
mount -t proc proc root/proc
inside() { chroot root env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"; }

echo vm01 >root/etc/hostname
echo 0123456789abcdef0123456789abcdef >root/etc/machine-id
kind=ext4
[ "$loader" = grub ] || kind=vfat
# An emulated processor that is shared finds its disks late.
cat >root/etc/fstab <<END
/dev/vda1 /boot $kind defaults,x-systemd.device-timeout=600 0 0
/dev/vda4 /var/lib/slurm-rollout-agent ext4 defaults,x-systemd.device-timeout=600 0 0
END
# Slurm is not there. What it would say is that nobody has drained the node.
cat >root/usr/bin/scontrol <<'END'
#!/bin/sh
echo "NodeName=vm01 State=IDLE"
END
# The new system's kernel comes up, and nothing after it.
cat >root/usr/sbin/lab-hang <<'END'
#!/bin/sh
echo "lab: this system hangs" >/dev/console
while :; do sleep 1000; done
END
# Commands come from the host in base64, one a line, behind a number that the answer begins with.
cat >root/usr/sbin/lab-shell <<'END'
#!/bin/sh
until exec 3<>/dev/virtio-ports/lab; do sleep 0.2; done
while :; do
    while read -r number command <&3; do
        echo "$command" | base64 -d >/run/lab.sh
        sh /run/lab.sh >/run/lab.out 2>/run/lab.err 3>&- </dev/null
        code=$?
        echo "$number $code $(base64 -w0 /run/lab.out) $(base64 -w0 /run/lab.err) end" >&3
    done
    sleep 0.2
done
END
chmod 755 root/usr/bin/scontrol root/usr/sbin/lab-hang root/usr/sbin/lab-shell
cat >root/etc/systemd/system/lab-shell.service <<'END'
[Unit]
RequiresMountsFor=/boot /var/lib/slurm-rollout-agent
[Service]
ExecStart=/usr/sbin/lab-shell
[Install]
WantedBy=multi-user.target
END
inside systemctl --quiet enable lab-shell.service slurm-rollout-agent.service
# Nobody logs in, and no order comes over the network.
inside systemctl --quiet disable e2scrub_reap.service munge.service
inside systemctl --quiet mask systemd-logind.service dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount modprobe@.service tmp.mount
# What runs the machine is not needed in it.
rm -rf root/usr/bin/qemu* root/usr/share/qemu root/usr/share/OVMF root/usr/share/seabios
mv root/boot parts/boot
mkdir root/boot
rm parts/boot/System.map-* parts/boot/config-*
mv parts/boot/vmlinuz-* parts/boot/vmlinuz
mv parts/boot/initrd.img-* parts/boot/initrd

# Nothing is said, and no leak is fought, that would only take time.
common="rw console=ttyS0 loglevel=4 mitigations=off systemd.show_status=0"
if [ "$loader" = grub ]; then
    cat >root/etc/default/grub <<END
GRUB_DEFAULT=saved
GRUB_TIMEOUT=0
GRUB_TIMEOUT_STYLE=menu
GRUB_TERMINAL=console
GRUB_CMDLINE_LINUX="$common"
END
    cat >root/etc/grub.d/10_compute <<'END'
#!/bin/sh
entry() { printf "menuentry '%s' --id %s {\n linux /vmlinuz %s\n initrd /initrd\n}\n" "$@"; }
entry 'Compute 1' old "root=/dev/vda2 $GRUB_CMDLINE_LINUX"
echo "submenu 'Others' --id others {"
entry 'Compute 2' new "root=/dev/vda3 $GRUB_CMDLINE_LINUX"
entry 'Compute 2 that hangs' hang "root=/dev/vda3 init=/usr/sbin/lab-hang $GRUB_CMDLINE_LINUX"
echo "}"
END
    # The rest of grub-mkconfig would find nothing, and take its time for it.
    chmod -x root/etc/grub.d/*
    chmod +x root/etc/grub.d/00_header root/etc/grub.d/10_compute root/etc/grub.d/41_custom
    mkdir parts/boot/grub
    cp -r root/usr/lib/grub/i386-pc parts/boot/grub/
    inside grub-editenv /mnt/boot/grub/grubenv create
    inside grub-editenv /mnt/boot/grub/grubenv set saved_entry=old
    # As grub-mkconfig, which cannot run here: it looks for the disk of the root.
    for part in 00_header 10_compute 41_custom; do
        inside env prefix=/usr exec_prefix=/usr datarootdir=/usr/share pkgdatadir=/usr/share/grub \
            sh -ec 'set -a; . /etc/default/grub; exec "/etc/grub.d/$0"' "$part"
    done >parts/boot/grub/grub.cfg
    label=dos boot=L
else
    mkdir -p parts/boot/EFI/BOOT parts/boot/EFI/systemd parts/boot/loader/entries
    for place in BOOT/BOOTX64.EFI systemd/systemd-bootx64.efi; do
        cp root/usr/lib/systemd/boot/efi/systemd-bootx64.efi parts/boot/EFI/$place
    done
    printf 'timeout 0\ndefault compute-1.conf\n' >parts/boot/loader/loader.conf
    entry() { printf 'title %s\nlinux /vmlinuz\ninitrd /initrd\noptions %s\n' "$1" "$3" >"parts/boot/loader/entries/$2.conf"; }
    entry 'Compute 1' compute-1 "root=/dev/vda2 $common"
    entry 'Compute 2' compute-2 "root=/dev/vda3 $common"
    label=gpt boot=U
fi

# In MiB: where each partition begins, and how long it is.
inside truncate -s 1000M /mnt/disk
inside sfdisk --quiet /mnt/disk <<END
label: $label
start=1MiB, size=99MiB, type=$boot
start=100MiB, size=420MiB, type=L
start=520MiB, size=420MiB, type=L
start=940MiB, size=50MiB, type=L
END
ext4() {
    chroot "$base" mke2fs -q -t ext4 -d "/mnt/$1" -E "offset=$(($2 * 1048576))" /mnt/parts/disk "${3}M"
}
umount root/proc root/mnt
# mke2fs reads all below a directory: the root is shown to it without the mounts in it.
mount -t tmpfs lab "$base/mnt"
mkdir "$base/mnt/parts" "$base/mnt/root" "$base/mnt/nothing"
mount --bind "$directory/parts" "$base/mnt/parts"
mount --bind root "$base/mnt/root"
image() { sed -i '/^IMAGE_/d' root/usr/lib/os-release; printf 'IMAGE_ID=compute\nIMAGE_VERSION=%s\n' "$1" >>root/usr/lib/os-release; }
image 1
ext4 root 100 420
image 2
ext4 root 520 420
ext4 nothing 940 50
if [ "$loader" = grub ]; then
    ext4 parts/boot 1 99
    # As grub-install does it: the first sector, and behind it what reads /boot.
    modules=$base/usr/lib/grub/i386-pc
    chroot "$base" grub-mkimage -O i386-pc -p '(hd0,msdos1)/grub' -o /mnt/parts/core.img biosdisk part_msdos ext2
    dd if="$modules/boot.img" of=parts/disk bs=440 count=1 conv=notrunc status=none
    dd if=parts/core.img of=parts/disk bs=512 seek=1 conv=notrunc status=none
else
    chroot "$base" truncate -s 99M /mnt/parts/esp
    chroot "$base" mkfs.vfat -n ESP /mnt/parts/esp >/dev/null
    chroot "$base" sh -ec 'mcopy -s -i /mnt/parts/esp /mnt/parts/boot/* ::/'
    dd if=parts/esp of=parts/disk bs=1M seek=1 conv=notrunc,sparse status=none
fi
umount "$base/mnt/root" "$base/mnt/parts" "$base/mnt" root
mv parts/disk disk
rm -rf upper work root parts
