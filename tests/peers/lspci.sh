#!/usr/bin/env bash
# Sees to it that lspci, setpci and their pci.ids are there: they judge our PCI decoding. Beside the
# machine's own comes lspci of Debian 13, which knows more and has other words. It is unpacked, not
# installed, and starts by the loader and libraries that came along.
set -euo pipefail
started=$EPOCHREALTIME
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

# Debian before 12 keeps them in /usr/sbin, which is not in everybody's PATH.
PATH=$PATH:/usr/sbin:/sbin
release=trixie

have_all() {
  command -v lspci >/dev/null && command -v setpci >/dev/null && [[ -f /usr/share/misc/pci.ids ]]
}

finished() {
  is_stamped && "$cache/lspci/lspci" --version &>/dev/null
}

version_of() {
  "$1" --version | cut -d' ' -f3
}

keep_lspci() {
  cat >"$1/lspci" <<'END'
#!/bin/sh
tree=$(dirname "$(realpath "$0")")
exec "$tree/usr/lib64/ld-linux-x86-64.so.2" --library-path "$tree/usr/lib/x86_64-linux-gnu" \
  "$tree/usr/bin/lspci" "$@"
END
  chmod +x "$1/lspci"
}

if ! have_all; then
  need_packages pciutils pci.ids
fi
report pciutils "$(version_of lspci)" "$(command -v lspci)"

[[ $(uname -m) == x86_64 && -f $keyring ]] || leave_out "lspci of $release needs x86-64 and Debian"
if ! finished; then
  begin_build
  if ! finished; then
    prepare_apt "$release" amd64
    unpack "$release" "$build/kept" pciutils
    rm -rf "$build/kept/usr/share" "$build/kept/var"
    keep_lspci "$build/kept"
    end_build "$build/kept" "$(version_of "$build/kept/lspci")"
  fi
fi
report "lspci of $release" "$(stamped_version)" "$cache/lspci/lspci"
