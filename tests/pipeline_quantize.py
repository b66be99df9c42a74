#!/usr/bin/env python3
# labels: pipeline
# timeout: 300
"""`millrace quantize` as a user runs it: what it writes is read by an independent reading of the formats, and runs."""
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("MILLRACE_BUILD", SOURCE / "build" / "release")) / "bin" / "millrace"
DRAFT = SOURCE / "models" / "demo-draft"
failures = []
checks = 0


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        failures.append(what)


def millrace(*arguments, code=0, words=()):
    result = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=240)
    check(result.returncode == code, f"{arguments}: exit code {result.returncode}, not {code}: {result.stderr}")
    for word in words:
        check(word in result.stderr, f"{arguments}: does not say {word!r}: {result.stderr}")
    return result


class Safetensors:
    def __init__(self, path):
        self.data = path.read_bytes()
        (length,) = struct.unpack_from("<Q", self.data)
        self.header = json.loads(self.data[8 : 8 + length])
        self.begin = 8 + length

    def bytes(self, name):
        begin, end = self.header[name]["data_offsets"]
        return self.data[self.begin + begin : self.begin + end]

    def bf16(self, name):
        return [struct.unpack("<f", b"\0\0" + pair)[0] for pair in zip_pairs(self.bytes(name))]

    def affine_row(self, module, row, bits, group):
        """From MLX's documentation: codes from the lowest bit of 32-bit words on, w = scale · code + bias."""
        words = self.header[module + ".weight"]["shape"][1]
        stored = int.from_bytes(self.bytes(module + ".weight")[row * words * 4 : (row + 1) * words * 4], "little")
        count = words * 32 // bits
        groups = count // group
        scales = self.bf16(module + ".scales")[row * groups : (row + 1) * groups]
        biases = self.bf16(module + ".biases")[row * groups : (row + 1) * groups]
        return [scales[i // group] * (stored >> bits * i & (1 << bits) - 1) + biases[i // group] for i in range(count)]


def zip_pairs(data):
    return [data[i : i + 2] for i in range(0, len(data), 2)]


def relative_error(expected, found):
    return (sum((a - b) ** 2 for a, b in zip(expected, found)) / sum(a * a for a in expected)) ** 0.5


def affine_folders(folder):
    original = Safetensors(DRAFT / "model.safetensors")
    module = "model.layers.0.mlp.down_proj"
    width = original.header[module + ".weight"]["shape"][1]
    for bits, group, most in ((2, 32, 0.4), (3, 64, 0.2), (4, 64, 0.1), (5, 32, 0.05), (6, 64, 0.03), (8, 128, 0.01)):
        out = Path(folder) / f"affine{bits}"
        millrace("quantize", DRAFT, out, "--type", f"affine{bits}g{group}", words=[f"affine{bits}g{group}: ", "bits each"])
        quantized = Safetensors(out / "model.safetensors")
        config = json.loads((out / "config.json").read_text())
        check(config["quantization"] == {"group_size": group, "bits": bits, "mode": "affine"}, f"{bits}: {config['quantization']}")
        check(config["quantization_config"] == config["quantization"], "quantization_config differs")
        check(quantized.header["__metadata__"] == {"format": "mlx"}, "not said to be of mlx")
        check(quantized.header[module + ".weight"]["dtype"] == "U32", "codes are no U32")
        check(quantized.header["model.norm.weight"] | {"data_offsets": 0} == original.header["model.norm.weight"] | {"data_offsets": 0},
              "a norm is not what it was")
        row = original.bf16(module + ".weight")[3 * width : 4 * width]
        error = relative_error(row, quantized.affine_row(module, 3, bits, group))
        check(0 < error < most, f"{bits} bits: relative error {error}")
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            check((out / name).read_bytes() == (DRAFT / name).read_bytes(), f"{name} is not copied")
    result = millrace("run", "--model", Path(folder) / "affine8", "-n", "8", "import os")
    check(result.stdout, "a quantized model says nothing")
    millrace("quantize", DRAFT, Path(folder) / "affine8", "--type", "affine8", code=1, words=["is there"])
    millrace("quantize", DRAFT, Path(folder) / "mixed", "--type", "affine4", "--override", "*down_proj*=affine8g32", "--quiet")
    config = json.loads((Path(folder) / "mixed" / "config.json").read_text())
    check(config["quantization"][module] == {"group_size": 32, "bits": 8}, "an override is not in config.json")


def usage(folder):
    out = Path(folder) / "none"
    millrace("quantize", DRAFT, out, code=2, words=["--type is missing", "Q4_K_M"])
    millrace("quantize", DRAFT, out, "--type", "Q9", code=2, words=["Q9", "affineBgG"])
    millrace("quantize", DRAFT, "--type", "affine4", code=2)
    millrace("quantize", DRAFT, out, "--type", "affine4", "--override", "x", code=2, words=["PATTERN=TYPE"])
    millrace("quantize", DRAFT, out, "--type", "affine4", "--threads", "-1", code=2, words=["--threads"])
    millrace("quantize", DRAFT, out, "--type", "Q4_0", code=2, words=[".gguf"])
    millrace("quantize", "no-such-model", out, "--type", "affine4", code=1, words=["no-such-model"])
    check(not list(Path(folder).glob("none*")), "something is left of what failed")
    check("Exit status" in millrace("quantize", "--help").stdout, "--help")


def a_signal_leaves_nothing(folder):
    out = Path(folder) / "stopped"
    process = subprocess.Popen([PROGRAM, "quantize", SOURCE / "models" / "demo", out, "--type", "affine2g32", "--threads", "1"],
                               stderr=subprocess.PIPE, text=True)
    first = process.stderr.readline()  # a tenth is done
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=240)[1]
    check(process.returncode == 130, f"exit code {process.returncode} after {first}{rest}")
    check("stopped" in rest, f"says {rest}")
    check(not list(Path(folder).glob("stopped*")), "something is left of what was stopped")


for case in (affine_folders, usage, a_signal_leaves_nothing):
    with tempfile.TemporaryDirectory() as folder:
        case(folder)
print(f"{checks} checks, {len(failures)} failed")
for failure in failures:
    print("FAILED", failure)
sys.exit(1 if failures or checks < 20 else 0)
