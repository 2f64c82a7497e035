#!/usr/bin/env bash
# Sees to it that zsh and fish are there: they judge our completions.
set -euo pipefail
started=$EPOCHREALTIME
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

if ! command -v zsh >/dev/null || ! command -v fish >/dev/null; then need_packages zsh fish; fi
report zsh "$(zsh --version | cut -d' ' -f2)" "$(command -v zsh)"
report fish "$(fish --version | cut -d' ' -f3)" "$(command -v fish)"
