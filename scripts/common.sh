# shellcheck shell=bash disable=SC2034
# Shared by the scripts beside it, which source it. It sets `root`, the top of the repository, and makes paths from outside
# absolute before any script changes folder.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
models_dir=${TIDAL_MODELS_DIR:-$root/models}
case $models_dir in /*) ;; *) models_dir=$PWD/$models_dir ;; esac

die() {
  echo "$(basename "$0"): $1" >&2
  exit "${2:-1}"
}

cores() { nproc 2>/dev/null || getconf _NPROCESSORS_ONLN; }

# Configures a preset, with ccache where there is one.
configure_preset() {
  local options=()
  if command -v ccache >/dev/null; then options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  (cd "$root" && cmake --preset "$1" "${options[@]}" --log-level=WARNING) >&2
}

# build_preset PRESET [TARGET...]: configures it and builds the targets (default: all).
build_preset() {
  configure_preset "$1" || return 1
  (cd "$root" && cmake --build --preset "$1" --parallel "$(cores)" ${2:+--target "${@:2}"}) >&2
}
