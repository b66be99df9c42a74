#!/usr/bin/env python3
# labels: element
# timeout: 60
"""GST_DEBUG="llm*:5" follows each request through the elements, in categories named after them; DOT files name the stages."""
import os
import re
import subprocess
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    run = subprocess.run("printf 'import os\\nimport sys\\n' | gst-launch-1.0 -q fdsrc ! llmbin model=demo-draft "
                         "prompt::boundary=line prompt::max-tokens=3 ! fakesink", shell=True, capture_output=True, timeout=50,
                         env=dict(os.environ, GST_DEBUG="llm*:5", GST_DEBUG_NO_COLOR="1", GST_DEBUG_DUMP_DOT_DIR=folder))
    assert run.returncode == 0, run.stderr
    dots = {path.name: path.read_text() for path in Path(folder).glob("*.dot")}

lines = re.findall(r"^\S+\s+\d+ \S+ (\w+)\s+(\w+) \S+:(?:<([\w-]+)[^>]*>)? (.*)$", run.stderr.decode(), re.M)
assert lines, run.stderr
for request in ("req-1", "req-2"):
    of_request = [(category, text) for level, category, _, text in lines if f"request {request}:" in text]
    order = [category for category, _ in of_request]
    assert order == ["llmprompt", "llmtokenizer", "llmscheduler", "llmdetokenizer", "llmdetokenizer", "llmscheduler"] or \
        order == ["llmprompt", "llmscheduler", "llmtokenizer", "llmdetokenizer", "llmdetokenizer", "llmscheduler"], of_request
    assert "ends, length" in of_request[-2][1] and "3 tokens" in of_request[-1][1], of_request
assert {category for _, category, _, _ in lines} >= {"llmcontext"}, "the model that is opened"
assert not any("step " in text for *_, text in lines), "steps are for level 6"

playing = next(text for name, text in dots.items() if name.endswith("PAUSED_PLAYING.dot"))
for name in ("prompt", "tokenizer", "scheduler", "prefill", "drafter", "verifier", "sampler", "detokenizer"):
    assert re.search(rf'label="Llm\w+\\n{name}\\n', playing), name
for caps in ("application/x-llm-tokens", "application/x-llm-step", "text/x-raw", "planned", "scored"):
    assert caps in playing, caps
print(f"{len(lines)} lines, {len(dots)} DOT files of up to {max(map(len, dots.values()))} bytes")
