#!/usr/bin/env python3
# labels: pipeline
# timeout: 300
"""`millrace download` against a hub of this test that misbehaves: what arrives is right or it does not arrive, and the message
says what was wrong and where."""
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import hub_server as hub  # noqa: E402
from hub_server import Hub  # noqa: E402

SOURCE = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("MILLRACE_BUILD", SOURCE / "build" / "release")) / "bin" / "millrace"
REPOSITORY = "owner/model"
WEIGHTS = "model.safetensors"
QUICK = ("--retry-delay", "0.01")
MIB = 1 << 20

random.seed(7)
SMALL = random.randbytes(300_000)
BIG = random.randbytes(5 * MIB + 12345)
CONFIG = b'{"model_type": "llama"}'
checks = 0
failures = []


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        failures.append(f"{case}: {what}")


class Run:
    """The program against a hub, in a folder of its own."""

    def __init__(self, server, folder, *arguments, target=REPOSITORY, token=None, wait=True):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "MILLRACE_HUB")) and "proxy" not in k.lower()}
        environment |= {"XDG_DATA_HOME": str(folder)}
        if token:
            environment["HF_TOKEN"] = token
        self.place = Path(folder) / "millrace" / "models" / target.split(":")[0]
        self.process = subprocess.Popen([PROGRAM, "download", target, "--endpoint", server.url, *QUICK, *arguments],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
        if wait:
            self.wait()

    def wait(self):
        self.out, self.err = self.process.communicate(timeout=240)
        self.code = self.process.returncode
        return self

    def expect(self, code, *words):
        check(self.code == code, f"exit code {self.code}, not {code}: {self.err}")
        for word in words:
            check(re.search(word, self.err + self.out), f"does not say {word!r}: {self.err}{self.out}")
        return self

    def has(self, **files):
        """Exactly these files; double underscores stand for dots."""
        wanted = {name.replace("__", "."): data for name, data in files.items()}
        found = {str(p.relative_to(self.place)): p.read_bytes() for p in self.place.rglob("*") if p.is_file()}
        check(sorted(found) == sorted(wanted), f"files {sorted(found)}, not {sorted(wanted)}")
        for name, data in wanted.items():
            check(found.get(name) == data, f"{name} has other bytes")
        return self


def repository(weights=SMALL, **more):
    return {REPOSITORY: {"config.json": CONFIG, WEIGHTS: weights, "README.md": b"text", **more}}


CASES = []


def scenario(function):
    CASES.append(function)
    return function


@scenario
def what_is_needed_comes_and_comes_once(folder):
    with Hub(repository()) as server:
        run = Run(server, folder, token="secret").expect(0, str(Path(folder) / "millrace"), "2 files")
        run.has(config__json=CONFIG, model__safetensors=SMALL)
        check(all(r.authorization == "Bearer secret" for r in server.requests), "requests without the token")
        check(any(f"/resolve/{hub.COMMIT}/" in r.path for r in server.requests), "the commit is not pinned")
        before = len(server.of(WEIGHTS))
        Run(server, folder).expect(0)
        check(len(server.of(WEIGHTS)) == before, "a file that is there came again")
        (run.place / "config.json").write_bytes(b"x" * len(CONFIG))
        Run(server, folder).expect(0).has(config__json=CONFIG, model__safetensors=SMALL)
        Run(server, folder, "--list").expect(0, rf"{len(SMALL)}  {WEIGHTS}")
        Run(server, folder, "--all", "--output", f"{folder}/all").expect(0, f"{folder}/all")
        check((Path(folder) / "all" / "README.md").read_bytes() == b"text", "--all leaves something out")


@scenario
def a_downloaded_model_is_found_by_its_name(folder):
    draft = SOURCE / "models" / "demo-draft"
    files = {p.name: p.read_bytes() for p in draft.iterdir()}
    with Hub({"some/draft": files}) as server:
        Run(server, folder, target="some/draft").expect(0)
    environment = dict(os.environ, XDG_DATA_HOME=folder)
    result = subprocess.run([PROGRAM, "run", "--model", "some/draft", "-n", "4", "import os"], env=environment,
                            capture_output=True, text=True, timeout=120)
    check(result.returncode == 0 and result.stdout, f"run --model some/draft: {result.stderr}")


@scenario
def big_files_come_in_ranges_by_several(folder):
    with Hub(repository(BIG)) as server:
        Run(server, folder, "--range-size", "1", "--jobs", "4").expect(0).has(config__json=CONFIG, model__safetensors=BIG)
        ranges = [r.range for r in server.of(WEIGHTS)]
        check(len(ranges) == 6 and None not in ranges, f"ranges {ranges}")
        check(sum(r.served for r in server.of(WEIGHTS)) == len(BIG), "bytes came twice")


@scenario
def what_a_reset_leaves_is_kept(folder):
    with Hub(repository(BIG)) as server:
        server.trouble[WEIGHTS] = [hub.cut(BIG, 100_000 * (i + 1)) for i in range(8)]
        Run(server, folder, "--attempts", "3").expect(0, "trying again").has(config__json=CONFIG, model__safetensors=BIG)
        seen = server.of(WEIGHTS)
        check(len(seen) == 9, f"{len(seen)} requests")
        check(all(r.range and r.if_range for r in seen[1:]), "not gone on with Range and If-Range")
        check(sum(r.served for r in seen) == len(BIG), f"{sum(r.served for r in seen)} bytes came for {len(BIG)}")


@scenario
def resets_that_bring_nothing_end(folder):
    with Hub(repository()) as server:
        server.trouble[WEIGHTS] = [hub.cut(SMALL, 0)] * 10
        run = Run(server, folder, "--attempts", "3").expect(1, "error: .*" + WEIGHTS, "goes on from here")
        check(len(server.of(WEIGHTS)) == 3, f"{len(server.of(WEIGHTS))} attempts, not 3")
        check(not (run.place / WEIGHTS).exists(), "an incomplete file has its name")


@scenario
def ranges_that_are_ignored_begin_anew(folder):
    with Hub(repository(BIG)) as server:
        server.trouble[WEIGHTS] = [hub.cut(BIG, 2 * MIB), hub.body(BIG)]
        Run(server, folder).expect(0).has(config__json=CONFIG, model__safetensors=BIG)
    with tempfile.TemporaryDirectory() as other, Hub(repository(BIG)) as server:
        server.trouble[WEIGHTS] = [hub.body(BIG)] * 8
        Run(server, other, "--range-size", "1", "--jobs", "4").expect(0).has(config__json=CONFIG, model__safetensors=BIG)
    with tempfile.TemporaryDirectory() as other, Hub(repository(BIG)) as server:
        server.trouble[WEIGHTS] = [hub.cut(BIG, MIB, ranged=False)] * 20
        Run(server, other).expect(1, "no ranges")


@scenario
def a_tag_that_has_changed_begins_anew(folder):
    with Hub(repository(BIG)) as server:
        def changed(handler):
            handler.request_seen.if_range = '"something else"'
            return False

        server.trouble[WEIGHTS] = [hub.cut(BIG, 2 * MIB), changed]
        Run(server, folder).expect(0).has(config__json=CONFIG, model__safetensors=BIG)


@scenario
def another_length_than_listed_is_refused(folder):
    with Hub(repository()) as server:
        server.trouble[WEIGHTS] = [hub.body(SMALL + b"x")]
        Run(server, folder).expect(1, "300001 bytes", "300000")
        server.trouble[WEIGHTS] = [hub.body(SMALL[:-1])]
        Run(server, folder).expect(1, "299999 bytes", "300000")

        def longer_range(handler):
            handler.send_body(SMALL[:10], {"Content-Range": "bytes 5-14/300000"}, 206)
            return True

        server.trouble[WEIGHTS] = [longer_range]
        Run(server, folder).expect(1, "another range")


@scenario
def another_digest_is_fetched_again_and_then_refused(folder):
    wrong = bytes([SMALL[0] ^ 1]) + SMALL[1:]
    with Hub(repository()) as server:
        server.trouble[WEIGHTS] = [hub.body(wrong)]
        Run(server, folder, "--jobs", "1").expect(0, "digest sha256:" + hub.sha256(wrong), "fetching it again").has(
            config__json=CONFIG, model__safetensors=SMALL)
    with tempfile.TemporaryDirectory() as other, Hub(repository()) as server:
        server.trouble[WEIGHTS] = [hub.body(wrong)] * 5
        server.trouble["config.json"] = [hub.body(b"?" * len(CONFIG))]
        run = Run(server, other).expect(1, "sha256:" + hub.sha256(SMALL), "more than once")
        check(not (run.place / WEIGHTS).exists(), "a file with another digest has its name")


@scenario
def a_server_that_asks_to_wait_is_waited_for(folder):
    with Hub(repository()) as server:
        server.trouble["revision"] = [hub.status(429, Retry_After="1")]
        server.trouble[WEIGHTS] = [hub.status(503, Retry_After="1"), hub.status(500), hub.status(502)]
        Run(server, folder).expect(0, "status 429.*trying again in 1.0 s", "status 503.*trying again in 1.0 s", "status 500",
                                   "status 502").has(config__json=CONFIG, model__safetensors=SMALL)
        server.trouble["revision"] = [hub.status(429, Retry_After="5000")]
        Run(server, folder).expect(1, "status 429", "HF_TOKEN")
        server.trouble["revision"] = [hub.status(500)] * 9
        Run(server, folder, "--attempts", "4").expect(1, "error: .*/revision/main: status 500")
        check(len(server.trouble["revision"]) == 5, "not as many attempts as asked for")


@scenario
def what_is_refused_says_what_to_do(folder):
    with Hub(repository()) as server:
        for code, words in ((401, "HF_TOKEN"), (403, "accept the model's terms"), (404, "no such repository"), (400, "status 400")):
            server.trouble["revision"] = [hub.status(code, X_Error_Message="because")]
            Run(server, folder).expect(1, words, "because", f"status {code}")
            check(not server.trouble["revision"], "not asked")
        server.trouble["revision"] = [hub.status(401)]
        Run(server, folder, token="secret").expect(1, "the token that is set")
        Run(server, folder, target="owner/other").expect(1, "owner/other.*status 404")
        check("secret" not in Run(server, folder, token="secret").err, "the token is printed")


@scenario
def tokens_stay_with_the_hub(folder):
    with Hub() as storage, Hub(repository(BIG)) as server:
        storage.plain["/blob"] = BIG
        server.trouble[WEIGHTS] = [hub.redirect("/elsewhere", 307)]
        server.trouble["/elsewhere"] = [hub.redirect(storage.url + "/blob?signature=x")]
        Run(server, folder, token="secret").expect(0).has(config__json=CONFIG, model__safetensors=BIG)
        check([r.authorization for r in server.of("/elsewhere")] == ["Bearer secret"], "no token to the hub itself")
        check([r.authorization for r in storage.requests] == [None], "the token went to another server")
        check(server.requests[0].authorization == "Bearer secret", "no token to the API")


@scenario
def redirects_have_an_end(folder):
    with Hub(repository()) as server:
        server.trouble[WEIGHTS] = [hub.redirect(f"{server.url}/{REPOSITORY}/resolve/main/{WEIGHTS}")] * 50
        Run(server, folder).expect(1, "redirects have led")
        check(len(server.of(WEIGHTS)) == 9, f"{len(server.of(WEIGHTS))} requests")
        for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", "http:///x", "data:text/plain,x", "http://["):
            server.trouble[WEIGHTS] = [hub.redirect(target)]
            run = Run(server, folder).expect(1, "redirects to")
            check(not (run.place / WEIGHTS).exists(), f"{target} was followed")
        secret = "signature=not-for-the-eyes"
        server.trouble[WEIGHTS] = [hub.redirect(f"/gone?{secret}")]
        check(secret not in Run(server, folder).expect(1, "/gone: status 404").err, "a signature is printed")


@scenario
def a_trickle_is_given_up_and_gone_on_with(folder):
    with Hub(repository()) as server:
        server.trouble[WEIGHTS] = [hub.trickle(SMALL)]
        Run(server, folder, "--timeout", "1").expect(0, "bytes came in 1 s").has(config__json=CONFIG, model__safetensors=SMALL)


@scenario
def silence_is_given_up(folder):
    with Hub(repository()) as server:
        server.trouble[WEIGHTS] = [hub.hang(SMALL, 1000, threading.Event())]
        Run(server, folder, "--timeout", "1").expect(0, "trying again").has(config__json=CONFIG, model__safetensors=SMALL)


@scenario
def a_signal_leaves_what_came(folder):
    for number in (signal.SIGINT, signal.SIGTERM):
        with tempfile.TemporaryDirectory() as other, Hub(repository(BIG)) as server:
            reached = threading.Event()
            server.trouble[WEIGHTS] = [hub.hang(BIG, 3 * MIB, reached)]
            run = Run(server, other, wait=False)
            check(reached.wait(60), "the server was not asked")
            part = run.place / (WEIGHTS + ".part")
            while not part.exists() or part.read_bytes()[: 3 * MIB] != BIG[: 3 * MIB]:
                os.sched_yield()  # until what was sent has been written
            run.process.send_signal(number)
            run.wait().expect(130, "goes on from here")
            check((run.place / (WEIGHTS + ".part.ranges")).exists(), "nothing is known of the part")
            again = Run(server, other).expect(0).has(config__json=CONFIG, model__safetensors=BIG)
            last = server.of(WEIGHTS)[-1]
            check(last.range == f"bytes={3 * MIB}-{len(BIG) - 1}", f"went on with {last.range}")
            check("2.00 MiB" in again.err or "2.01 MiB" in again.err, f"does not say what is to come: {again.err}")


@scenario
def a_part_that_was_damaged_is_noticed(folder):
    with Hub(repository(BIG)) as server:
        server.trouble[WEIGHTS] = [hub.cut(BIG, 2 * MIB), hub.status(404)]
        run = Run(server, folder).expect(1)
        part = run.place / (WEIGHTS + ".part")
        data = bytearray(part.read_bytes())
        data[1000] ^= 255
        part.write_bytes(data)
        Run(server, folder).expect(0, "fetching it again").has(config__json=CONFIG, model__safetensors=BIG)
    with tempfile.TemporaryDirectory() as other, Hub(repository(BIG)) as server:
        server.trouble[WEIGHTS] = [hub.cut(BIG, 2 * MIB), hub.status(404)]
        run = Run(server, other).expect(1)
        (run.place / (WEIGHTS + ".part.ranges")).write_bytes(random.randbytes(100))
        Run(server, other).expect(0).has(config__json=CONFIG, model__safetensors=BIG)


@scenario
def two_at_a_time_do_not_mix(folder):
    with Hub(repository(BIG)) as server:
        reached = threading.Event()
        server.trouble[WEIGHTS] = [hub.hang(BIG, 1000, reached)]
        first = Run(server, folder, wait=False)
        check(reached.wait(60), "the server was not asked")
        Run(server, folder).expect(1, "another process")
        first.process.send_signal(signal.SIGTERM)
        first.wait().expect(130)
        Run(server, folder).expect(0).has(config__json=CONFIG, model__safetensors=BIG)


@scenario
def names_that_lead_elsewhere_are_refused(folder):
    for name in ("../escaped.json", "sub/../../escaped.json", "/tmp/millrace-escaped.json", "a\\b.json", "a\nb.json", "x.part"):
        with Hub(repository(**{name: b"bad"})) as server:
            run = Run(server, folder, "--all").expect(1, "is not taken")
            check(not run.place.exists(), f"{name!r}: something was written")
            check(not [r for r in server.requests if "/resolve/" in r.path], f"{name!r}: something was fetched")
    index = b'{"weight_map": {"a": "../../escaped.safetensors"}}'
    files = {REPOSITORY: {"config.json": CONFIG, "model.safetensors.index.json": index, "../../escaped.safetensors": SMALL}}
    with Hub(files) as server:
        Run(server, folder).expect(1, "is not taken")
    check(not list(Path(folder).rglob("*escaped*")), "a file was written elsewhere")
    for target in ("../model", "owner/..", "owner", "a/b/c", "owner/model:"):
        with Hub() as server:
            Run(server, folder, target=target).expect(2)
            check(not server.requests, f"{target}: a request was sent")


@scenario
def answers_that_are_no_lists_are_refused(folder):
    with Hub(repository()) as server:
        for answer in (b'{"siblings": [{"rfilename": "config.js', b"<html></html>", b"", b"[]", b'{"siblings": 3}'):
            server.trouble["revision"] = [hub.body(answer)]
            Run(server, folder).expect(1, "/api/models/owner/model/revision/main")

        def huge(handler):
            handler.send_response(200)
            handler.end_headers()
            for _ in range(100):
                handler.wfile.write(b" " * MIB)
            handler.close_connection = True
            return True

        server.trouble["revision"] = [huge]
        Run(server, folder).expect(1, "more than 64 MiB")


@scenario
def lists_without_sizes_are_completed(folder):
    more = {f"sub/{i}.json": b"{}" * i for i in range(1, 6)}
    everything = {"config__json": CONFIG, "model__safetensors": SMALL, "README__md": b"text",
                  **{name.replace(".", "__"): data for name, data in more.items()}}
    with Hub(repository(**more)) as server:
        server.has_sizes = False
        Run(server, folder, "--all").expect(0).has(**everything)
        check(len([r for r in server.requests if "/tree/" in r.path]) == 4, "not all pages of the tree")
    with tempfile.TemporaryDirectory() as other, Hub(repository(**more)) as server:
        server.has_sizes = server.has_tree = False
        Run(server, other, "--all").expect(0).has(**everything)
        server.trouble[WEIGHTS] = [lambda handler: False, hub.body(SMALL[:-1] + b"!")] + [hub.body(SMALL[:-1] + b"!")] * 3
        (Path(other) / "millrace" / "models" / REPOSITORY / WEIGHTS).unlink()
        Run(server, other).expect(1, "sha256:" + hub.sha256(SMALL))  # the file's own headers have the digest


@scenario
def one_of_several_gguf_files(folder):
    files = {"m-Q4_K_M.gguf": SMALL[:5000], "m-Q8_0-00001-of-00002.gguf": SMALL[:3000], "m-Q8_0-00002-of-00002.gguf": SMALL[:4000],
             "config.json": CONFIG}
    with Hub({REPOSITORY: files}) as server:
        Run(server, folder).expect(1, "m-Q4_K_M.gguf", "m-Q8_0-00001-of-00002.gguf")
        Run(server, folder, target=REPOSITORY + ":Q8_0").expect(0).has(
            **{name.replace(".", "__"): files[name] for name in files if "Q8_0" in name})
        Run(server, folder, target=REPOSITORY + ":Q5").expect(1, "m-Q4_K_M.gguf")
        Run(server, folder, "--output", f"{folder}/x", target=REPOSITORY + ":*.json").expect(0)


@scenario
def what_has_no_room_is_not_begun(folder):
    with Hub(repository()) as server:
        server.sizes[WEIGHTS] = 1 << 49
        Run(server, folder).expect(1, "512 TiB are to come", "are free", "--output")
        check(not [r for r in server.requests if "/resolve/" in r.path], "something was fetched")
        Run(server, "/proc").expect(1, "/proc/millrace")


@scenario
def usage(folder):
    def program(*arguments):
        return subprocess.run([PROGRAM, "download", *arguments], capture_output=True, text=True, timeout=60)

    check(program().returncode == 2, "no target")
    for wrong in (["--jobs", "0"], ["--jobs", "x"], ["--endpoint", "file:///"], ["--endpoint", "hub"], ["--revision", "../x"],
                  ["--range-size", "0"], ["--nonsense"]):
        result = program(REPOSITORY, *wrong)
        check(result.returncode == 2 and result.stderr.startswith("error: "), f"{wrong}: {result.returncode} {result.stderr}")
    result = program("--help")
    check(result.returncode == 0 and "HF_TOKEN" in result.stdout and "Exit status" in result.stdout, "--help")


chosen = sys.argv[1:]
for function in CASES:
    case = function.__name__
    if chosen and case not in chosen:
        continue
    with tempfile.TemporaryDirectory() as folder:
        function(folder)
print(f"{len(CASES)} cases, {checks} checks, {len(failures)} failed")
for failure in failures:
    print("FAILED", failure)
sys.exit(1 if failures or checks < 20 else 0)
