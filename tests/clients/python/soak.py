"""Users of every kind for as long as you like: python soak.py --minutes 120

Clients come, chat on, repeat what others said, cancel, leave in mid-answer, ask for nonsense and change the model, all
at random. Each minute a line says what the server's processes hold; at the end everybody has gone and each of sixteen
new clients must get its whole answer. Exits with 1 when something was stuck, wrong or lost.
"""

import argparse
import random
import sys
import threading
import time

from client import Client
from server import Root, Server, model, remove_models

WORDS = "the quick brown fox jumps over a lazy dog and then some more of it all night long".split()
PERSONALITY = " ".join(WORDS * 6)


class Counts:
    """What happened, counted by all clients."""

    def __init__(self):
        self.lock = threading.Lock()
        self.all = {}

    def add(self, what):
        with self.lock:
            self.all[what] = self.all.get(what, 0) + 1


def main():
    options = arguments()
    counts, failures = Counts(), []
    end = time.monotonic() + 60 * options.minutes
    root = Root("slots: 4\nctx_size: 1024\nn_threads: 1\nidle_cells: 512\ncache_ram: 64\nqueue_length: 64\n")
    try:
        for name in ("context", "micro"):
            root.add_model(name)
        with Server(root=root, args=["--model", model("context")]) as server:
            print("%8s %9s %10s %8s  %s" % ("minutes", "front kB", "workers kB", "files", "so far"), flush=True)
            clients = [
                threading.Thread(target=client, args=(server, random.Random(number), end, counts, failures))
                for number in range(options.clients)
            ]
            for thread in clients:
                thread.start()
            started = time.monotonic()
            while any(thread.is_alive() for thread in clients):
                show(server, (time.monotonic() - started) / 60, counts)
                for thread in clients:
                    thread.join(60 / len(clients))
            show(server, (time.monotonic() - started) / 60, counts)
            last_words(server, failures)
    finally:
        root.remove()
        remove_models()
    for failure in failures[:20]:
        print("FAILED:", failure)
    sys.exit(1 if failures else 0)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--clients", type=int, default=10)
    return parser.parse_args()


def client(server, rng, end, counts, failures):
    """One user after the other, until the time is over."""
    while time.monotonic() < end:
        try:
            with Client(server, transport=rng.choice(["websocket", "websocket", "polling"])) as one:
                for _ in range(rng.randint(1, 6)):
                    if time.monotonic() > end or not act(one, rng, counts):
                        break
                    time.sleep(rng.random() * 0.5)
        except Exception as error:  # noqa: BLE001  (whatever it was, it is to be reported)
            failures.append("%s: %s" % (type(error).__name__, error))
            if len(failures) > 100:
                return


def act(one, rng, counts):
    """Does one thing; false when the user left."""
    chance = rng.random()
    if chance < 0.03:
        name = rng.choice(["context.gguf", "micro.gguf"])
        said = one.request("select_model", {"model_name": name}, reply="select_model", timeout=120)
        counts.add("model" if said["success"] else "no model")
        return True
    if chance < 0.06:
        one.emit(rng.choice(["generate_text", "cancel_generation", "select_model"]), rng.choice([None, 7, [], {"prompt": 3}]))
        counts.add("nonsense")
        # Its answer would be taken for that of the next question.
        return False
    prompt = " ".join([PERSONALITY] * (rng.random() < 0.5) + rng.choices(WORDS, k=rng.randint(1, 60)))
    start = one.begin(prompt, n_predicts=rng.choice([1, 8, 40, 300]), seed=rng.randint(0, 5))
    if chance < 0.15:
        time.sleep(rng.random())
        counts.add("left")
        return False
    if chance < 0.3:
        time.sleep(rng.random() * 0.3)
        one.emit("cancel_generation")
    made = one.finish(start, timeout=300)
    if made.end == "text_generated":
        assert made.joined == made.data["text"], "the pieces are not the text"
    counts.add(made.end)
    return True


def show(server, minutes, counts):
    front, workers = server.rss_kb(), sum(server.rss_kb(pid) for pid in server.workers())
    text = ", ".join("%s %d" % item for item in sorted(counts.all.items()))
    print("%8.1f %9d %10d %8d  %s" % (minutes, front, workers, server.descriptors(), text), flush=True)


def last_words(server, failures):
    """Everybody has gone: whoever comes now is answered at once."""
    clients = [Client(server) for _ in range(16)]
    starts = [one.begin("a last word", n_predicts=8) for one in clients]
    for one, start in zip(clients, starts):
        try:
            if one.finish(start, timeout=60).end != "text_generated":
                failures.append("a last word was not said")
        finally:
            one.io.disconnect()


if __name__ == "__main__":
    main()
