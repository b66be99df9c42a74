#!/usr/bin/env python3
# labels: pipeline
# timeout: 300
"""Bad input ends in a message that names the file and the field, and in an exit code that is not 0; never in a crash.

Runs gst-launch-1.0 as a user would, on damaged copies of the draft model.
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
DRAFT = SOURCE / "models" / "demo-draft"
failures = []
count = 0


def launch(pipeline, data=b"import os\n", timeout=120):
    return subprocess.run(["gst-launch-1.0", "-q", *pipeline.split()], input=data, capture_output=True, timeout=timeout)


def expect(name, result, *words):
    """The message holds all words, and the exit code is an ordinary failure."""
    global count
    count += 1
    text = (result.stderr + result.stdout).decode(errors="replace")
    if result.returncode <= 0:  # a signal is negative, gst-launch fails with 1 or 255
        failures.append(f"{name}: exit code {result.returncode}\n{text}")
    missing = [word for word in words if word not in text]
    if missing:
        failures.append(f"{name}: the message does not name {missing}\n{text}")


def copy_of_draft(folder):
    target = Path(folder) / "model"
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(DRAFT, target)
    for path in target.iterdir():
        path.chmod(0o644)
    return target


def edit_json(path, **changes):
    content = json.loads(path.read_text())
    for key, value in changes.items():
        if value is ...:
            content.pop(key)
        else:
            content[key] = value
    path.write_text(json.dumps(content))


def edit_header(path, change):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def model_cases(folder):
    def run(name, *words):
        expect(name, launch(f"fdsrc ! llmbin model={folder}/model prompt::max-tokens=2 ! fdsink"), *words)

    weights = "model.safetensors"
    model = copy_of_draft(folder)
    shutil.rmtree(model)
    run("no model folder", str(model))
    model.mkdir()
    run("empty folder", str(model), "config.json")

    model = copy_of_draft(folder)
    (model / weights).unlink()
    run("no weights", str(model), "safetensors")

    model = copy_of_draft(folder)
    data = (model / weights).read_bytes()
    (model / weights).write_bytes(data[: len(data) // 2])
    run("truncated weights", weights)
    (model / weights).write_bytes(data[:5])
    run("truncated header length", weights)
    (model / weights).write_bytes(b"")
    run("empty weights", weights)
    (model / weights).write_bytes(struct.pack("<Q", 1 << 63) + data[8:])
    run("header length 2^63", weights, "header")
    (model / weights).write_bytes(struct.pack("<Q", len(data)) + data[8:])
    run("header longer than the file", weights, "header")
    (model / weights).write_bytes(data[:8] + b"[" + data[9:])
    run("header is no JSON object", weights)

    norm, embed = "model.norm.weight", "model.embed_tokens.weight"

    def damaged(name, change, *words):
        copy_of_draft(folder)
        edit_header(model / weights, change)
        run(name, weights, *words)

    def swap_shape(header):
        header[embed]["shape"].reverse()

    def shift(header):
        header[norm]["data_offsets"] = [0, header[norm]["data_offsets"][1] - header[norm]["data_offsets"][0]]

    def beyond(header):
        size = header[norm]["data_offsets"][1] - header[norm]["data_offsets"][0]
        header[norm]["data_offsets"] = [1 << 40, (1 << 40) + size]

    damaged("wrong shape", swap_shape, embed)
    damaged("overlapping offsets", shift)
    damaged("offsets out of range", beyond, norm)
    damaged("reversed offsets", lambda h: h[norm]["data_offsets"].reverse(), norm)
    damaged("negative offsets", lambda h: h[norm].update(data_offsets=[-8, 8]), norm)
    damaged("a tensor is missing", lambda h: h.pop(norm))
    damaged("unknown dtype", lambda h: h[norm].update(dtype="F13"), norm)
    damaged("overflowing shape", lambda h: h[norm].update(shape=[1 << 40, 1 << 40]), norm)

    def config(name, *words, **changes):
        copy_of_draft(folder)
        edit_json(model / "config.json", **changes)
        run(name, "config.json", *words)

    config("unknown architecture", "model_type", "no_such_family", model_type="no_such_family")
    config("no architecture", "model_type", model_type=...)
    config("missing hidden_size", "hidden_size", hidden_size=...)
    config("zero layers", "num_hidden_layers", num_hidden_layers=0)
    config("absurd layers", "num_hidden_layers", num_hidden_layers=10**9)
    config("negative vocabulary", "vocab_size", vocab_size=-1)
    config("fractional heads", "num_attention_heads", num_attention_heads=2.5)
    config("text for a number", "intermediate_size", intermediate_size="many")
    config("heads that do not divide", "num_key_value_heads", num_key_value_heads=3)
    config("epsilon out of range", "rms_norm_eps", rms_norm_eps=-1)
    config("absurd context", "max_position_embeddings", max_position_embeddings=10**15)
    copy_of_draft(folder)
    (model / "config.json").write_text("{")
    run("config is no JSON", "config.json")

    def tokenizer(name, text, *words):
        copy_of_draft(folder)
        (model / "tokenizer.json").write_text(text)
        run(name, "tokenizer.json", *words)

    good = (DRAFT / "tokenizer.json").read_text()
    tokenizer("truncated tokenizer", good[: len(good) // 2])
    tokenizer("tokenizer is no object", "[]")
    tokenizer("tokenizer without a model", json.dumps({k: v for k, v in json.loads(good).items() if k != "model"}), "model")
    changed = json.loads(good)
    changed["pre_tokenizer"] = {"type": "NoSuchThing"}
    tokenizer("unknown pre-tokenizer", json.dumps(changed), "pre_tokenizer", "NoSuchThing")
    changed = json.loads(good)
    changed["model"]["merges"].append("no such")
    tokenizer("merge of unknown tokens", json.dumps(changed), "merges")
    copy_of_draft(folder)
    (model / "tokenizer.json").unlink()
    run("no tokenizer", "tokenizer.json")
    copy_of_draft(folder)
    edit_json(model / "tokenizer_config.json", chat_template="{% for %}")
    run("broken chat template", "tokenizer_config.json", "chat_template")


def request_cases():
    small = "llmbin model=demo-draft prompt::max-tokens=2"
    expect("prompt longer than the context", launch(f"fdsrc ! {small} ! fdsink", b"a b " * 4000), "context")
    expect("invalid UTF-8", launch(f"fdsrc ! {small} ! fdsink", b"abc\xff"), "UTF-8", "byte 3")
    expect("empty prompt", launch(f"fdsrc ! {small} ! fdsink", b""), "prompt is empty")
    expect("character cut at the end", launch(f"fdsrc ! {small} ! fdsink", "é".encode()[:1]), "UTF-8")
    expect("KV memory too small", launch(f"fdsrc ! {small} scheduler::kv-memory=100 ! fdsink"), "kv-memory")
    expect("unknown model name", launch("fdsrc ! llmbin model=no-such-model ! fdsink"), "no-such-model")


def property_cases():
    expect("property out of its values", launch("fdsrc ! llmprompt boundary=never ! fakesink"), "boundary")
    expect("no such property", launch("fdsrc ! llmprompt temprature=1 ! fakesink"), "temprature")
    expect("wrong order of elements", launch("fdsrc ! llmprompt ! llmscheduler ! fakesink"), "could not link")


def cut_characters(folder):
    """A file read in chunks that cut characters in two gives the same text as in one piece."""
    global count
    count += 1
    prompt = Path(folder) / "prompt.txt"
    prompt.write_text("# Grüße, 漢字 und 🎈\nimport os\n")
    outputs = set()
    for size in (1, 2, 3, 7, 4096):
        result = launch(f"filesrc location={prompt} blocksize={size} ! llmbin model=demo-draft prompt::max-tokens=8 ! fdsink")
        if result.returncode:
            failures.append(f"blocksize {size}: {result.stderr.decode()}")
        outputs.add(result.stdout)
    if len(outputs) != 1 or not next(iter(outputs)):
        failures.append(f"blocksizes give different texts: {outputs}")


with tempfile.TemporaryDirectory() as folder:
    model_cases(folder)
    request_cases()
    property_cases()
    cut_characters(folder)

print(f"{count} cases, {len(failures)} failed")
for failure in failures:
    print("FAILED", failure)
sys.exit(1 if failures or count < 40 else 0)
