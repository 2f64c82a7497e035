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

# rustup's cargo and rustc are proxies: without a toolchain in HOME they are there and cannot run.
find_cargo() {
  local package=cargo
  cargo=cargo
  if cargo --version &>/dev/null; then return; fi
  cargo=/usr/bin/cargo
  export RUSTC=/usr/bin/rustc
  if [[ ! -x $cargo ]]; then
    renew_lists cargo
    # Debian 12 has a recent one by this name beside an old `cargo`; later releases just `cargo`.
    if apt-cache show cargo-web &>/dev/null; then package="cargo-web"; fi
    need_packages "$package" gcc
  fi
}

finished || begin_build
if ! finished; then
  find_cargo
  step "$cargo install" "$cargo" install --locked vfio_user --version "$version" --example gpio \
    --root "$build/kept" --target-dir "$build/target"
  end_build "$build/kept" "$version"
fi
report "vfio_user's gpio" "$(stamped_version)" "$cache/crate"
