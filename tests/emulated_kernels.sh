#!/bin/bash
# labels: unit
# timeout: 900
# The kernels for ARM, compiled for it and run by an emulator: with matrix-product and dot-product instructions and without.
set -u -o pipefail

compiler=aarch64-linux-gnu-g++
emulator=qemu-aarch64
googletest=/usr/src/googletest/googletest # where distributions put its sources

skip() {
  echo "skipped: $1"
  exit 77
}
command -v $compiler >/dev/null || skip "there is no $compiler (g++-aarch64-linux-gnu)"
command -v $emulator >/dev/null || skip "there is no $emulator (qemu-user)"
[ -e $googletest/src/gtest-all.cc ] || skip "there are no sources of Google Test in $googletest (googletest)"

cd "$(dirname "$0")/.." || exit 1
objects=$(mktemp -d) || exit 1
trap 'rm -rf "$objects"' EXIT

cpu=engine/backend/cpu
sources=(tests/engine_backend_kernels.cpp tests/engine_backend_row_kernels.cpp tests/engine_backend_attention.cpp
  "$cpu"/*_portable.cpp "$cpu"/*_neon.cpp "$cpu"/*_dotprod.cpp "$cpu"/*_i8mm.cpp
  "$cpu"/{attention,formats,grouped_formats,super_formats,instruction_sets,kv_storage,memory}.cpp
  engine/backend/kv_type.cpp engine/tensor/dtype.cpp engine/weights/quantized_blocks.cpp engine/weights/blocks_*.cpp
  $googletest/src/gtest-all.cc $googletest/src/gtest_main.cc)

# Flags as in CMakeLists.txt and engine/CMakeLists.txt.
compile() {
  local flags="-O2 -Wall -Wextra -Werror -ffp-contract=off"
  case $1 in
    *_dotprod.cpp) flags="$flags -march=armv8.2-a+dotprod+fp16" ;;
    *_i8mm.cpp) flags="$flags -march=armv8.2-a+dotprod+i8mm+fp16" ;;
    *gtest*) flags="-O1 -w" ;;
  esac
  $compiler -std=c++20 $flags -I. -I$googletest/include -I$googletest -c "$1" -o "$objects/$(basename "$1").o"
}
export -f compile
export compiler googletest objects
printf '%s\n' "${sources[@]}" | xargs -P "$(nproc)" -I{} bash -c 'compile "$1"' _ {} || exit 1
$compiler -static "$objects"/*.o -o "$objects/kernels" || exit 1

# run CPU SETS [TESTS]: all tests pass, or those, and they were about the sets.
run() {
  local output
  output=$($emulator -cpu "$1" "$objects/kernels" --gtest_filter="${3:-*}") || { echo "$output"; exit 1; }
  echo "$1: $(grep '^instruction sets:' <<<"$output"), $(grep '^\[  PASSED  \]' <<<"$output")"
  [[ "$(grep '^instruction sets:' <<<"$output")" == "instruction sets: $2" ]] || { echo "not $2"; exit 1; }
}
run max "portable neon dotprod i8mm"
run neoverse-n1 "portable neon dotprod" "Kernels.portable_ones*"
run cortex-a53 "portable neon"
