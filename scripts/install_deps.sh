#!/usr/bin/env bash
# Installs the Debian 12 packages that building and testing Tidal needs. Quiet where nothing is missing, also for a user
# who may not install: such a user is told which packages to ask for (exit code 1).
# usage: scripts/install_deps.sh [--aarch64]     (--aarch64: also what scripts/test_aarch64.sh needs)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# A tool counts by its command, however it got there; a library by its package.
tools=(g++:g++ cmake:cmake ninja:ninja-build pkg-config:pkg-config git:git python3:python3 clang-format:clang-format)
libraries=(libfmt-dev libspdlog-dev nlohmann-json3-dev libcli11-dev libpcre2-dev libedit-dev libgtest-dev libgmock-dev
  libbenchmark-dev)

case ${1:-} in
  '') ;;
  --aarch64) tools+=(aarch64-linux-gnu-g++:g++-aarch64-linux-gnu qemu-aarch64-static:qemu-user-static) ;;
  -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
  *) die "unknown argument $1, expected --aarch64 or nothing" 2 ;;
esac

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=()
for tool in "${tools[@]}"; do
  command -v "${tool%%:*}" >/dev/null || missing+=("${tool#*:}")
done
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
if ! command -v dpkg-query >/dev/null; then
  echo "this is no Debian system, so nothing is installed; the build needs what these packages hold:" \
    "${tools[*]#*:} python3-pip ${libraries[*]}" >&2
  exit 0
fi
for library in "${libraries[@]}"; do
  is_installed "$library" || missing+=("$library")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  as_root=(sudo)
  # Without a terminal nobody can type a password.
  if ! command -v sudo >/dev/null || { [ ! -t 0 ] && ! sudo -n true 2>/dev/null; }; then
    die "missing packages: ${missing[*]} (as root: apt-get install ${missing[*]})"
  fi
fi
echo "installing ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update &&
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } \
  >"$log" 2>&1 </dev/null; then
  cat "$log" >&2
  die "apt-get could not install: ${missing[*]}"
fi
