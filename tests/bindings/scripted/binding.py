"""A binding whose prompts say what it does: the tests' mock, made of the binding protocol.

A prompt is a command and its arguments:

    say TEXT             the text in one piece
    slow N MS            N pieces `p1 p2 …`, one each MS milliseconds
    flood N              N pieces of 1,000 characters as fast as the pipe takes them
    loop                 pieces for ever
    deaf N MS            like `slow`, and a cancel is ignored
    stray N              N lines that are no JSON, then `stray done`
    malformed            a line that begins like JSON and is none
    overlong             a line of 2 MiB
    unknown              an event of a later version, then `unknown done`
    crash                two pieces, then the process dies
    hang                 started, then nothing any more
    late N               an `end` after N milliseconds without any piece
    refuse               an `end` with an error
    pid                  the process id as text
    history              roles and contents of the conversation, as JSON
    settings             the sampling settings, as JSON

`history` and `settings` may stand anywhere in the last message of a conversation.
"""

import json
import os
import sys
import threading
import time

OUT = sys.stdout.buffer
LOCK = threading.Lock()


def write(data):
    with LOCK:
        OUT.write(data)
        OUT.flush()


def send(event, **fields):
    write(json.dumps({event: fields}, ensure_ascii=False).encode() + b"\n")


class Generation(threading.Thread):
    def __init__(self, order, slots):
        super().__init__(daemon=True)
        self.id = order["id"]
        self.order = order
        self.slots = slots
        self.cancelled = threading.Event()
        self.made = 0

    def words(self):
        prompt = self.order["prompt"]
        if "text" in prompt:
            text = prompt["text"]["text"]
        else:
            text = prompt["chat"]["messages"][-1]["content"]
        for word in ("history", "settings"):
            if "chat" in prompt and word in text:
                return [word]
        return text.split()

    def piece(self, text):
        self.made += 1
        send("piece", id=self.id, text=text)

    def end(self, reason="stop", **more):
        send("end", id=self.id, reason=reason, completion_tokens=self.made, **more)

    def run(self):
        with self.slots:
            if self.cancelled.is_set():
                self.end("cancelled")
                return
            words = self.words() or [""]
            send("started", id=self.id, prompt_tokens=len(words))
            act = getattr(self, "do_" + words[0].replace("-", "_"), self.do_other)
            act(words[1:])

    def count(self, n, ms, deaf=False):
        limit = self.order.get("n_predict") or 1 << 40
        for number in range(1, n + 1):
            if self.made >= limit:
                return self.end("limit")
            if deaf:
                time.sleep(ms / 1000)
            elif self.cancelled.wait(ms / 1000):
                return self.end("cancelled")
            self.piece("p%d " % number)
        return self.end()

    def do_other(self, words):
        self.piece("no such command")
        self.end()

    def do_say(self, words):
        self.piece(" ".join(words))
        self.end()

    def do_slow(self, words):
        self.count(int(words[0]), float(words[1]))

    def do_deaf(self, words):
        self.count(int(words[0]), float(words[1]), deaf=True)

    def do_loop(self, words):
        self.count(1 << 40, 1)

    def do_flood(self, words):
        for number in range(int(words[0])):
            if self.cancelled.is_set():
                return self.end("cancelled")
            self.piece(("%07d" % number) + "é" * 496 + ".")
        return self.end()

    def do_stray(self, words):
        for number in range(int(words[0])):
            write(b"stray line %d\n" % number)
        self.piece("stray done")
        self.end()

    def do_malformed(self, words):
        self.piece("before ")
        write(b'{"piece":{"id":%d,"text":\n' % self.id)

    def do_overlong(self, words):
        self.piece("before ")
        self.piece("x" * (2 << 20))

    def do_unknown(self, words):
        write(b'{"telepathy":{"id":%d}}\n' % self.id)
        self.piece("unknown done")
        self.end()

    def do_crash(self, words):
        self.piece("p1 ")
        self.piece("p2 ")
        time.sleep(0.05)
        os._exit(7)

    def do_hang(self, words):
        self.piece("p1 ")
        threading.Event().wait()

    def do_late(self, words):
        cancelled = self.cancelled.wait(float(words[0]) / 1000)
        self.end("cancelled" if cancelled else "stop")

    def do_refuse(self, words):
        self.end("error", code="invalid_request", message="the scripted binding refuses")

    def do_pid(self, words):
        self.piece(str(os.getpid()))
        self.end()

    def do_history(self, words):
        chat = self.order["prompt"].get("chat", {"messages": []})
        told = [[message["role"], message["content"]] for message in chat["messages"]]
        self.piece(json.dumps(told, ensure_ascii=False))
        self.end()

    def do_settings(self, words):
        told = {"sampling": self.order.get("sampling"), "n_predict": self.order.get("n_predict")}
        self.piece(json.dumps(told))
        self.end()


class Binding:
    def __init__(self):
        self.running = {}
        self.slots = None

    def load(self, order):
        model, ident = order["model"], order["id"]
        if model == "no-load":
            send("error", id=ident, code="invalid_request", message="the scripted binding refuses to load")
            return
        if model == "crash-load":
            os._exit(8)
        if model == "slow-load":
            for step in range(20):
                send("progress", id=ident, fraction=step / 20)
                time.sleep(0.1)
        slots = 1 if model == "one-slot" else 8
        self.slots = threading.Semaphore(slots)
        send("loaded", id=ident, slots=slots, ctx_size=4096, chat_template=True, description="scripted")

    def generate(self, order):
        generation = Generation(order, self.slots)
        self.running = {k: g for k, g in self.running.items() if g.is_alive()}
        self.running[order["id"]] = generation
        generation.start()

    def cancel(self, order):
        if order["id"] in self.running:
            self.running[order["id"]].cancelled.set()

    def take(self, name, order):
        if name == "hello":
            capabilities = ["load", "generate", "list_models", "tokenize", "detokenize", "embed"]
            send("hello", version=1, name="scripted", capabilities=capabilities)
        elif name == "list_models":
            send("models", id=order["id"], models=["good", "one-slot", "slow-load", "no-load", "crash-load"])
        elif name == "load":
            threading.Thread(target=self.load, args=(order,), daemon=True).start()
        elif name == "unload":
            send("unloaded", id=order["id"])
        elif name == "tokenize":
            send("tokens", id=order["id"], tokens=list(order["text"].encode()))
        elif name == "detokenize":
            send("text", id=order["id"], text=bytes(order["tokens"]).decode(errors="replace"))
        elif name == "embed":
            send("embedding", id=order["id"], vector=[float(len(order["text"])), 0.5])
        elif name == "generate":
            self.generate(order)
        elif name == "cancel":
            self.cancel(order)
        elif name == "bye":
            os._exit(0)


def main():
    binding = Binding()
    for line in sys.stdin.buffer:
        (name, order), = json.loads(line).items()
        binding.take(name, order)
    os._exit(0)


main()
