#!/usr/bin/env python3
# labels: http
# timeout: 900
"""The official clients against `millrace serve`: openai for Python and JavaScript, LangChain, anthropic, ollama.

They are installed into the build folder, once; tests/data/http/ has what they do. Where the registries are out of reach,
or Node.js is not there, the test says SKIPPED and what was not tested, and exits with 77.
"""
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from http_server import BUILD, SOURCE, Server, equal  # noqa: E402

DATA = SOURCE / "tests" / "data" / "http"
PLACE = BUILD / "tests" / "http_clients"
SKIP = 77
KEY, MODEL = "a-key", "demo"
# Sanitizers are for the server.
PLAIN = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "LD_LIBRARY_PATH")}


def run(*command, timeout):
    """None, or why it did not work."""
    try:
        result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=timeout,
                                env=PLAIN, stdin=subprocess.DEVNULL)
    except (subprocess.TimeoutExpired, OSError) as error:
        return str(error)
    lines = (result.stderr + result.stdout).strip().splitlines()
    return None if result.returncode == 0 else "\n".join(lines[-5:])


def installed(name, wanted, install):
    """Runs `install` unless it has been done for this list; None, or why it did not work."""
    mark = PLACE / f"{name}.installed"
    content = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == content:
        return None
    mark.unlink(missing_ok=True)
    PLACE.mkdir(parents=True, exist_ok=True)
    problem = install(wanted)
    if problem is None:
        mark.write_text(content)
    return problem


def install_python(wanted):
    shutil.rmtree(PLACE / "venv", ignore_errors=True)
    return (run(sys.executable, "-m", "venv", PLACE / "venv", timeout=120) or
            run(PLACE / "venv" / "bin" / "pip", "install", "--quiet", "--retries", "1", "--timeout", "20",
                "--disable-pip-version-check", "-r", wanted, timeout=400))


def install_javascript(wanted):
    if not shutil.which("npm") or not shutil.which("node"):
        return "node and npm are not installed"
    shutil.rmtree(PLACE / "js", ignore_errors=True)
    (PLACE / "js").mkdir()
    shutil.copy(wanted, PLACE / "js")
    return run("npm", "install", "--prefix", PLACE / "js", "--no-audit", "--no-fund", "--fetch-retries", "1",
               "--fetch-timeout", "20000", timeout=200)


def drive(name, command):
    """True when it went well."""
    with Server("--model", MODEL, "--api-key", KEY, "--quiet") as server:
        result = subprocess.run([*map(str, command), server.url, KEY, MODEL], env=PLAIN, timeout=400,
                                stdin=subprocess.DEVNULL)
        try:
            equal(server.stop(), 0, "exit code of the server")
        except AssertionError as error:
            print(f"FAILED after {name}: {error}")
            return False
        if result.returncode != 0:
            print(f"FAILED {name}: exit code {result.returncode}; the server said: {server.output()[-2000:]}")
        return result.returncode == 0


def main():
    problems, passed = {}, True
    problem = installed("python", DATA / "requirements.txt", install_python)
    if problem is None:
        passed &= drive("the Python clients", [PLACE / "venv" / "bin" / "python", DATA / "clients.py"])
    else:
        problems["the Python clients (openai, LangChain, anthropic, ollama)"] = problem
    problem = installed("javascript", DATA / "package.json", install_javascript)
    if problem is None:
        # Beside node_modules, where Node.js looks for them.
        shutil.copy(DATA / "clients.mjs", PLACE / "js")
        passed &= drive("the JavaScript client", ["node", PLACE / "js" / "clients.mjs"])
    else:
        problems["the JavaScript client (openai)"] = problem
    for what, problem in problems.items():
        print(f"SKIPPED: {what} could not be installed, so nothing is known about them here: {problem}")
    return 1 if not passed else SKIP if problems else 0


if __name__ == "__main__":
    sys.exit(main())
