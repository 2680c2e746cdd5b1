#!/usr/bin/env bash
# Configures and builds a preset of CMakePresets.json.
# usage: scripts/build.sh [PRESET [TARGET...]]     (default: release, everything)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

case ${1:-} in
  -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
  -*) die "unknown option $1, expected [PRESET [TARGET...]]" 2 ;;
esac
"$root/scripts/install_deps.sh"
build_preset "${1:-release}" "${@:2}"
