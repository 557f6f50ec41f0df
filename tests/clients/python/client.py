"""A python-socketio client that keeps everything it hears, in order."""

import threading
import time

import socketio

# Ends of a generation; exactly one of them comes.
ENDS = ("text_generated", "generation_canceled", "generation_error")
BUSY = ("buzzy", "busy")


class Generation:
    """What came for one `generate_text`."""

    def __init__(self, events):
        self.events = events
        self.chunks = [args[0]["chunk"] for name, args in events if name == "text_chunk"]
        self.joined = "".join(self.chunks)
        self.end, self.data = next((name, args[0]) for name, args in events if name in ENDS + ("buzzy",))

    @property
    def text(self):
        assert self.end == "text_generated", "it ended with %s %r" % (self.end, self.data)
        return self.data["text"]

    @property
    def error(self):
        assert self.end == "generation_error", "it ended with %s %r" % (self.end, self.data)
        return self.data["error"]


class Client:
    """A connected client. `with Client(server) as client:` closes it."""

    def __init__(self, server, transport="websocket", **options):
        url = server if isinstance(server, str) else server.url
        self.heard = []
        self._changed = threading.Condition()
        self._read = 0
        self.io = socketio.Client(reconnection=False)
        self.io.on("*", self._hear)
        # The library starts a thread for each message, so on a busy machine they may be heard in another order than
        # they came. What is tested here is the order of the server.
        trigger = self.io.eio._trigger_event

        def in_order(event, *args, **how):
            return trigger(event, *args, **(dict(how, run_async=False) if event == "message" else how))

        self.io.eio._trigger_event = in_order
        transports = [transport] if isinstance(transport, str) else transport
        self.io.connect(url, transports=transports, wait_timeout=10, **options)

    def _hear(self, name, *args):
        with self._changed:
            self.heard.append((name, args))
            self._changed.notify_all()

    def emit(self, name, *args):
        """Sends an event with exactly these arguments."""
        self.io.emit(name, tuple(args) if args else None)

    def ask(self, name, *args, timeout=10):
        """Sends an event with an acknowledgement wanted and returns the acknowledgement's arguments."""
        done = threading.Event()
        got = []

        def answer(*values):
            got.extend(values)
            done.set()

        self.io.emit(name, tuple(args) if args else None, callback=answer)
        assert done.wait(timeout), "no acknowledgement of %s" % name
        return got

    def wait(self, *names, timeout=30):
        """The next unread event with one of these names; what is read before it stays in `heard`."""
        return self.until(lambda name, args: name in names, " or ".join(names), timeout)

    def until(self, check, what, timeout=30):
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                while self._read < len(self.heard):
                    name, args = self.heard[self._read]
                    self._read += 1
                    if check(name, args):
                        return name, (args[0] if args else None)
                left = end - time.monotonic()
                if left <= 0:
                    last = [name for name, _ in self.heard[-8:]]
                    raise AssertionError("no %s within %g s; the last events were %s" % (what, timeout, last))
                self._changed.wait(left)

    def request(self, name, *args, reply, timeout=30):
        """Sends an event and returns the next reply of one of these names."""
        self.emit(name, *args)
        replies = (reply,) if isinstance(reply, str) else reply
        return self.wait(*replies, timeout=timeout)[1]

    def mark(self):
        """Where the next events begin."""
        with self._changed:
            self._read = len(self.heard)
            return self._read

    def generate(self, prompt, timeout=60, **fields):
        """Makes one completion and returns what came for it."""
        start = self.mark()
        self.emit("generate_text", dict({"prompt": prompt, "personality": -1}, **fields))
        return self.finish(start, timeout)

    def begin(self, prompt, **fields):
        """Starts a completion; `finish` reads it."""
        start = self.mark()
        self.emit("generate_text", dict({"prompt": prompt, "personality": -1}, **fields))
        return start

    def finish(self, start, timeout=60):
        self.wait(*ENDS, "buzzy", timeout=timeout)
        with self._changed:
            return Generation(self.heard[start : self._read])

    def ends(self, start=0):
        """All ends that were heard since `start`."""
        with self._changed:
            return [name for name, _ in self.heard[start:] if name in ENDS]

    @property
    def connected(self):
        return self.io.connected

    def close(self):
        self.io.disconnect()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.io.disconnect()
