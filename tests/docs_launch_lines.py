#!/usr/bin/env python3
# labels: docs
# timeout: 300
"""Runs the example launch line in each element's documentation; one that serves is asked for something."""
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
failures = []
elements = sorted((SOURCE / "elements").glob("**/llm*.cpp"))


def serve(line):
    """What is wrong with a line that serves on port 8080; on a free port here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(line.replace("port=8080", f"port={port}").split(), stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE)
    try:
        body = json.dumps({"prompt": "import os", "max_tokens": 2}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body,
                                         {"Content-Type": "application/json"})
        for _ in range(300):
            try:
                answer = json.load(urllib.request.urlopen(request, timeout=60))
                break
            except (ConnectionError, urllib.error.URLError):
                if server.poll() is not None:
                    return f"exit code {server.returncode}"
                time.sleep(0.1)  # it does not say when it listens
        else:
            return "does not listen"
        if answer["usage"]["completion_tokens"] != 2:
            return f"answered {answer}"
        server.send_signal(signal.SIGINT)
        return f"exit code {server.returncode}" if server.wait(60) else None
    finally:
        server.kill()
        server.communicate()


for path in elements:
    comment = path.read_text().split("*/")[0]
    lines = re.findall(r"^ \* ((?:echo .*\| )?gst-launch-1\.0 .*)$", comment, re.M)
    if not lines:
        failures.append(f"{path.name}: no example launch line")
    for line in lines:
        if "llmhttpsrc" in line:
            if problem := serve(line):
                failures.append(f"{path.name}: {line}\n{problem}")
            continue
        result = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, timeout=120)
        if result.returncode or not result.stdout:
            failures.append(f"{path.name}: {line}\nexit code {result.returncode}\n{result.stderr.decode()}")
print(f"{len(elements)} elements, {len(failures)} failed")
for failure in failures:
    print("FAILED", failure)
sys.exit(1 if failures or len(elements) < 11 else 0)
