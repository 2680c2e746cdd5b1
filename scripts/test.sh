#!/usr/bin/env bash
# Builds Tidal and runs every check: the static ones, all unit and end-to-end tests, those that read hostile input or
# share memory between threads once more under sanitizers, and those of the engine once more for 64-bit ARM, emulated. The
# last line counts the tests.
# usage: scripts/test.sh [--quick]     (--quick leaves out the sanitizers and 64-bit ARM)
# shellcheck disable=SC2317  # step calls the functions by name
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

asan_tests=(tidal_base_test tidal_gguf_test tidal_quant_test tidal_hf_test tidal_model_test tidal_tokenizer_test
  tidal_chat_test tidal_attention_test tidal_scheduler_test tidal_cpu_test tidal_engine_test tidal_plan_boundary_test
  tidal_cli_test)
tsan_tests=(tidal_base_test)

quick=false
case ${1:-} in
  '') ;;
  --quick) quick=true ;;
  -h | --help) sed -n '2,5s/^# //p' "$0"; exit 0 ;;
  *) die "unknown argument $1, expected --quick or nothing" 2 ;;
esac

failed=()
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

step() {  # step NAME COMMAND...: runs it, says how long it took, remembers and returns how it ended
  local name=$1 start=$SECONDS status=0
  shift
  echo "== $name"
  "$@" || status=$?
  [ $status -eq 0 ] || failed+=("$name")
  echo "== $name took $((SECONDS - start)) s"
  return $status
}

finish() {
  local name
  for name in "${failed[@]}"; do echo "FAILED: $name"; done
  python3 "$root/tools/count_tests.py" "$results"
  [ ${#failed[@]} -eq 0 ]
  exit
}

# run_tests PRESET [TEST...]: of a build, all tests or those of the list that it has. GoogleTest's own reports say more than
# ctest's, which counts programs.
run_tests() {
  local preset=$1 folder=$root/build filter=.
  shift
  [ "$preset" = release ] || folder=$root/build-$preset
  [ $# -eq 0 ] || filter="^($(IFS='|' && echo "$*"))\$"
  mkdir -p "$results/$preset"
  GTEST_OUTPUT="xml:$results/$preset/" GTEST_COLOR=no \
    ctest --test-dir "$folder" --tests-regex "$filter" --output-on-failure --no-tests=error \
    --output-junit "$results/$preset/ctest.xml" </dev/null
}

# The tests of a list that a configured build folder knows.
known_tests() {
  local folder=$1
  shift
  local names
  names=$(ctest --test-dir "$folder" --show-only=human | sed -n 's/^ *Test *#[0-9]*: *//p')
  printf '%s\n' "$@" | grep -Fx "$names"
}

sanitized_tests() {  # sanitized_tests PRESET TEST...
  local preset=$1 tests
  shift
  configure_preset "$preset" || return 1
  mapfile -t tests < <(known_tests "$root/build-$preset" "$@")
  build_preset "$preset" "${tests[@]}" && run_tests "$preset" "${tests[@]}"
}

cuda_builds() {  # without a GPU: that it compiles, and that its tests say loudly that they are skipped
  if ! command -v nvcc >/dev/null; then
    echo "SKIPPED: no nvcc here, so the CUDA backend is not built"
    return 0
  fi
  build_preset cuda tidal tidal_cuda_test && "$root/build-cuda/src/cuda/tidal_cuda_test" --gtest_brief=1
}

demo_answers() {  # with every layer full, and with a sparse plan
  local answer
  answer=$("$root/scripts/demo.sh") || return 1
  printf '%s\n' "$answer"
  [ "$(grep -c "^answer .*Golden Eagle" <<<"$answer")" -eq 2 ]
}

main() {  # a function, so that all of the script is read before a checkout can change it
  export TIDAL_MODELS_DIR=$models_dir
  export UBSAN_OPTIONS=print_stacktrace=1
  step "packages" "$root/scripts/install_deps.sh"
  step "model" "$root/scripts/fetch_models.sh" "$models_dir" smollm2
  step "checkers" python3 "$root/tools/checks_test.py"
  step "format" "$root/tools/check_format.sh"
  step "layers" python3 "$root/tools/check_layers.py"
  step "words" "$root/tools/check_words.sh"
  step "build" build_preset release || finish
  step "docs" python3 "$root/tools/check_docs.py" --tidal "$root/build/tidal"
  step "tests" run_tests release
  step "demo" demo_answers
  step "cuda" cuda_builds
  if ! $quick; then
    step "address and undefined behaviour sanitizers" sanitized_tests asan "${asan_tests[@]}"
    step "thread sanitizer" sanitized_tests tsan "${tsan_tests[@]}"
    step "64-bit ARM" "$root/scripts/test_aarch64.sh" "$results/aarch64"
  fi
  finish
}

main
