#!/usr/bin/env bash
# Builds Tidal with CUDA and runs what needs a GPU: the kernel tests, and the plan and engine tests on the device. With
# --sanitize the kernel tests run once more under compute-sanitizer (memcheck, racecheck).
# usage: scripts/test_cuda.sh [--sanitize]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

sanitize=false
case ${1:-} in
  '') ;;
  --sanitize) sanitize=true ;;
  -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
  *) die "unknown argument $1, expected --sanitize or nothing" 2 ;;
esac

command -v nvcc >/dev/null || die "nvcc is not there: install the CUDA toolkit"
"$root/scripts/install_deps.sh"
build_preset cuda
build=$root/build-cuda
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem --format=csv,noheader
export TIDAL_MODELS_DIR=$models_dir

"$build/src/cuda/tidal_cuda_test"
TIDAL_TEST_DEVICE=cuda "$build/tests/tidal_plan_boundary_test"
# What compares to the bit, counts the CPU's allocations or needs a q8_0 cache is the CPU's.
TIDAL_TEST_DEVICE=cuda "$build/tests/tidal_end_to_end_test" \
  --gtest_filter='*Plan*:*Oracle*:*GreedyText*-*PlanFast*:*q8_0*:*Q8*:*KeptSetsBelongToTheRequest'
# Saved prompts, tokens sampled from candidates. What names the CPU's page formats is the CPU's.
TIDAL_TEST_DEVICE=cuda "$build/src/engine/tidal_engine_test" \
  --gtest_filter='EnginePromptTest.*:EngineCandidatesTest.*-*AnotherModelCacheOrPrecisionIsRefused'

$sanitize || exit 0
small='CudaSelectionTest.KeptNewlines:CudaSelectionTest.Refresh*:CudaSelectionTest.BatchOf*:CudaAttentionTest.SetsIn*'
small+=':CudaCandidatesTest.SizesAround*:All/MatvecOfTypeTest.ARowDoesNot*/BF16_Fast'
for tool in memcheck racecheck; do
  compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/src/cuda/tidal_cuda_test" --gtest_filter="$small"
done
