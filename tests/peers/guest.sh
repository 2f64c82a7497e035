#!/usr/bin/env bash
# Brings today's QEMU, a Debian kernel and an initramfs: a Linux guest that uses our devices.
# Everything comes from Debian's archive and is unpacked, not installed: no root is needed, and the
# machine's own packages stay as they are. QEMU starts by the loader and libraries that came along.
#
# A guest by hand, with a device that `vfu serve` serves at SOCKET (guest.ts does the same):
#
#   cd ~/.cache/vfu-peers/guest && ./qemu -accel tcg -cpu max -machine q35,memory-backend=mem \
#     -object memory-backend-memfd,id=mem,size=512M,share=on -m 512M -nodefaults -no-user-config \
#     -display none -kernel vmlinuz -initrd initramfs.cpio -append 'console=ttyS0 quiet shell' \
#     -serial mon:stdio -device pcie-root-port,id=rp0,chassis=1,slot=1,addr=4.0 -device \
#     '{"driver":"vfio-user-pci","bus":"rp0","socket":{"type":"unix","path":"SOCKET"}}'
#
# Without `shell` on the kernel's command line, init takes commands from the second serial port.
set -euo pipefail
started=$EPOCHREALTIME
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

recipe=$(cat "$0" "$here"/guest/init | sha256sum | cut -d' ' -f1)
release=trixie
kernel_modules=(uio_pci_generic vfio-pci vfio_iommu_type1 virtio_blk)

finished() {
  is_stamped && "$cache/guest/qemu" -version &>/dev/null
}

loader=usr/lib64/ld-linux-x86-64.so.2
libraries=usr/lib/x86_64-linux-gnu

# Runs a program of an unpacked tree with the tree's own libraries.
run_in() {
  local tree=$1 program=$2
  shift 2
  "$tree/$loader" --argv0 "$(basename "$program")" --library-path "$tree/$libraries" \
    "$tree/$program" "$@"
}

keep_qemu() {
  local tree=$build/host part
  mkdir -p "$build/kept/tree"
  cd "$tree"
  for part in usr/bin/qemu-system-x86_64 usr/lib64 $libraries usr/share/qemu usr/share/seabios; do
    step "copy $part" cp -a --parents "$part" "$build/kept/tree"
  done
  cat >"$build/kept/qemu" <<EOF
#!/bin/sh
tree=\$(dirname "\$(realpath "\$0")")/tree
export QEMU_MODULE_DIR="\$tree/$libraries/qemu"
exec "\$tree/$loader" --library-path "\$tree/$libraries" "\$tree/usr/bin/qemu-system-x86_64" \\
  -L "\$tree/usr/share/seabios" -L "\$tree/usr/share/qemu" "\$@"
EOF
  chmod +x "$build/kept/qemu"
}

# The kernel for clouds has NVMe and ext4 built in, boots faster and is a third of the size.
keep_kernel() {
  local package
  package=$(apt-cache depends -t "$release" linux-image-cloud-amd64 |
    sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p')
  [[ -n $package ]] || fail "linux-image-cloud-amd64 names no kernel"
  unpack_alone "$build/kernel" "$package"
  cp "$build"/kernel/boot/vmlinuz-* "$build/kept/vmlinuz"
}

copy_modules() {
  local from to version module file
  from=$(echo "$build"/kernel/usr/lib/modules/*)
  version=$(basename "$from")
  to=$1/lib/modules/$version
  mkdir -p "$to"
  cp "$from"/modules.{builtin,builtin.modinfo,order} "$to"
  step depmod run_in "$build/user" usr/sbin/depmod -b "$build/kernel/usr" "$version"
  for module in "${kernel_modules[@]}"; do
    sed -n "s#^\(.*/$module\.ko\.xz\):\(.*\)#\1 \2#p" "$from/modules.dep"
  done | tr ' ' '\n' | sort -u | while read -r file; do
    [[ -n $file ]] || continue
    mkdir -p "$to/$(dirname "$file")"
    xz -dc "$from/$file" >"$to/${file%.xz}"
  done
  step depmod run_in "$build/user" usr/sbin/depmod -b "$1" "$version"
}

# A program and the libraries that it names.
copy_program() {
  local root=$1 program=$2 library
  cp -L "$build/user/$program" "$root/bin"
  "$build/user/$loader" --library-path "$build/user/$libraries" --list "$build/user/$program" |
    sed -n "s#^.* => \($build/user/[^ ]*\) .*#\1#p" |
    while read -r library; do cp -L "$library" "$root/lib"; done
}

keep_initramfs() {
  local root=$build/root name program
  mkdir -p "$root"/{bin,dev,etc,lib,lib64,mnt,proc,run,sys,tmp,usr/share/misc}
  ln -s bin "$root/sbin"
  cp "$here/guest/init" "$root/init"
  cp "$build/user/usr/bin/busybox" "$root/bin"
  for name in $("$root/bin/busybox" --list); do
    [[ $name == busybox ]] || ln -s busybox "$root/bin/$name"
  done
  # Those below are not to follow busybox's links.
  for program in usr/bin/{lspci,setpci} usr/sbin/{nvme,mke2fs,e2fsck}; do
    rm -f "$root/bin/$(basename "$program")"
    copy_program "$root" "$program"
  done
  ln -s mke2fs "$root/bin/mkfs.ext4"
  cp -L "$build/user/$loader" "$root/lib64"
  cp "$build/user/etc/mke2fs.conf" "$root/etc"
  cp "$build/user/usr/share/misc/pci.ids" "$root/usr/share/misc"
  : >"$root/etc/mtab"
  copy_modules "$root"
  cd "$root"
  find . | "$root/bin/busybox" cpio -o -H newc >"$build/kept/initramfs.cpio" 2>>"$log"
}

finished || begin_build
if ! finished; then
  command -v apt-get >/dev/null || leave_out "no apt-get on this machine"
  [[ $(dpkg --print-architecture) == amd64 ]] || leave_out "this machine is no amd64"
  need_packages ca-certificates debian-archive-keyring xz-utils gcc libc6-dev
  [[ -f $keyring ]] || leave_out "no $keyring, which vouches for Debian's packages"
  prepare_apt "$release $release-backports" amd64
  unpack "$release-backports" "$build/host" qemu-system-x86
  unpack "$release" "$build/user" busybox-static nvme-cli pciutils pci.ids e2fsprogs kmod
  keep_qemu
  keep_kernel
  keep_initramfs
  cd "$cache"
  end_build "$build/kept" "$("$build/kept/qemu" -version | awk '/^QEMU/ { print $4 }')"
fi
report "QEMU and a guest" "$(stamped_version)" "$cache/guest"
