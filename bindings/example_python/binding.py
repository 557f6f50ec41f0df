"""A binding for lollmsd that repeats what it is told. Lines of JSON in, lines of JSON out."""
import json, queue, sys, threading, time

events = queue.Queue(1000)  # when it is full generations wait, so memory stays bounded
running, cancelled = set(), set()  # ids of loads and generations


def send(event, **fields):
    events.put(json.dumps({event: fields}))


def write():  # the only writer, so that no two lines mix
    while (line := events.get()) is not None:
        print(line, flush=True)


def pieces_of(prompt):  # your model goes here: yields pieces of text
    text = prompt["text"]["text"] if "text" in prompt else prompt["chat"]["messages"][-1]["content"]
    for number, word in enumerate(text.split(" ")):
        time.sleep(0.01)  # as long as a model thinks
        yield " " + word if number else word


def load(id, **ask):
    for quarter in range(1, 5):
        if id in cancelled:
            return send("error", id=id, code="cancelled", message="the load was cancelled")
        send("progress", id=id, fraction=quarter / 4)
    send("loaded", id=id, slots=8, ctx_size=0, chat_template=True, description="echo")


def generate(id, prompt, n_predict=None, **ask):
    count, reason = 0, "stop"
    send("started", id=id, prompt_tokens=0)
    for piece in pieces_of(prompt):
        if id in cancelled or count == n_predict:
            reason = "cancelled" if id in cancelled else "limit"
            break
        send("piece", id=id, text=piece)
        count += 1
    send("end", id=id, reason=reason, completion_tokens=count)


def work(command, ask):
    try:
        {"load": load, "generate": generate}[command](**ask)
    except Exception as error:  # whatever fails is answered, so that nobody waits for it
        event, more = ("end", {"reason": "error"}) if command == "generate" else ("error", {})
        send(event, id=ask["id"], code="internal", message=str(error), **more)
    for ids in (running, cancelled):
        ids.discard(ask["id"])


threading.Thread(target=write, daemon=True).start()
for line in sys.stdin:
    (command, ask), *_ = json.loads(line).items()
    if command == "hello":
        send("hello", version=1, name="example_python", capabilities=["list_models", "load", "generate"])
    elif command == "list_models":
        send("models", id=ask["id"], models=["echo"])
    elif command in ("load", "generate"):
        running.add(ask["id"])
        threading.Thread(target=work, args=(command, ask), daemon=True).start()
    elif command == "cancel":
        cancelled.update(running & {ask["id"]})
    elif command == "unload":
        cancelled.update(running)
        send("unloaded", id=ask["id"])
    elif command == "bye":
        break
