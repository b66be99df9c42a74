#!/bin/bash
# labels: library
# timeout: 300
# Every example gives the text that `millrace run` gives, says what is wrong with a request in its language's own way, and
# fails when there is no such model. MILLRACE_EXAMPLES_BIN: where the compiled ones are, when installed files are tried
# (tests/library_debian.sh).
set -euo pipefail

[ -z "${MILLRACE_SANITIZE:-}" ] || { echo "SKIP: introspection is not built with sanitizers"; exit 77; }
if [ -n "${MILLRACE_EXAMPLES_BIN:-}" ]; then
  PATH=$MILLRACE_EXAMPLES_BIN:$PATH
else
  source "$MILLRACE_BUILD/env.sh"
fi
examples=pipelines/examples
prompt="def fibonacci(n):"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

fail ()
{
  echo "FAILED $*"
  failed=1
}

expected=$(millrace run --model demo-draft --max-tokens 24 "$prompt")
[ -n "$expected" ] || { echo "millrace run printed nothing"; exit 1; }

# run NAME WORDS COMMAND...: the text on its output, each of the words among what it says on its standard error.
run ()
{
  local name=$1 words=$2 text
  shift 2
  if ! text=$("$@" 2>"$folder/said"); then
    fail "$name: exit code $?: $(cat "$folder/said")"
    return
  fi
  [ "$text" = "$expected" ] || fail "$name printed '$text' instead of '$expected'"
  for word in $words; do
    grep -q -- "$word" "$folder/said" || fail "$name did not say $word: $(cat "$folder/said")"
  done
}

run application.c "" example-application --model=demo-draft --max-tokens=24 "$prompt"
run generate.py "temperature.*100" $examples/generate.py "$prompt" demo-draft
run generate_async.py "cancelled no-such-model" $examples/generate_async.py "$prompt" demo-draft
run generate.js "cancelled temperature.*100" $examples/generate.js "$prompt" demo-draft
run generate.rb "cancelled temperature.*100" $examples/generate.rb "$prompt" demo-draft
run generate.lua "temperature.*100" $examples/generate.lua "$prompt" demo-draft
run generate.vala "temperature.*100" example-vala "$prompt" demo-draft

! example-application --model=no-such-model x >"$folder/out" 2>&1 || fail "application.c without a model succeeded"
grep -q "no-such-model" "$folder/out" || fail "application.c does not say which model: $(cat "$folder/out")"
for example in generate.py generate_async.py generate.js generate.rb generate.lua; do
  ! $examples/$example x no-such-model >"$folder/out" 2>&1 || fail "$example without a model succeeded"
done

lines=$(MODEL=demo-draft example-appsrc "$prompt" "import os")
[ "$(grep -c '^req-[12] (length): ' <<<"$lines")" = 2 ] || fail "appsrc.c printed: $lines"
grep -qF "${expected//$'\n'*/}" <<<"$lines" || fail "appsrc.c has another text: $lines"

# A conversation: the second answer belongs to a longer prompt; an empty line is no question.
talk=$(printf 'Who are you?\n\nAnd what can you do?\n' | example-chat demo)
[ "$(wc -c <<<"$talk")" -gt 20 ] || fail "chat.c said: $talk"
first=$(printf 'Who are you?\n' | example-chat demo)
[ "${talk#"$first"}" != "$talk" ] || fail "chat.c began differently: $talk"
[ "$talk" != "$first" ] || fail "chat.c gave one answer"
! example-chat no-such-model </dev/null >"$folder/out" 2>&1 || fail "chat.c without a model succeeded"

[ "$failed" = 0 ] && echo "the examples agree"
exit "$failed"
