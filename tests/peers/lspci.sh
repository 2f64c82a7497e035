#!/usr/bin/env bash
# Sees to it that lspci, setpci and their pci.ids are there: they judge our PCI decoding.
set -euo pipefail
started=$EPOCHREALTIME
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

# Debian before 12 keeps them in /usr/sbin, which is not in everybody's PATH.
PATH=$PATH:/usr/sbin:/sbin
have_all() {
  command -v lspci >/dev/null && command -v setpci >/dev/null && [[ -f /usr/share/misc/pci.ids ]]
}

if ! have_all; then
  need_packages pciutils pci.ids
fi
report pciutils "$(lspci --version | cut -d' ' -f3)" "$(command -v lspci)"
