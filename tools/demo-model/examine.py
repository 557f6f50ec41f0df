"""Puts the held-out questions to the real server and writes down every answer with its verdict.

    LOLLMSD_BIN=… python examine.py --model demo.gguf --results ../../tests/demo-model/results.md

Each question has a connection of its own and is asked as users ask: through the default personality, or through one
made of its system prompt, or as plain text, all with the server's own sampling settings. The automatic verdict goes
by `any_of`; a person who read the answer overrules it in verdicts.yaml.
"""

import argparse
import pathlib
import sys
from collections import Counter

import yaml

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parents[1] / "tests"
sys.path.insert(0, str(TESTS / "clients" / "python"))

from client import Client  # noqa: E402  (the tests' own client)
from server import Root, Server  # noqa: E402

REFUSALS = ["demonstration model and cannot", "modèle de démonstration et je ne peux pas", "nur das kleine demonstrationsmodell und"]
RIGHT, REFUSED, WRONG = "right", "refused", "wrong"


def main() -> None:
    options = arguments()
    questions = yaml.safe_load(options.questions.read_text())
    overruled = yaml.safe_load(options.verdicts.read_text()) if options.verdicts.exists() else {}
    answers = ask_all(questions, options)
    rows = []
    for question, answer in zip(questions, answers, strict=True):
        verdict = overruled.get(question["id"], {}).get("verdict") if options.overrule else None
        rows.append((question, answer, verdict or judge(question, answer)))
    text = report(rows)
    print(text.split("\n## Every answer")[0])
    if options.results:
        options.results.write_text(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--questions", type=pathlib.Path, default=TESTS / "demo-model" / "held-out.yaml")
    parser.add_argument("--verdicts", type=pathlib.Path, default=TESTS / "demo-model" / "verdicts.yaml")
    parser.add_argument("--overrule", action="store_true", help="take the verdicts of the reader")
    parser.add_argument("--results", type=pathlib.Path)
    parser.add_argument("--temperature", type=float, help="instead of the server's own")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def ask_all(questions: list[dict], options: argparse.Namespace) -> list[str]:
    root = Root()
    try:
        for question in questions:
            if "system" in question and not question.get("raw"):
                card = {"name": f"q{question['id']}", "personality_conditioning": question["system"]}
                root.write(f"personalities/held_out/q{question['id']}/config.yaml", yaml.safe_dump(card))
        with Server(root=root, args=["--model", str(options.model)]) as server:
            return [ask(server, question, options) for question in questions]
    finally:
        root.remove()


def ask(server: Server, question: dict, options: argparse.Namespace) -> str:
    # Each question draws its own luck: one seed for all would give all of them the same first draw.
    fields = {"seed": options.seed + 7919 * question["id"]}
    if options.temperature is not None:
        fields["temperature"] = options.temperature
    with Client(server) as client:
        if question.get("raw"):
            prompt = question["prompt"]
            if question.get("system"):
                prompt = f"{question['system']}\n\n{prompt}"
            return client.generate(prompt, personality=-1, **fields).text
        index = 0
        if "system" in question:
            wanted = {"category": "held_out", "name": f"q{question['id']}", "path": f"held_out/q{question['id']}"}
            added = client.request(
                "add_personality", wanted, reply=("personality_added", "personality_add_failed")
            )
            index = added["id"]
        return client.generate(question["prompt"], personality=index, **fields).text


def judge(question: dict, answer: str) -> str:
    text = answer.lower()
    if any(all(part in text for part in group) for group in question["any_of"]):
        return RIGHT
    refused = any(words in text for words in REFUSALS) or "i do not know that" in text
    return REFUSED if refused else WRONG


def report(rows: list[tuple[dict, str, str]]) -> str:
    """The figures and the table, in Markdown."""
    inside = [row for row in rows if row[0]["kind"] != "outside"]
    outside = [row for row in rows if row[0]["kind"] == "outside"]

    def share(part: list, *verdicts: str) -> str:
        count = sum(row[2] in verdicts for row in part)
        return f"{count} of {len(part)} ({100 * count / max(1, len(part)):.1f} %)"

    lines = [
        "# The demonstration model's examination",
        "",
        f"* in scope, right: {share(inside, RIGHT)}",
        f"* out of scope, refused: {share(outside, RIGHT, REFUSED)}",
        f"* confident nonsense, of all: {share(rows, WRONG)}",
        "",
        "| kind | right | refused | wrong |",
        "|---|---|---|---|",
    ]
    for kind in dict.fromkeys(row[0]["kind"] for row in rows):
        count = Counter(row[2] for row in rows if row[0]["kind"] == kind)
        lines.append(f"| {kind} | {count[RIGHT]} | {count[REFUSED]} | {count[WRONG]} |")
    lines += ["", "## Every answer", "", "| id | kind | question | answer | verdict |", "|---|---|---|---|---|"]
    for question, answer, verdict in rows:
        asked = question["prompt"]
        if question.get("system"):
            asked = f"[{question['system']}] {asked}"
        kind = question["kind"] + (", raw" if question.get("raw") else "")
        lines.append(f"| {question['id']} | {kind} | {cell(asked)} | {cell(answer)} | {verdict} |")
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    main()
