#!/usr/bin/env bash
# Sees to it that tshark is there: it judges our recordings and our dissector.
set -euo pipefail
started=$EPOCHREALTIME
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

command -v tshark >/dev/null || need_packages tshark
report tshark "$(tshark --version 2>/dev/null | head -n 1 | cut -d' ' -f3)" "$(command -v tshark)"
