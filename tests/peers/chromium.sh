#!/usr/bin/env bash
# Unpacks Debian's Chromium without a screen, with the libraries and a font that it needs: it opens
# the pages of `vfu show --html`. Nothing is installed.
set -euo pipefail
started=$EPOCHREALTIME
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

# Its C library is the oldest of those that are supported, so newer machines run it with theirs.
release=bookworm

finished() {
  is_stamped && "$cache/chromium/chromium" --version &>/dev/null
}

write_launcher() {
  cat >"$build/kept/chromium" <<'END_OF_LAUNCHER'
#!/bin/sh
here=$(dirname "$(realpath "$0")")
lib=$here/root/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH="$lib:$lib/nss:$lib/pulseaudio:$here/root/lib/x86_64-linux-gnu"
export FONTCONFIG_FILE="$here/fonts.conf"
exec "$here/root/usr/lib/chromium/chromium-headless-shell" "$@"
END_OF_LAUNCHER
  chmod +x "$build/kept/chromium"
  cat >"$build/kept/fonts.conf" <<'END_OF_FONTS'
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir prefix="relative">root/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
END_OF_FONTS
}

finished || begin_build
if ! finished; then
  command -v apt-get >/dev/null || leave_out "no apt-get on this machine"
  [[ $(dpkg --print-architecture) == amd64 ]] || leave_out "this machine is no amd64"
  need_packages ca-certificates debian-archive-keyring
  [[ -f $keyring ]] || leave_out "no $keyring, which vouches for Debian's packages"
  prepare_apt "$release" amd64
  mkdir "$build/kept"
  unpack "$release" "$build/kept/root" chromium-headless-shell fonts-dejavu-core
  # The machine's own C library is the one that its loader fits.
  find "$build/kept/root" -path '*-linux-gnu/*' \
    \( -name 'libc.so.6' -o -name 'libm.so.6' -o -name 'ld-linux*' -o -name 'libpthread.so.0' \
    -o -name 'libdl.so.2' -o -name 'librt.so.1' -o -name 'libresolv.so.2' \) -delete
  write_launcher
  version=$("$build/kept/chromium" --version 2>>"$log" | grep -oE '[0-9.]{5,}') ||
    fail "it does not start, the log is $log"
  end_build "$build/kept" "$version"
fi
report Chromium "$(stamped_version)" "$cache/chromium"
