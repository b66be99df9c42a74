#!/bin/bash
# labels: pipeline
# timeout: 120
# `millrace inspect` says what a model is, and its exit code whether it can be used.
set -euo pipefail
PATH=$MILLRACE_BUILD/bin:$PATH

fail() { echo "FAILED: $1"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

expect() { # CODE WORD COMMAND...
  local code=0
  "${@:3}" >"$work/out" 2>"$work/err" </dev/null || code=$?
  [ "$code" -eq "$1" ] || fail "${*:3}: exit code $code, not $1: $(cat "$work/out" "$work/err")"
  grep -q -- "$2" "$work/out" "$work/err" || fail "${*:3}: does not say $2: $(cat "$work/out" "$work/err")"
}
expect 0 "^ready  *yes" millrace inspect demo
expect 0 "10 of full attention" millrace inspect demo
expect 0 "<|im_end|> 8179" millrace inspect models/demo-draft
expect 0 '"loads":true' millrace inspect models/demo-draft --json
expect 0 '"int8":' millrace inspect models/demo-draft --json --weights int8
expect 0 '"kv_tokens":77,"kv_bytes":{"q8":' millrace inspect models/demo-draft --json --kv-type q8 --kv-tokens 77
millrace inspect demo --json | python3 -m json.tool >/dev/null || fail "no JSON"

cp -r models/demo-draft "$work/broken"
chmod -R u+w "$work/broken"
echo '{"model_type": "no_such_family"}' >"$work/broken/config.json"
truncate -s 100000 "$work/broken/tokenizer.json"
expect 1 "problem .*no_such_family" millrace inspect "$work/broken"
expect 1 "problem .*tokenizer.json" millrace inspect "$work/broken"
expect 1 "^ready  *no" millrace inspect "$work/broken"
expect 1 '"loads":false' millrace inspect "$work/broken" --json
expect 1 "no-such-model" millrace inspect no-such-model
expect 1 "problem" millrace inspect /dev/null

expect 2 "one model" millrace inspect
expect 2 "--weights" millrace inspect demo --weights int3
expect 2 "--kv-type" millrace inspect demo --kv-type f8
expect 2 "--kv-tokens" millrace inspect demo --kv-tokens -1
expect 2 "nonsense" millrace inspect demo --nonsense
expect 0 "Exit status" millrace inspect --help
echo "models are inspected"
