#!/usr/bin/env python3
# labels: docs
# timeout: 600
"""Runs every command that README.md and docs/ show: the fenced blocks marked `sh`, each in a shell of its own.

A block marked `sh skip="reason"` is not run here; only the reasons below are accepted. The block's exit code must be
0. Blocks marked `c` and `json` are checked by other tests.
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ["MILLRACE_BUILD"])
REASONS = {
    "this is the test itself",
    "run by tests/pipeline_install.sh",
    "minutes on an idle machine",
    "builds everything again",
    "run by tests/pipeline_demo.sh",
    "run by tests/pipeline_download.py",
}
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.M | re.S)

ran = skipped = 0
failures = []
with tempfile.TemporaryDirectory() as folder:
    environment = dict(os.environ, HOME=folder)
    for page in [SOURCE / "README.md", SOURCE / "CONTRIBUTING.md", *sorted((SOURCE / "docs").rglob("*.md"))]:
        for match in FENCE.finditer(page.read_text()):
            language, info, block = match.groups()
            if language != "sh":
                continue
            place = f"{page.relative_to(SOURCE)}:{page.read_text()[:match.start()].count(chr(10)) + 1}"
            reason = re.search(r'skip="([^"]*)"', info)
            if reason:
                skipped += 1
                if reason[1] not in REASONS:
                    failures.append(f"{place}: {reason[1]!r} is no reason to skip")
                continue
            if "curl" in block and "address" in os.environ.get("MILLRACE_SANITIZE", ""):
                skipped += 1  # curl with the sanitizer's runtime in front of it waits for itself
                continue
            ran += 1
            script = f"set -eo pipefail\nsource {BUILD}/env.sh\n{block}"
            try:
                result = subprocess.run(["bash", "-c", script], cwd=SOURCE, env=environment, capture_output=True,
                                        timeout=240, stdin=subprocess.DEVNULL)
            except subprocess.TimeoutExpired:
                failures.append(f"{place}: timed out\n{block}")
                continue
            if result.returncode:
                failures.append(f"{place}: exit code {result.returncode}\n{block}\n{result.stderr.decode(errors='replace')}")
            elif not result.stdout and "gst-launch" in block:
                failures.append(f"{place}: printed nothing\n{block}")

print(f"{ran} blocks ran, {skipped} skipped, {len(failures)} failed")
for failure in failures:
    print("FAILED", failure)
sys.exit(1 if failures or ran < 10 else 0)
