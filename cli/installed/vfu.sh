#!/bin/sh
# Starts vfu under the Deno that npm installed with this package, without node in between.
self=$0
case $self in */*) ;; *) self=./$self ;; esac
while [ -L "$self" ]; do
  target=$(readlink "$self")
  case $target in /*) self=$target ;; *) self=${self%/*}/$target ;; esac
done
# With CDPATH set, cd looks elsewhere, and prints where it went.
here=$(CDPATH='' cd "${self%/*}/.." && pwd -P) || exit 1

# As node finds a package: in the node_modules of each folder above. The program of npm's deno is
# beside the package that has it for this machine; the package itself may have a copy.
find_deno() {
  folder=$here
  while [ -n "$folder" ]; do
    for deno in "$folder"/node_modules/deno/../@deno/linux-*-glibc/deno \
      "$folder"/node_modules/deno/deno; do
      [ -x "$deno" ] && return
    done
    folder=${folder%/*}
  done
  deno=$(command -v deno)
}
find_deno || {
  echo "vfu: Cannot find Deno: npm installed vfu without it; install again, with --include=optional" >&2
  exit 1
}

export DENO_NO_UPDATE_CHECK=1
# Deno does without a place for compiled code, as a home that is read-only; a terminal would be told.
export DENO_LOG="${DENO_LOG:-info,deno::cache=off}"
# Deno keeps code of functions that were compiled with their module, so let all be.
exec "$deno" run --v8-flags=--no-lazy --config="$here/src/deno.json" \
  PERMISSIONS "$here/dist/vfu.js" "$@"
