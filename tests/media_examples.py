#!/usr/bin/env python3
# labels: pipeline
# timeout: 240
"""Runs the media examples on files made here: subtitles keep count and times, and their text is on the pictures."""
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ["MILLRACE_BUILD"])
SYSTEM = "You are a helpful assistant."
CUES = [
    ("00:00:00,500", "00:00:02,000", "Who are you?"),
    ("00:00:02,000", "00:00:03,250", "<i>What can you do</i> & why?"),
    ("00:00:04,000", "00:00:05,999", "Write a function\nthat adds two numbers."),
    ("00:00:06,100", "00:00:08,000", "Is 7 a prime?"),
    ("00:59:59,000", "01:00:01,001", "Goodbye."),
]
PROMPTS = ["Who are you?", "What can you do & why?", "Write a function\nthat adds two numbers.", "Is 7 a prime?", "Goodbye."]


def read_png(path):
    """Width, height and the rows of an 8-bit RGB or RGBA picture, without alpha."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", path
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB", body[:10])
            assert depth == 8 and color in (2, 6), (depth, color)
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    size = 3 if color == 2 else 4
    raw, rows, above = zlib.decompress(packed), [], bytearray(width * size)
    for y in range(height):
        kind, line = raw[y * (width * size + 1)], bytearray(raw[y * (width * size + 1) + 1:(y + 1) * (width * size + 1)])
        for x in range(len(line)):
            left, up, corner = line[x - size] if x >= size else 0, above[x], above[x - size] if x >= size else 0
            if kind == 1:
                line[x] = (line[x] + left) & 255
            elif kind == 2:
                line[x] = (line[x] + up) & 255
            elif kind == 3:
                line[x] = (line[x] + (left + up) // 2) & 255
            elif kind == 4:
                p = left + up - corner
                near = min((abs(p - left), 0, left), (abs(p - up), 1, up), (abs(p - corner), 2, corner))
                line[x] = (line[x] + near[2]) & 255
        rows.append(bytes(line))
        above = line
    return width, height, size, rows


def bright(path):
    """How many pixels are (nearly) white."""
    width, _, size, rows = read_png(path)
    return sum(min(row[x * size:x * size + 3]) > 150 for row in rows for x in range(width))


def answers():
    """What the program says to the same prompts."""
    lines = "".join(json.dumps({"id": str(i), "max_tokens": 24, "messages": [{"role": "system", "content": SYSTEM},
                                                                         {"role": "user", "content": text}]}) + "\n"
                    for i, text in enumerate(PROMPTS))
    run = subprocess.run([BUILD / "bin/millrace", "run", "--jsonl", "-"], input=lines.encode(), capture_output=True,
                         check=True)
    by_id = {answer["id"]: answer["text"] for answer in map(json.loads, run.stdout.decode().splitlines())}
    return [by_id[str(i)] for i in range(len(PROMPTS))]


def check_subtitles(folder):
    source, result, frames = folder / "in.srt", folder / "out.srt", folder / "frames"
    frames.mkdir()
    source.write_text("".join(f"{i + 1}\n{start} --> {end}\n{text}\n\n" for i, (start, end, text) in enumerate(CUES)))
    subprocess.run([BUILD / "bin/example-subtitles", source, result, frames, "9", SYSTEM], check=True)
    cues = re.findall(r"(\d+)\n(\S+) --> (\S+)\n(.*?)\n\n(?=\d+\n\d\d:|\Z)", result.read_text(), re.S)
    assert [(start, end) for _, start, end, _ in cues] == [(start, end) for start, end, _ in CUES], cues
    assert [int(number) for number, *_ in cues] == list(range(1, len(CUES) + 1)), cues
    for (_, _, _, text), answer in zip(cues, answers()):
        assert text.strip("\n") == re.sub(r"\n\n+", "\n", answer).strip("\n"), (text, answer)
    assert any(text.strip() for *_, text in cues)
    pictures = sorted(frames.glob("*.png"))
    assert len(pictures) == 18, pictures
    assert read_png(pictures[0])[:2] == (640, 360)
    # At 0 s and 3.5 s nobody speaks; at 1 s the first answer is on the picture, at 4.5 s the third.
    silent, first, pause, third = (bright(pictures[i]) for i in (0, 2, 7, 9))
    print(f"white pixels: {silent} silent, {first} first cue, {pause} pause, {third} third cue")
    assert silent == pause and first > silent + 100 and third > silent + 100


def check_overlay(folder):
    frames = folder / "overlay"
    subprocess.run([SOURCE / "pipelines/examples/streaming-overlay.sh", "def fibonacci(n):", frames], check=True,
                   stdin=subprocess.DEVNULL)
    pictures = sorted(frames.glob("*.png"))
    assert len(pictures) == 16, pictures
    counts = [bright(picture) for picture in pictures]
    print("white pixels:", *counts)
    assert counts == sorted(counts), "text went away"
    assert len(set(counts)) >= 6 and counts[-1] > 3 * max(counts[0], 20), "text did not grow"


with tempfile.TemporaryDirectory() as name:
    keep = os.environ.get("MILLRACE_KEEP_PICTURES")
    folder = Path(keep or name)
    check_subtitles(folder)
    check_overlay(folder)
