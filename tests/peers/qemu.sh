#!/usr/bin/env bash
# Builds QEMU's vfio-user server from Debian's source package, and the samples of the libvfio-user
# inside it. Debian's own binary lacks the x-vfio-user-server object.
set -euo pipefail
started=$EPOCHREALTIME
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

# The programs find libvfio-user.so.0 by a RUNPATH relative to themselves, so each keeps the place
# that it had in the build tree.
library=subprojects/libvfio-user/lib/libvfio-user.so.0
samples=(subprojects/libvfio-user/samples/{client,gpio-pci-idio-16,lspci,server})

finished() {
  is_stamped && "$cache/qemu/qemu-system-x86_64" -version &>/dev/null
}

# The machine's own apt sources stay as they are: a copy of them that asks for source packages,
# with lists and caches of its own, is used and thrown away.
fetch_source() {
  local apt=$build/apt file
  mkdir -p "$apt"/{sources,lists/partial,cache/archives/partial}
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}; do
    [[ -f $file ]] || continue
    sed -E 's/^Types:.*/Types: deb-src/; s/^deb([[:space:]])/deb-src\1/' "$file" \
      >"$apt/sources/$(basename "$file" | sed 's/^sources\.list$/main.list/')"
  done
  local options=(
    -o "Dir::Etc::sourceparts=$apt/sources" -o Dir::Etc::sourcelist=/dev/null
    -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root
  )
  cd "$build"
  step "apt-get update (sources)" apt-get -qq "${options[@]}" update
  step "apt-get source" apt-get -qq "${options[@]}" source --download-only qemu
  # apt has checked the archive's signature and the files' hashes already.
  step "dpkg-source" dpkg-source -x --no-check qemu_*.dsc source
}

# Without I440FX and Q35 the binary does not link.
device_config() {
  printf 'CONFIG_%s=y\n' I440FX Q35 MULTIPROCESS VFIO_USER_SERVER NVME_PCI LSI_SCSI_PCI E1000_PCI \
    E1000E_PCI_EXPRESS PCI_TESTDEV EDU VIRTIO_PCI VIRTIO_BLK VIRTIO_RNG VIRTIO_NET
}

compile() {
  # With another Python ahead of Debian's, configure would not find Debian's meson.
  local PATH=/usr/bin:/bin:/usr/sbin:/sbin
  device_config >"$build/source/configs/devices/x86_64-softmmu/vfu.mak"
  mkdir "$build/tree"
  cd "$build/tree"
  # Without KVM the multiprocess code does not compile; none is needed to run it.
  step configure ../source/configure --target-list=x86_64-softmmu --without-default-features \
    --without-default-devices --with-devices-x86_64=vfu --enable-kvm --enable-multiprocess \
    --enable-vfio-user-server --disable-docs --disable-gtk --disable-sdl --disable-vnc \
    --disable-tools --disable-guest-agent --disable-debug-info --disable-werror \
    --disable-install-blobs
  step ninja ninja -j "$(nproc)" qemu-system-x86_64 "${samples[@]}"
}

# The devices need no firmware: their option ROMs are turned off when they start.
keep() {
  mkdir "$build/kept"
  step "copy the programs" cp -L --parents -t "$build/kept" qemu-system-x86_64 "$library" \
    "${samples[@]}"
  end_build "$build/kept" "$(sed -n 's/^Version: //p' "$build"/qemu_*.dsc)"
}

finished || begin_build
if ! finished; then
  need_packages dpkg-dev gcc g++ pkg-config ninja-build meson libglib2.0-dev libpixman-1-dev \
    libfdt-dev libjson-c-dev libcmocka-dev
  fetch_source
  compile
  keep
fi
report qemu "$(stamped_version)" "$cache/qemu"
