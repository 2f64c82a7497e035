#!/usr/bin/env bash
# Brings fio with its libraries for the guest of guest.sh. `guest_fio.ts` measures disks with it. It
# is no part of setup.sh: no test needs it.
set -euo pipefail
started=$EPOCHREALTIME
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

# The guest's programs are of the same release, so that they share a C library.
release=trixie

finished() {
  is_stamped && [[ -x $cache/fio/bin/fio ]]
}

finished || begin_build
if ! finished; then
  command -v apt-get >/dev/null || leave_out "no apt-get on this machine"
  [[ $(dpkg --print-architecture) == amd64 ]] || leave_out "this machine is no amd64"
  need_packages ca-certificates debian-archive-keyring
  [[ -f $keyring ]] || leave_out "no $keyring, which vouches for Debian's packages"
  prepare_apt "$release" amd64
  tree=$build/tree
  unpack "$release" "$tree" fio
  mkdir -p "$build"/kept/{bin,lib}
  cp "$tree/usr/bin/fio" "$build/kept/bin"
  folders=$(find "$tree/usr/lib" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
  loader=$tree/usr/lib64/ld-linux-x86-64.so.2
  "$loader" --library-path "$folders" --list "$tree/usr/bin/fio" |
    sed -n "s#^.* => \($tree/[^ ]*\) .*#\1#p" |
    while read -r library; do cp -L "$library" "$build/kept/lib"; done
  version=$("$loader" --library-path "$build/kept/lib" "$build/kept/bin/fio" --version 2>>"$log") ||
    fail "it does not start, the log is $log"
  end_build "$build/kept" "${version#fio-}"
fi
report fio "$(stamped_version)" "$cache/fio"
