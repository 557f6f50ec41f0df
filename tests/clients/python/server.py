"""Starts and ends real servers in folders of their own, and knows their processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BINDINGS = os.path.join(HERE, "..", "..", "bindings")
BINARY = os.environ.get("LOLLMSD_BIN", "")
MAKE_MODEL = os.environ.get("LOLLMSD_MAKE_MODEL", "")

_models = tempfile.mkdtemp(prefix="lollmsd-models-")


def remove_models():
    """Removes the test models at the end of a run."""
    shutil.rmtree(_models, ignore_errors=True)


def model(kind):
    """The file of a test model, made at its first use."""
    path = os.path.join(_models, kind + ".gguf")
    if not os.path.exists(path):
        subprocess.run([MAKE_MODEL, kind, path], check=True)
    return path


def broken_models():
    """A folder of files that are no models."""
    path = os.path.join(_models, "broken")
    if not os.path.exists(path):
        subprocess.run([MAKE_MODEL, "broken", path], check=True)
    return path


def wait_until(check, what, seconds=10.0):
    """Waits until `check()` is true and returns what it gave; fails with `what` otherwise."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError("after %g s still not: %s" % (seconds, what))
        time.sleep(0.01)


def environment(extra=None):
    """The environment of a server: nothing of ours that could set an option."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LOLLMSD_")}
    kept.update(extra or {})
    return kept


def run(*args, timeout=30, env=None):
    """Runs the program until it ends; for starts that are to fail and for other commands."""
    return subprocess.run(
        [BINARY, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, env=environment(env)
    )


def alive(pid):
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Root:
    """A root folder with what a test wants in it."""

    def __init__(self, config=None, scripted=False):
        self.path = tempfile.mkdtemp(prefix="lollmsd-root-")
        if config is not None:
            self.write("configs/config.yaml", config)
        if scripted:
            shutil.copytree(os.path.join(BINDINGS, "scripted"), os.path.join(self.path, "bindings", "scripted"))
            done = run("bindings", "trust", "scripted", "--root", self.path)
            assert done.returncode == 0, done.stderr + done.stdout

    def write(self, name, content):
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        return path

    def read(self, name):
        with open(os.path.join(self.path, name), encoding="utf-8") as file:
            return file.read()

    def add_model(self, kind, name=None):
        folder = os.path.join(self.path, "models", "llama_cpp")
        os.makedirs(folder, exist_ok=True)
        shutil.copy(model(kind), os.path.join(folder, name or kind + ".gguf"))

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


class Server:
    """A running server. `with Server(...) as server:` ends it whatever happens."""

    def __init__(self, kind=None, root=None, args=(), env=None, config=None, scripted=False):
        self.root = root or Root(config=config, scripted=scripted)
        self._owns_root = root is None
        command = [BINARY, "serve", "--root", self.root.path, "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]
        if kind:
            command += ["--model", model(kind)]
        self._log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command + list(args),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(env),
            text=True,
        )
        self.pid = self.process.pid
        try:
            self.urls = [self._listener(), self._listener()]
        except BaseException:
            self.stop()
            raise
        self.url = self.urls[0]
        # Whatever it prints later must not fill the pipe.
        self._drain = threading.Thread(target=self.process.stdout.read, daemon=True)
        self._drain.start()

    def _listener(self):
        line = self.process.stdout.readline()
        found = re.fullmatch(r"listening on (http://\S+:(\d+))\n", line)
        assert found and found[2] != "0", "the server said %r\n%s" % (line, self.log())
        return found[1]

    @property
    def port(self):
        return int(self.url.rsplit(":", 1)[1])

    def log(self):
        self._log.flush()
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def children(self):
        """Process ids of its binding processes, by what they run."""
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open("/proc/%s/stat" % entry) as file:
                    fields = file.read().rsplit(")", 1)[1].split()
                with open("/proc/%s/cmdline" % entry, "rb") as file:
                    words = file.read().decode(errors="replace").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == self.pid and fields[0] not in "ZX":
                found[int(entry)] = " ".join(words)
        return found

    def workers(self):
        return [pid for pid, words in self.children().items() if " worker" in words]

    def worker(self):
        """The process id of its one llama.cpp worker, waited for."""
        wait_until(lambda: len(self.workers()) == 1, "one worker runs", 20)
        return self.workers()[0]

    def rss_kb(self, pid=None):
        """Memory of the server's process, or of another one."""
        with open("/proc/%d/status" % (pid or self.pid)) as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def kill(self):
        """kill -9, as a crash or the OOM killer would."""
        self.process.kill()
        self.process.wait(10)

    def stop(self):
        """Ends it in the ordinary way and returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        code = self.stop()
        self.process.stdout.close()
        if kind is not None:
            print("\n--- log of the server (exit code %s)\n%s---" % (code, self.log()[-6000:]))
        self._log.close()
        if self._owns_root:
            self.root.remove()


class Chain:
    """What the chain model says, by the last character of the prompt."""

    def __init__(self):
        told = subprocess.run([MAKE_MODEL, "chain", "--expect"], check=True, capture_output=True, text=True)
        self.paths = json.loads(told.stdout)

    def bytes(self, after, n_tokens):
        path = self.paths[after]
        tokens = path["tokens"]
        if path["loops"]:
            tokens = tokens * (n_tokens // len(tokens) + 1)
        return b"".join(bytes(token) for token in tokens[:n_tokens])

    def text(self, after, n_tokens=1 << 16):
        """The text of a path; bytes that are no character, cut ones at the end too, become U+FFFD."""
        n_tokens = min(n_tokens, 1 << 16) if self.paths[after]["loops"] else n_tokens
        return self.bytes(after, n_tokens).decode(errors="replace")
