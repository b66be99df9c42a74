#!/usr/bin/env python3
# labels: unit
# timeout: 300
"""llm-spec-bench: answers with every drafter are those without, on prompts of each category; tables and JSON hold what was
asked for, replays say the demo model's words, and what cannot be is refused."""
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BENCH = Path(os.environ["MILLRACE_BUILD"]) / "bench"
MODELS = Path(os.environ["MILLRACE_MODEL_PATH"])
TINY = "hidden=128,layers=2,heads=4,kv_heads=2,head_dim=32,ffn=256,vocab={vocab},ctx=2048"
CATEGORIES = ["code-edit", "json-reformat", "type-hints", "config-translate", "chat-quoted", "summarize", "fresh-code",
              "fresh-prose", "adversarial"]
LOOKUPS = ["control", "suffix", "ngram", "ngram-ema"]
WITH_MODEL = ["model", "suffix+model"]
FAST = ["-n", 24, "-r", 1, "--most-prompts", 1, "--cost-samples", 1]


def run(program, *arguments, code=0):
    result = subprocess.run([BENCH / program, *map(str, arguments)], capture_output=True, text=True, timeout=280)
    assert result.returncode == code, f"{program} {arguments}: {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout if code == 0 else result.stdout + result.stderr


def check_mode(row, mode):
    assert mode["median_ts"] > 0 and mode["ratio"] > 0 and len(mode["samples_ts"]) == 1, mode
    assert mode["ratio_low"] == mode["ratio"] == mode["ratio_high"], mode  # one repetition
    if mode["mode"] == "control":
        assert mode["drafted"] == 0, mode
    assert 0 <= mode["accepted"] <= mode["drafted"], mode
    assert sum(mode["accepted_by"].values()) == mode["accepted"] == sum(mode["accepted_at"]), mode
    assert mode["accepted_at"] == sorted(mode["accepted_at"], reverse=True), mode
    assert mode["attempts"] >= mode["full_accepts"], mode
    if row["streams"] == 1:
        assert len(mode["trace"]) == row["tokens"] and 0 <= min(mode["trace"]), mode
        assert 0 <= mode["first_guess_right"] <= mode["places_guessed"] < row["tokens"], mode
        # Each step brings a token and the right drafts; the first step is before the clock starts.
        assert mode["steps"] + mode["accepted"] == row["tokens"] - 1, mode
        # The first step, before the clock starts, may have had drafts too.
        assert sum(mode["steps_right"]) <= mode["accepted"] and len(mode["steps_right"]) == mode["steps"], mode
        assert mode["steps"] <= sum(mode["steps_scored"]) <= mode["steps"] + mode["drafted"], mode
        assert mode["ceiling"] > 0.999, mode
    else:
        assert "trace" not in mode and mode["ceiling"] is None, mode


def check_rows(report, modes, streams):
    assert report["differing_runs"] == 0, report["differing_runs"]
    assert len(report["step_costs_ms"]) == 16 and min(report["step_costs_ms"]) > 0, report["step_costs_ms"]
    rows = report["rows"]
    assert [row["streams"] for row in rows] == streams * (len(rows) // len(streams)), rows
    for row in rows + report["random_rows"]:
        assert [mode["mode"] for mode in row["modes"]] == modes, row
        assert 1 <= row["tokens"] <= 24 * row["streams"] and 0 <= row["repeats"] <= 1, row
        for mode in row["modes"]:
            if row["tokens"] > row["streams"]:
                check_mode(row, mode)


def check_categories():
    print("categories")
    report = json.loads(run("llm-spec-bench", "-s", 1, "--modes", "suffix", "-o", "json", *FAST))
    check_rows(report, ["suffix"], [1])
    assert list(dict.fromkeys(row["category"] for row in report["rows"])) == CATEGORIES, report["rows"]
    assert {row["category"] for row in report["random_rows"]} == {"random-tokens"}, report["random_rows"]
    assert any(row["temperature"] == 1.5 for row in report["rows"]), report["rows"]


def check_modes():
    print("modes")
    report = json.loads(run("llm-spec-bench", "-md", MODELS / "demo-draft", "-s", "1,3", "-c", "code-edit,adversarial",
                            "-o", "json", *FAST))
    check_rows(report, LOOKUPS + WITH_MODEL, [1, 3])
    edits = [mode for row in report["rows"] if row["category"] == "code-edit" for mode in row["modes"]]
    assert any(mode["places_guessed"] > 0 for mode in edits if "trace" in mode), edits
    checks = {(check["check"], check["mode"]): check for check in report["checks"]}
    for mode in ("suffix", "ngram", "model", "suffix+model"):
        for name in ("ceiling", "edit-speed", "fresh", "ema"):
            check = checks[name, mode]
            assert check["verdict"] in ("pass", "miss") and 0 <= check["missed"] <= check["rows"] > 0, check
            assert check["clearly_missed"] <= check["missed"] and check["worst_low"] <= check["worst"], check
            assert (check["verdict"] == "miss") == (check["missed"] > 0), check
    assert ("ceiling", "ngram-ema") not in checks and ("fresh", "control") not in checks, checks
    assert checks["combined", "suffix+model"]["rows"] > 0, checks


def check_table():
    print("table")
    table = run("llm-spec-bench", "-c", "code-edit,random", "-s", 1, "--modes", "suffix", *FAST)
    rows = re.findall(r"^\| (code-edit|random-tokens) \| [^|]+ \| [^|]+ \| 1 \| \d+ \|.*\| suffix \|", table, re.M)
    assert rows == ["code-edit", "code-edit", "random-tokens"], table
    assert "flatters every drafter" in table and "all answers are those without drafts" in table, table
    shown = run("llm-spec-bench", "-c", "code-edit", "-s", 1, "--show", *FAST)
    assert shown.startswith("===== code-edit/") and "def " in shown, shown


def check_replay(folder):
    print("replay")
    model = folder / "costs"
    run("make_model", "qwen3-0.6b", "bf16", model, "--format", "safetensors", "--shape", TINY.format(vocab=9000))
    arguments = ["-c", "code-edit,adversarial", "-s", "1,2", "--modes", "suffix,ngram", "-o", "json", *FAST]
    said = json.loads(run("llm-spec-bench", *arguments))
    replayed = json.loads(run("llm-spec-bench", *arguments, "--replay-costs", model))
    assert replayed["replay_costs_filename"] == str(model) and replayed["differing_runs"] == 0, replayed
    for own, other in zip(said["rows"], replayed["rows"], strict=True):
        assert own["tokens"] == other["tokens"] and own["repeats"] == other["repeats"], (own, other)
        for mode, same in zip(own["modes"], other["modes"], strict=True):
            assert mode.get("trace") == same.get("trace"), (mode, same)
    assert all(check["check"] != "edit-speed" for check in replayed["checks"]), replayed["checks"]


def check_simulation(folder):
    """The clock is as it is told, so that all figures are the same in each run."""
    print("simulation")
    arguments = ["-md", MODELS / "demo-draft", "-c", "code-edit,adversarial", "-s", "1,2", "-o", "json", "--replay-costs",
                 folder / "costs", "--simulate", "5000,1500,700,50", "-n", 40, "-r", 2, "--most-prompts", 1,
                 "--cost-samples", 1]
    first, again = (run("llm-spec-bench", *arguments) for _ in range(2))
    assert first == again, (first, again)
    report = json.loads(first)
    assert report["step_costs_ms"] == [5 + 1.5 * n for n in range(16)], report["step_costs_ms"]
    for row in report["rows"]:
        direct_ts = 1e6 * row["streams"] / (5000 + 1500 * (row["streams"] - 1))
        assert row["tokens"] != 40 * row["streams"] or abs(row["direct_ts"] / direct_ts - 1) < 1e-3, row
        modes = {mode["mode"]: mode for mode in row["modes"]}
        assert list(modes) == LOOKUPS + WITH_MODEL, row
        for name in ("ratio", "ratio_to_the_end", "ratio_of_slowest_stream"):
            assert modes["control"][name] == 1, row
        for mode in row["modes"]:
            last = mode["samples_ts"][-1] / row["direct_samples_ts"][-1]
            slowest = mode["ratio_of_slowest_stream"]
            assert slowest <= last * 1.0001, (last, mode)
            if row["streams"] == 1:
                assert mode["ratio"] == mode["ratio_to_the_end"] and abs(slowest / last - 1) < 1e-5, (last, mode)
    # Where one stream of two is done long before the other, it counts as much: the whole takes as long as the slower one.
    apart = [mode for row in report["rows"] if row["streams"] == 2 and row["tokens"] == 80 for mode in row["modes"]
             if mode["ratio"] > 1.05 * mode["ratio_to_the_end"]]
    assert apart, report["rows"]
    edits = [mode for row in report["rows"] if row["category"] == "code-edit" for mode in row["modes"]]
    assert any(mode["mode"] == "suffix" and mode["ratio"] > 1.3 for mode in edits), edits
    assert any(mode["accepted_by"]["model"] > 0 for mode in edits), edits


def check_refusals(folder):
    print("refusals")
    small = folder / "small"
    run("make_model", "qwen3-0.6b", "bf16", small, "--format", "safetensors", "--shape", TINY.format(vocab=600))
    (folder / "empty").mkdir()
    for arguments, word in [
        (["-s", "x"], "-s"), (["-s", 17], "16"), (["--modes", "luck"], "luck"), (["--modes", "model"], "-md"),
        (["--what", 1], "--what"), (["-c"], "-c"), (["-c", "poetry"], "-c"), (["-m", folder / "none"], "none"),
        (["--replay-costs", small], "small"), (["-md", small], "small"), (["--prompts", folder / "empty"], "no prompts"),
        (["-n", 2048], "positions"), (["--simulate", "5000"], "two numbers"), (["--simulate", "0,1"], "--simulate"),
        (["-md", MODELS / "demo-draft", "--modes", "model", "--simulate", "5000,1"], "four numbers"),
        (["-md", MODELS / "demo-draft", "--modes", "model", "--replay-costs", small], "model"),
    ]:
        text = run("llm-spec-bench", *arguments, code=2)
        assert word in text, (arguments, word, text)
    assert "--replay-costs" in run("llm-spec-bench", "--help")


def main():
    if not (BENCH / "llm-spec-bench").exists() or not (BENCH / "make_model").exists():
        print("SKIPPED: the benchmarks are not built")
        return 77
    check_categories()
    check_modes()
    check_table()
    with tempfile.TemporaryDirectory() as name:
        check_replay(Path(name))
        check_simulation(Path(name))
        check_refusals(Path(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
