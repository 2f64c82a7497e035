#!/usr/bin/env bash
# Builds the `gpio` server, an example of the crate vfio_user (rust-vmm's, used by Cloud Hypervisor).
set -euo pipefail
started=$EPOCHREALTIME
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

version=0.1.4

finished() {
  is_stamped && "$cache/crate/bin/gpio" --help &>/dev/null
}

finished || begin_build
if ! finished; then
  find_cargo
  step "$cargo install" "$cargo" install --locked vfio_user --version "$version" --example gpio \
    --root "$build/kept" --target-dir "$build/target"
  end_build "$build/kept" "$version"
fi
report "vfio_user's gpio" "$(stamped_version)" "$cache/crate"
