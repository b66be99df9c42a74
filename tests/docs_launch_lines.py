#!/usr/bin/env python3
# labels: docs
# timeout: 300
"""Runs the example launch line in each element's documentation."""
import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
failures = []
elements = sorted((SOURCE / "elements").glob("llm*.cpp"))
for path in elements:
    comment = path.read_text().split("*/")[0]
    lines = re.findall(r"^ \* ((?:echo|gst-launch).*gst-launch-1\.0.*)$", comment, re.M)
    if not lines:
        failures.append(f"{path.name}: no example launch line")
    for line in lines:
        result = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, timeout=120)
        if result.returncode or not result.stdout:
            failures.append(f"{path.name}: {line}\nexit code {result.returncode}\n{result.stderr.decode()}")
print(f"{len(elements)} elements, {len(failures)} failed")
for failure in failures:
    print("FAILED", failure)
sys.exit(1 if failures or len(elements) < 9 else 0)
