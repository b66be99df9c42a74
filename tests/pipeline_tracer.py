#!/usr/bin/env python3
# labels: pipeline
# timeout: 120
"""GST_TRACERS=llm: its records add up to what the requests say of themselves, and its summary to its records."""
import json
import os
import re
import subprocess
import sys

REQUESTS = [{"id": f"r{i}", "prompt": "a = 1; b = 2; c = 3;", "max_tokens": 12 + i, "ignore_eos": True} for i in range(5)]
PIPELINE = ("fdsrc ! llmprompt name=p boundary=jsonl ! llmtokenizer name=t model=demo-draft ! llmscheduler name=s max-batch=3 ! "
            "llmprefill name=f ! llmngramdrafter name=d gate=none ! llmverifier name=v ! llmsampler name=a ! "
            "llmdetokenizer name=o format=jsonl statistics=true ! fdsink")
STAGES = {"f", "d", "v", "a", "o"}


def run(tracers, **environment):
    lines = "".join(json.dumps(request) + "\n" for request in REQUESTS)
    result = subprocess.run(["gst-launch-1.0", "-q", *PIPELINE.split()], input=lines.encode(), capture_output=True, timeout=100,
                            env=dict(os.environ, GST_TRACERS=tracers, GST_DEBUG_NO_COLOR="1", **environment))
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode(), result.stderr.decode()


def value(text):
    text = text.strip().removesuffix(";")
    kind, _, rest = text.partition(")")
    rest = rest.strip('"')
    return int(rest) if kind in ("(uint", "(guint64", "(uint64", "(boolean") else rest


records = {}
output, log = run("llm", GST_DEBUG="GST_TRACER:7")
for name, fields in re.findall(r"(llm-\w+), (.*);", log):
    if ".class" not in name and "%" not in fields:  # the formats are logged too
        records.setdefault(name, []).append({key: value(text) for key, text in re.findall(r"([\w-]+)=(\([^)]*\)(?:\"[^\"]*\"|[^,;]*))", fields)})
for kind in ("element", "step", "tokens", "request"):
    assert f"llm-{kind}.class" in log, f"no class of llm-{kind}"
answers = {answer["id"]: answer for answer in map(json.loads, output.splitlines())}

steps = records["llm-step"]
assert [step["step"] for step in steps] == list(range(steps[0]["step"], steps[0]["step"] + len(steps))), steps
for step in steps:
    inside = [record for record in records["llm-element"] if record["in-step"] == 1 and record["step"] == step["step"]]
    assert {record["element"] for record in inside} <= STAGES and len(inside) >= 3, inside
    assert 0 < sum(record["time"] for record in inside) <= step["time"], (step, inside)
    assert 1 <= step["rows"] <= 3
outside = {record["element"] for record in records["llm-element"] if record["in-step"] == 0}
assert {"p", "t", "s"} <= outside and not outside & {"f", "d", "v"}, outside

assert len(records["llm-request"]) == len(REQUESTS)
for record in records["llm-request"]:
    answer = answers[record["request"]]
    tokens = [r for r in records["llm-tokens"] if r["request"] == record["request"]]
    assert record["finish-reason"] == answer["finish_reason"] == "length"
    assert record["completion-tokens"] == answer["usage"]["completion_tokens"] == sum(r["tokens"] for r in tokens)
    assert record["prompt-tokens"] == answer["usage"]["prompt_tokens"]
    assert record["drafted"] == sum(r["drafted"] for r in tokens) == answer["statistics"]["drafted_tokens"], (record, answer)
    assert record["right"] == sum(r["right"] for r in tokens) == answer["statistics"]["accepted_tokens"], (record, answer)
    assert [r["first"] for r in tokens] == [1] + [0] * (len(tokens) - 1), tokens
    assert 0 < record["first-token-time"] == tokens[0]["time"] <= record["total-time"]
    assert sum(r["time"] for r in tokens) <= record["total-time"]
assert sum(step["accepted-tokens"] for step in steps) == sum(r["completion-tokens"] for r in records["llm-request"])
drafted = sum(r["drafted"] for r in records["llm-request"])
assert drafted > 0

tokens = sum(r["completion-tokens"] for r in records["llm-request"])
assert f"llm tracer: {len(REQUESTS)} requests, {tokens} tokens" in log
assert f"of {drafted} verified were right" in log
for name, count in (("step", len(steps)), ("time to first token", len(REQUESTS)), ("v", len(steps))):
    assert re.search(rf"^  {name} +{count} ", log, re.M), (name, count, log[-2000:])

plain, quiet = run("llm(summary=false)")
assert "llm tracer" not in quiet, quiet
strip = lambda text: sorted((answer["id"], answer["text"]) for answer in map(json.loads, text.splitlines()))
assert strip(plain) == strip(output)
_, untraced = run("")
assert "llm" not in untraced, untraced
print(f"{len(steps)} steps, {tokens} tokens, {drafted} drafted")
