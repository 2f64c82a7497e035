#!/usr/bin/env bash
# Builds `crate-client`, a program of ours over the client of the crate vfio_user (rust-vmm's, used by Cloud Hypervisor).
set -euo pipefail
started=$EPOCHREALTIME
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

sources=$here/client
recipe=$(cat "$0" "$sources"/Cargo.* "$sources"/src/* | sha256sum | cut -d' ' -f1)
version=$(sed -n 's/^vfio_user = "=\(.*\)"$/\1/p' "$sources/Cargo.toml")

finished() {
  is_stamped && [[ -x $cache/client/crate-client ]]
}

finished || begin_build
if ! finished; then
  find_cargo
  step "$cargo build" "$cargo" build --locked --release --manifest-path "$sources/Cargo.toml" \
    --target-dir "$build/target"
  mkdir "$build/kept"
  cp "$build/target/release/vfu-crate-client" "$build/kept/crate-client"
  end_build "$build/kept" "$version"
fi
report "our client of it" "$version" "$cache/client"
