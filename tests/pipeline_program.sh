#!/bin/bash
# labels: pipeline
# timeout: 200
# The program `millrace` runs exactly the pipeline that it prints, and its exit codes tell what happened.
set -euo pipefail
PATH=$MILLRACE_BUILD/bin:$PATH

fail() { echo "FAILED: $1"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for options in "-n 12" "-n 12 --temperature 0.7 --seed 3" "-n 12 --chat --system Brief." "-m demo-draft -n 12 --weights int8 -t 1"; do
  # shellcheck disable=SC2086
  pipeline=$(millrace run $options --print-pipeline)
  # shellcheck disable=SC2086
  millrace run $options "def area(r):" >"$work/program"
  # shellcheck disable=SC2086
  printf 'def area(r):' | eval "gst-launch-1.0 -q ${pipeline//!/\\!}" >"$work/launch" || fail "gst-launch of $pipeline"
  cmp "$work/program" "$work/launch" || fail "$pipeline: not the same text"
  [ -s "$work/program" ] || fail "$options: no text"
done

weights=(millrace run -m demo-draft -n 8 --weights int4 --weight-cache "$work/weights")
"${weights[@]}" --print-pipeline | grep -q "weight-cache=\"$work/weights\"" || fail "weight-cache in the pipeline"
for start in first second; do
  "${weights[@]}" "def area(r):" >"$work/$start" 2>"$work/err" && [ ! -s "$work/err" ] ||
    fail "$start start with a weight cache: $(cat "$work/err")"
done
cmp "$work/first" "$work/second" || fail "other text with packed weights from disk"
truncate -s -1 "$work"/weights/demo-draft-*.packed
"${weights[@]}" "def area(r):" >"$work/third" 2>"$work/err" || fail "damaged weight cache: $(cat "$work/err")"
grep -q "warning: .*too short.*packed again" "$work/err" || fail "no warning of a damaged file: $(cat "$work/err")"
cmp "$work/first" "$work/third" || fail "other text after a damaged file"
millrace run --lock-memory --print-pipeline | grep -q "lock-memory=true" || fail "lock-memory in the pipeline"

printf '{"id":"a","prompt":"import os","max_tokens":2}\n' | millrace run --jsonl - | grep -q '"id":"a"' || fail jsonl
printf 'import os' | millrace run -n 2 - >/dev/null || fail stdin

expect() { # CODE WORD COMMAND...
  local code=0
  "${@:3}" >"$work/out" 2>"$work/err" </dev/null || code=$?
  [ "$code" -eq "$1" ] || fail "${*:3}: exit code $code, not $1"
  grep -q -- "$2" "$work/out" "$work/err" || fail "${*:3}: does not say $2: $(cat "$work/err")"
}
expect 1 no-such-model millrace run -m no-such-model x
expect 1 "prompt is empty" millrace run ""
expect 2 Usage millrace
expect 2 prompt millrace run
expect 2 nonsense millrace run --nonsense x
expect 0 Usage millrace --help
expect 0 millrace millrace version
echo "the program does what it prints"
