#!/usr/bin/env python3
# labels: unit
# timeout: 120
"""make_model writes models that llm-bench runs: tables and JSON hold what was asked for, and peers take their turns."""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BENCH = Path(os.environ["MILLRACE_BUILD"]) / "bench"
TINY = "hidden=256,layers=2,heads=4,kv_heads=2,head_dim=64,ffn=512,vocab=1000,ctx=512"
MAINLINE = "usage: -d, --n-depth"
NO_DEPTH = "usage: -gp"
PEER = """#!/bin/sh
[ "$*" = --help ] && echo "{help}" && exit 0
echo "$@" >>"{log}"
echo '[{{"n_prompt": 8, "n_gen": 0, "avg_ts": 100.0}}, {{"n_prompt": 0, "n_gen": 4, "avg_ts": 50.0}}]'
"""


def run(program, *arguments, code=0):
    result = subprocess.run([BENCH / program, *map(str, arguments)], capture_output=True, text=True, timeout=100)
    assert result.returncode == code, f"{program} {arguments}: {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout if code == 0 else result.stdout + result.stderr


def make_peer(folder, name, help_text):
    log = folder / f"{name}.log"
    program = folder / name
    program.write_text(PEER.format(help=help_text, log=log))
    program.chmod(0o755)
    return program, log


def check_figures(entry):
    for key in ("avg_ts", "median_ts", "min_ts", "max_ts"):
        assert entry[key] > 0, entry
    assert entry["min_ts"] <= entry["median_ts"] <= entry["max_ts"], entry
    assert abs(entry["median_ts"] / statistics.median(entry["samples_ts"]) - 1) < 1e-6, entry


def check_model(model, folder):
    print("table")
    table = run("llm-bench", "-m", model, "-p", 8, "-n", "4", "-d", "0,100", "-b", "1,3", "-r", 1, "-t", 1, "--no-roofs")
    for test in ("pp8", "tg4", "pp8 @ d100", "tg4 @ d100"):
        rows = re.findall(rf"^\| {re.escape(test)} \| 1 \| \d \| f16 \| ([0-9.]+) \|", table, re.M)
        assert len(rows) == (1 if test[0] == "p" else 2) and all(float(row) > 0 for row in rows), table

    print("json")
    entries = json.loads(run("llm-bench", "-m", model, "-p", 8, "-n", 4, "-r", 2, "-ub", 3, "-ctk", "f32,q8,k8v4",
                             "-o", "json", "--no-roofs"))
    assert [(e["n_prompt"], e["n_gen"]) for e in entries] == [(8, 0), (0, 4)] * 3, entries
    assert [e["type_k"] for e in entries[::2]] == ["f32", "q8", "k8v4"], entries
    for entry in entries:
        check_figures(entry)
        assert len(entry["samples_ts"]) == 2 and entry["n_ubatch"] == 3, entry
        assert entry["n_gen"] == 0 or entry["gb_per_s"] > 0, entry

    print("peers")
    mainline, log = make_peer(folder, "mainline", MAINLINE)
    other, other_log = make_peer(folder, "other", NO_DEPTH)
    entries = json.loads(run("llm-bench", "-m", model, "-p", 8, "-n", 4, "-d", "0,16", "-b", "1,2", "-r", 3, "-t", 1,
                             "--peer", mainline, "--peer", other, "--peer-args", "-w 1", "-o", "json", "--no-roofs"))
    expected = {("pp8", 1): 2, ("tg4", 1): 2, ("tg4", 2): 0, ("pp8 @ d16", 1): 1, ("tg4 @ d16", 1): 2, ("tg4 @ d16", 2): 0}
    assert len(entries) == len(expected), entries
    for entry in entries:
        peers = [peer for peer in entry["peers"] if "samples_ts" in peer]
        assert len(peers) == expected[entry["test"], entry["n_streams"]], entry
        for peer in peers:
            check_figures(peer)
            assert peer["samples_ts"] == [100.0 if entry["n_prompt"] else 50.0] * 3, peer
            rates = sorted(entry["samples_ts"])
            assert abs(peer["median_ratio"] * peer["median_ts"] / rates[1] - 1) < 1e-6, entry
    lines = log.read_text().splitlines()
    assert len(lines) == 12 and all("-r 1 -o json -w 1" in line and "-t 1" in line for line in lines), lines
    assert sum("-n 4 -d 16" in line for line in lines) == 3, lines
    assert sum("-gp 16,4" in line for line in other_log.read_text().splitlines()) == 3, other_log.read_text()


def check_refusals(model, folder):
    print("refusals")
    for arguments, word in [
        ([], "-m"), (["-m", model, "-p", "x"], "-p"), (["-m", model, "-b", 17], "16"), (["-m", model, "-ctk", "q4"], "q4"),
        (["-m", model, "--what", 1], "--what"), (["-m", model, "-t"], "-t"), (["-m", folder / "none"], "none"),
        (["-m", model, "-d", 600, "--no-roofs"], "positions"), (["-m", model, "--peer", "false"], "false"),
    ]:
        assert word in run("llm-bench", *arguments, code=2), (arguments, word)
    failing = folder / "failing"
    failing.write_text("#!/bin/sh\n[ \"$*\" = --help ]\n")
    failing.chmod(0o755)
    text = run("llm-bench", "-m", model, "-p", 8, "-n", 0, "-r", 2, "--no-roofs", "--peer", failing, code=1)
    assert "failing" in text and "| pp8 " in text, text
    for arguments, word in [
        (["gpt", "f32", "x"], "gpt"), (["qwen3-0.6b", "q3", "x"], "q3"), (["qwen3-0.6b", "f32"], "OUT"),
        (["qwen3-0.6b", "q4_k", folder / "x", "--shape", "hidden=100"], "blocks"),
        (["qwen3-0.6b", "f32", folder / "x", "--shape", "wide=1"], "wide"),
        (["qwen3-0.6b", "q8_0", folder / "x", "--format", "safetensors"], "Q8_0"),
    ]:
        assert word in run("make_model", *arguments, code=2), (arguments, word)


def check_files(folder):
    print("files")
    sizes = {}
    for kind in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_k", "q6_k"):
        file = folder / f"{kind}.gguf"
        run("make_model", "qwen3-0.6b", kind, file, "--shape", TINY)
        content = file.read_bytes()
        assert content[:4] == b"GGUF" and b"tokenizer.ggml.merges" in content, kind
        sizes[kind] = len(content)
        entries = json.loads(run("llm-bench", "-m", file, "-p", 8, "-n", 4, "-r", 1, "-o", "json", "--no-roofs"))
        assert len(entries) == 2 and all(entry["median_ts"] > 0 for entry in entries), entries
    elements = 1000 * 256 + 2 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 512 * 256)
    for kind, bits in {"f16": 16, "q8_0": 8.5, "q6_k": 6.5625, "q4_0": 4.5, "q4_k": 4.5}.items():
        saved = sizes["f32"] - sizes[kind]
        assert abs(saved - elements * (32 - bits) / 8) < 1000, (kind, saved)
    run("make_model", "llama-3.2-1b", "q4_k", folder / "llama.gguf", "--shape", TINY)
    assert b"rope_freqs.weight" in (folder / "llama.gguf").read_bytes()
    run("make_model", "llama-3.2-1b", "f16", folder / "llama", "--format", "safetensors", "--shape", TINY)
    run("llm-bench", "-m", folder / "llama", "-p", 8, "-n", 4, "-r", 1, "--no-roofs")


def main():
    if not (BENCH / "llm-bench").exists() or not (BENCH / "make_model").exists():
        print("SKIPPED: the benchmarks are not built")
        return 77
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model"
        run("make_model", "qwen3-0.6b", "bf16", model, "--format", "safetensors", "--shape", TINY)
        check_model(model, folder)
        check_refusals(model, folder)
        check_files(folder)
        print("roofs")
        roofs = json.loads(run("llm-bench", "--roofs", "-t", 1, "-o", "json"))
        assert len(roofs) == 1 and roofs[0]["read_gb_per_s"] > 0, roofs
        if (BENCH / "kernels").exists():
            print("kernels")
            table = run("kernels", "--benchmark_filter=tokens:5$|attention.*/f16/.*depth:512|^rms|^silu|^quant",
                        "--benchmark_min_time=0.0001", "--benchmark_format=json")
            entries = json.loads(table)["benchmarks"]
            assert len(entries) > 10 and all(entry["GB/s"] > 0 for entry in entries), table
    return 0


if __name__ == "__main__":
    sys.exit(main())
