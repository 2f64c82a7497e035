# What the scripts of this folder share. They source it after `set -euo pipefail` and `started=`.
# shellcheck shell=bash disable=SC2154

[[ -n ${VFU_PEERS_CACHE:-${HOME:-}} ]] || { echo "set HOME or VFU_PEERS_CACHE" >&2 && exit 1; }
cache=${VFU_PEERS_CACHE:-$HOME/.cache/vfu-peers}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
peer=$(basename "$0" .sh)
log=$cache/$peer.log
# A finished build keeps this in its stamp: it changes when the recipe does.
recipe=$(sha256sum <"$0" | cut -d' ' -f1)

fail() {
  echo "$peer: $*" >&2
  exit 1
}

# A machine that cannot have a peer goes on without: the tests say what they leave out. CI may not.
leave_out() {
  [[ -z ${CI:-} ]] || fail "$*"
  echo "$peer: left out, the tests that need it too: $*" >&2
  exit 0
}

seconds_since() {
  awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'
}

# One line for people and for CI: name, version, where, seconds.
report() {
  printf '%-18s %-24s %s (%s s)\n' "$1" "$2" "$3" "$(seconds_since "$started")"
}

# Runs one step of a recipe: quiet while it works; names the step and shows why when it fails.
# Fd 9 is the lock: a daemon that a step leaves behind must not hold it.
step() {
  local name=$1 from=$EPOCHREALTIME
  shift
  echo "== $name: $*" >>"$log"
  if ! "$@" >>"$log" 2>&1 </dev/null 9>&-; then
    tail -n 20 "$log" >&2
    fail "step '$name' failed, its log is $log"
  fi
  echo "== $name: $(seconds_since "$from") s" >>"$log"
}

as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -n "$@"
  else
    echo "This needs root or sudo: $*" >&2
    return 1
  fi
}

# Old lists name packages that the archive no longer has.
renew_lists() {
  command -v apt-get >/dev/null || fail "no apt-get on this machine; needed: $*"
  step "apt-get update" as_root apt-get -qq -o DPkg::Lock::Timeout=300 update
}

# Installs those of the Debian packages that are not there yet.
need_packages() {
  local package missing=()
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      missing+=("$package")
  done
  ((${#missing[@]} > 0)) || return 0
  renew_lists "${missing[@]}"
  step "apt-get install ${missing[*]}" as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}"
}

# Sets `cargo` to one that works. rustup's cargo and rustc are proxies: without a toolchain in HOME they are there and
# cannot run.
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

# True when the cache holds a build of this very recipe.
is_stamped() {
  local first=
  [[ -f $cache/$peer/stamp ]] && read -r first <"$cache/$peer/stamp" && [[ $first == "$recipe" ]]
}

# The version that the finished build was made of.
stamped_version() {
  tail -n 1 "$cache/$peer/stamp"
}

# One build at a time: a second one waits here and then finds what the first one made. What a
# killed build left behind goes away.
begin_build() {
  exec 9>"$cache/.$peer.lock"
  flock 9
  if finished; then return; fi
  rm -rf "$cache/$peer".build.*
  : >"$log"
  echo "$peer: building, the log is $log" >&2
  build=$(mktemp -d "$cache/$peer.build.XXXXXX")
  trap 'rm -rf "$build"' EXIT
}

# Stamps the folder that was built, of the version given, and puts it in place with a rename: half
# a build never looks finished.
end_build() {
  printf '%s\n' "$recipe" "$2" >"$1/stamp"
  rm -rf "${cache:?}/$peer"
  mv -T "$1" "$cache/$peer"
  finished || fail "the programs in $cache/$peer do not start, the log is $log"
}

# What vouches for Debian's packages.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Prepares apt with sources, lists and a package database of its own, in which nothing is installed:
# so apt names every package that is needed. Takes suites and architectures, separated by spaces.
prepare_apt() {
  local suites=$1 architectures=$2 uri mirror=http://deb.debian.org/debian suite
  for uri in $(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages'); do
    if [[ ${uri%/} == */debian ]]; then
      mirror=${uri%/}
      break
    fi
  done
  mkdir -p "$build"/apt/{parts,lists/partial,cache/archives/partial}
  : >"$build/apt/status"
  for suite in $suites; do
    echo "deb [arch=${architectures// /,} signed-by=$keyring] $mirror $suite main"
  done >"$build/apt/sources.list"
  cat >"$build/apt/apt.conf" <<EOF
Dir::Etc::sourcelist "$build/apt/sources.list";
Dir::Etc::sourceparts "$build/apt/parts";
Dir::Etc::preferencesparts "$build/apt/parts";
Dir::State "$build/apt";
Dir::State::status "$build/apt/status";
Dir::Cache "$build/apt/cache";
APT::Architecture "${architectures%% *}";
APT::Architectures "${architectures// /,}";
APT::Install-Recommends "false";
APT::Sandbox::User "";
EOF
  export APT_CONFIG=$build/apt/apt.conf
  step "apt-get update" apt-get -qq update
}

# Unpacks packages of a suite, and all that they need, below a folder.
unpack() {
  local suite=$1 folder=$2 package
  shift 2
  rm -f "$build"/apt/cache/archives/*.deb
  step "apt-get install $*" apt-get -qq -y --download-only install -t "$suite" "$@"
  mkdir -p "$folder"
  for package in "$build"/apt/cache/archives/*.deb; do
    step "dpkg-deb $(basename "$package")" dpkg-deb -x "$package" "$folder"
  done
}

# Unpacks one package alone, such as a kernel: its dependencies would install it.
unpack_alone() {
  local folder=$1 package=$2
  mkdir -p "$folder"
  cd "$folder"
  step "apt-get download $package" apt-get -qq download "$package"
  step "dpkg-deb $package" dpkg-deb -x "$folder"/*.deb "$folder"
  rm "$folder"/*.deb
}
