#!/usr/bin/env bash
# Brings every real peer that the tests of this folder talk to into $VFU_PEERS_CACHE (by default
# ~/.cache/vfu-peers). The first time takes minutes, later ones a moment.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

failed=()
for peer in lspci tshark shells chromium crate client qemu guest; do
  "$here/$peer.sh" || failed+=("$peer")
done
if ((${#failed[@]} > 0)); then
  echo "setup: these failed: ${failed[*]}" >&2
  exit 1
fi
