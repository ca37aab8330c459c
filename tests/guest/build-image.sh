#!/usr/bin/env bash
# Build a Debian guest with systemd as PID 1 and cgroup v2 from this machine's own apt sources.
#
#   build-image.sh DIRECTORY      creates vmlinux, initrd.img, root.ext4 and python there; needs root, about 2 minutes
#
# Installs missing packages. The guest has no network but to another guest: the host controls it over virtio-serial.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
OUT=$1
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export DEBIAN_FRONTEND=noninteractive

# Modules for the root disk, the connection to the host and that to another guest; the cloud kernel has everything else built in.
MODULES=(virtio_pci virtio_blk virtio_console virtio_net)
# Units that cost boot time and are of no use to a guest that runs for minutes.
MASKED=(
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
  modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service
  modprobe@fuse.service modprobe@loop.service systemd-modules-load.service systemd-sysusers.service
  systemd-remount-fs.service systemd-update-utmp-runlevel.service
  getty.target systemd-timesyncd.service systemd-update-utmp.service systemd-pstore.service
  systemd-random-seed.service systemd-journal-flush.service systemd-journal-catalog-update.service
  systemd-update-done.service ldconfig.service dev-hugepages.mount sys-kernel-debug.mount
  sys-kernel-tracing.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount remote-fs.target
)

install_tools() {
  local missing=() package
  for package in qemu-system-x86 mmdebstrap lz4 cpio e2fsprogs busybox-static kmod; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  apt-get -qq update
  apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${missing[@]}"
}

unpack_kernel() { # unpacked only, never installed on the host
  local package
  package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ {print $2}')
  # apt's own user cannot write here; apt would print a warning for every download.
  (cd "$WORK" && apt-get -qq -o APT::Sandbox::User=root download "$package")
  dpkg -x "$WORK"/"$package"*.deb "$WORK/kernel"
  RELEASE=$(basename "$WORK"/kernel/lib/modules/*)
  /sbin/depmod -b "$WORK/kernel" "$RELEASE"
  python3 "$HERE/extract_kernel.py" "$WORK/kernel/boot/vmlinuz-$RELEASE" "$OUT/vmlinux"
}

make_initrd() {
  local tree=$WORK/initrd module file
  mkdir -p "$tree"/{bin,dev,proc,sys,modules,root}
  cp /bin/busybox "$tree/bin/"
  for module in "${MODULES[@]}"; do
    /sbin/modprobe -d "$WORK/kernel" -S "$RELEASE" --show-depends "$module"
  done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' | while read -r file; do
    cp "$file" "$tree/modules/"
    basename "$file" >>"$tree/modules/order"
  done
  install -m 755 "$HERE/init" "$tree/init"
  (cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$OUT/initrd.img"
}

make_root() {
  local tree=$WORK/root suite unit size source sources=()
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  for source in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [ -s "$source" ] && sources+=("$source")
  done
  mmdebstrap --quiet --variant=minbase --format=directory --aptopt='Apt::Install-Recommends "false"' \
    --include=systemd,systemd-sysv,libpam-systemd,dbus,python3,procps,iproute2,tmux \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    "$suite" "$tree" "${sources[@]}"
  basename "$tree"/usr/lib/python3.* >"$OUT/python"
  mkdir -p "$tree/usr/local/lib/$(cat "$OUT/python")/dist-packages" # so that the agent's Python searches it
  rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/*
  for unit in "${MASKED[@]}"; do ln -sf /dev/null "$tree/etc/systemd/system/$unit"; done
  ln -sf /lib/systemd/system/multi-user.target "$tree/etc/systemd/system/default.target"
  mkdir -p "$tree/etc/systemd/journald.conf.d"
  printf '[Journal]\nStorage=volatile\n' >"$tree/etc/systemd/journald.conf.d/volatile.conf"
  echo guest >"$tree/etc/hostname"
  echo '127.0.0.1 localhost guest' >"$tree/etc/hosts"
  : >"$tree/etc/fstab"
  install -m 755 "$HERE/agent.py" "$tree/usr/local/sbin/guest-agent"
  install -m 644 "$HERE/agent.service" "$tree/etc/systemd/system/guest-agent.service"
  ln -s /etc/systemd/system/guest-agent.service "$tree/etc/systemd/system/multi-user.target.wants/"
  useradd --root "$tree" --create-home --uid 1000 --shell /bin/bash tester
  size=$(($(du -sm "$tree" | cut -f1) + 400))
  mke2fs -q -t ext4 -O ^has_journal -m 0 -E lazy_itable_init=1 -d "$tree" "$OUT/root.ext4" "${size}M" >/dev/null
}

install_tools
unpack_kernel
make_initrd
make_root
