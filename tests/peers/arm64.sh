#!/usr/bin/env bash
# Runs tests on aarch64: Deno's arm64 build under Debian's user-mode QEMU, with arm64 libraries.
# Everything is unpacked into the cache, nothing is installed.
#
#   tests/peers/arm64.sh             brings all that is needed
#   tests/peers/arm64.sh test ...    then runs `deno test ...` of that build
set -euo pipefail
started=$EPOCHREALTIME
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

release=trixie
from=$PWD
deno_version=$(deno --version | awk 'NR == 1 { print $2 }')
recipe=$(echo "$deno_version" | cat "$0" - | sha256sum | cut -d' ' -f1)

finished() {
  is_stamped && "$cache/arm64/deno" --version &>/dev/null
}

keep_deno() {
  cd "$build"
  step "npm pack" npm pack --silent "@deno/linux-arm64-glibc@$deno_version"
  step "unpack Deno" tar -xzf deno-linux-arm64-glibc-*.tgz
  mv package/deno "$build/kept/deno-arm64"
  cat >"$build/kept/deno" <<'END'
#!/bin/sh
# The kernel starts this file, so a process under the emulator can start another one by it.
here=$(dirname "$(realpath "$0")")
export VFU_TEST_DENO="$here/deno" DENO_DIR="$here/deno-dir"
exec "$here/qemu-aarch64" -L "$here/root" "$here/deno-arm64" "$@"
END
  chmod +x "$build/kept/deno"
}

finished || begin_build
if ! finished; then
  command -v apt-get >/dev/null || leave_out "no apt-get on this machine"
  command -v npm >/dev/null || leave_out "no npm on this machine"
  [[ $(dpkg --print-architecture) == amd64 ]] || leave_out "this machine is no amd64"
  need_packages ca-certificates debian-archive-keyring
  [[ -f $keyring ]] || leave_out "no $keyring, which vouches for Debian's packages"
  prepare_apt "$release" "amd64 arm64"
  unpack_alone "$build/emulator" qemu-user
  mkdir "$build/kept"
  mv "$build/emulator/usr/bin/qemu-aarch64" "$build/kept"
  for package in libc6 libgcc-s1 libstdc++6; do unpack_alone "$build/kept/root" "$package:arm64"; done
  ln -s usr/lib "$build/kept/root/lib"
  keep_deno
  cd "$cache"
  end_build "$build/kept" "$deno_version"
fi
report "Deno for aarch64" "$(stamped_version)" "$cache/arm64"
(($# > 0)) || exit 0
cd "$from"
exec "$cache/arm64/deno" "$@"
