#!/usr/bin/env python3
"""Tokens a second through HTTP streams against the same requests in a pipeline without HTTP.

    http_overhead.py [PAIRS [TOKENS [MODEL]]]

1 stream and 16 at a time, greedy; runs alternate, medians of PAIRS (default 5) of the time from sending the requests
until the last answer is whole. Both get the same texts, or it ends with 1. MILLRACE_BUILD: the build folder.
"""
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from http_harness import Events, Server, environment

PAIRS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
TOKENS = int(sys.argv[2]) if len(sys.argv) > 2 else 256
MODEL = sys.argv[3] if len(sys.argv) > 3 else "demo"
STREAMS = (1, 16)
BATCH = max(STREAMS)
HUNG_S = 300


def prompts(streams):
    return [f"def function_{i}(values):\n    " for i in range(streams)]


def request(prompt):
    return {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}


class Bare:
    """`llmbin` between two pipes, one JSON line for each request and each answer."""

    def __init__(self):
        command = (f"gst-launch-1.0 -q fdsrc ! llmbin model={MODEL} prompt::boundary=jsonl scheduler::max-batch={BATCH} "
                   "detokenizer::format=jsonl ! fdsink sync=false")
        self.process = subprocess.Popen(command.split(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=environment(False))

    def run(self, streams):
        """Seconds, texts in the prompts' order."""
        lines = "".join(json.dumps(dict(request(prompt), id=i)) + "\n" for i, prompt in enumerate(prompts(streams)))
        begin = time.monotonic()
        self.process.stdin.write(lines.encode())
        self.process.stdin.flush()
        answers = [self.process.stdout.readline() for _ in range(streams)]
        taken = time.monotonic() - begin
        texts = {str(answer["id"]): answer["text"] for answer in map(json.loads, answers)}
        return taken, [texts[str(i)] for i in range(streams)]

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class OverHttp:
    """`millrace serve` and curl, which costs less than a client in Python would."""

    def __init__(self):
        self.server = Server("--model", MODEL, "--max-batch", str(BATCH))
        self.folder = tempfile.TemporaryDirectory()

    def run(self, streams):
        """Seconds of the longest transfer, and texts."""
        folder = Path(self.folder.name)
        config = []
        for i, prompt in enumerate(prompts(streams)):
            (folder / f"{i}.json").write_text(json.dumps(dict(request(prompt), stream=True)))
            config.append(f'url = "http://127.0.0.1:{self.server.port}/v1/completions"\n'
                          'header = "Content-Type: application/json"\n'
                          f'data = "@{folder}/{i}.json"\noutput = "{folder}/{i}.txt"\nno-buffer\nwrite-out = "%{{time_total}}\\n"\n')
        (folder / "config").write_text("next\n".join(config))
        done = subprocess.run(["curl", "-s", *(["-Z", "--parallel-immediate", "--parallel-max", str(BATCH)] if streams > 1 else []),
                               "-K", folder / "config"], check=True, timeout=HUNG_S, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
        taken = max(map(float, done.stdout.split()))
        texts = []
        for i in range(streams):
            events = Events()
            data = (folder / f"{i}.txt").read_bytes()
            events.take(data)
            if problem := events.ended_well(1):
                raise SystemExit(f"{problem}: {data[:300]!r}")
            texts.append(events.text[0])
        return taken, texts

    def late(self):
        """Share of deliveries that took more than a millisecond from the sink to the socket."""
        metrics = self.server.ask("GET", "/metrics").body.decode()
        counts = dict(re.findall(r'^millrace:token_delivery_seconds_bucket{.*le="([^"]+)"} (\S+)$', metrics, re.M))
        return 1 - float(counts["0.001"]) / float(counts["+Inf"])

    def stop(self):
        self.server.process.send_signal(signal.SIGTERM)
        try:
            self.server.process.wait(40)
        except subprocess.TimeoutExpired:
            self.server.process.kill()
            self.server.process.wait()


def main():
    bare, http = Bare(), OverHttp()
    try:
        print(f"{MODEL}, {TOKENS} tokens, medians of {PAIRS} pairs")
        print(f"{'streams':>7} {'bare tok/s':>11} {'HTTP tok/s':>11} {'ratio':>7} {'ratios':>15} {'us more a token':>16}")
        for streams in STREAMS:
            bare.run(streams), http.run(streams)
            rates = []
            for pair in range(PAIRS):
                runs = {}
                for which in ((bare, http) if pair % 2 == 0 else (http, bare)):
                    runs[which] = which.run(streams)
                if runs[bare][1] != runs[http][1]:
                    raise SystemExit(f"different texts: {runs[bare][1]} {runs[http][1]}")
                rates.append([streams * TOKENS / runs[which][0] for which in (bare, http)])
            ratios = [through / without for without, through in rates]
            without, through = (statistics.median(column) for column in zip(*rates))
            more = statistics.median(streams * (1 / b - 1 / a) for a, b in rates) * 1e6
            print(f"{streams:7} {without:11.1f} {through:11.1f} {statistics.median(ratios):7.3f} "
                  f"{min(ratios):7.3f}-{max(ratios):.3f}  {more:16.1f}", flush=True)
        print(f"{100 * http.late():.2f} % of the pieces took more than 1 ms from the sink to the socket")
    finally:
        bare.stop()
        http.stop()
        http.server.__exit__(None)


main()
