"""The first start answers without a download, and a model that is copied in takes over."""

import json
import os
import shutil
import unittest

import requests
from client import Client
from server import HERE, Chain, Root, Server, model, wait_until

DEMO = "lollmsd-demo.gguf"
REFUSAL = "demonstration model"
# What the answer must hold, in lower case, for ten questions in wordings of a user.
TEN = [
    ("Which ports does lollmsd listen on?", ["9600", "9601"]),
    ("How do I add a model?", ["models/llama_cpp/"]),
    ("Where are the settings?", ["configs/config.yaml"]),
    ("How do I start the server?", ["tools/serve"]),
    ("How do I run the tests?", ["tools/test"]),
    ("Hello!", ["hello"]),
    ("Tell me a story about a fox.", ["fox"]),
    ("What is the capital of France?", [REFUSAL]),
    ("Bonjour !", ["bonjour"]),
    ("Was ist die Hauptstadt von Italien?", ["demonstrationsmodell"]),
]


class Demo(unittest.TestCase):
    def test_ten_questions_are_answered_with_sense_from_a_fresh_folder(self):
        with Server() as server:
            for question, expected in TEN:
                with self.subTest(question), Client(server) as client:
                    made = client.generate(question, personality=0, temperature=0)
                    self.assertGreater(len(made.chunks), 3)
                    for part in expected:
                        self.assertIn(part, made.text.lower())

    def test_raw_text_gets_sense_too(self):
        with Server() as server, Client(server) as client:
            for prompt, expected in (
                ("Q: How do I add a model?\nA:", "models/llama_cpp/"),
                ("User: what is 12 + 30?\nAssistant:", REFUSAL),
                ("How do I stop an answer?\n", "cancel_generation"),
            ):
                with self.subTest(prompt):
                    self.assertIn(expected, client.generate(prompt, temperature=0).text)

    def test_its_tokenizer_is_the_one_it_was_trained_with(self):
        with open(os.path.join(HERE, "..", "..", "demo-model", "tokens.json"), encoding="utf-8") as file:
            cases = json.load(file)
        self.assertEqual(len(cases), 1000)
        with Server() as server, Client(server) as client:
            for text, tokens in cases:
                said = client.request("tokenize", {"prompt": text}, reply="tokenized")
                self.assertEqual(said["tokens"], tokens, repr(text))


class TakingOver(unittest.TestCase):
    """While nothing is chosen, a file in models/llama_cpp/ is used without a restart."""

    def setUp(self):
        self.root = Root()
        self.addCleanup(self.root.remove)
        self.chain = Chain().text("S")
        self.folder = os.path.join(self.root.path, "models", "llama_cpp")

    def wait_for(self, server, name):
        def current():
            active = requests.get(server.url + "/get_active_model", timeout=5).json() or {}
            return active.get("model") == name

        wait_until(current, "%s answers" % name, 30)

    def test_a_file_that_is_copied_in_answers_the_next_question_of_the_same_client(self):
        with Server(root=self.root) as server, Client(server) as client:
            self.wait_for(server, DEMO)
            self.assertIn(REFUSAL, client.generate("What is 2 + 2?\n", temperature=0).text)
            self.root.add_model("chain")
            self.wait_for(server, "chain.gguf")
            self.assertEqual(client.generate("go S", temperature=0).text, self.chain)
            with open(os.path.join(self.root.path, "configs", "local_config.yaml"), "a+", encoding="utf-8") as file:
                file.seek(0)
                self.assertNotIn("chain.gguf", file.read())
            os.remove(os.path.join(self.folder, "chain.gguf"))
            self.wait_for(server, DEMO)
            self.assertIn(REFUSAL, client.generate("What is 2 + 2?\n", temperature=0).text)
            wait_until(lambda: len(server.workers()) == 1, "the former model's process ends")

    def test_a_half_copied_or_broken_file_changes_nothing(self):
        with Server(root=self.root) as server, Client(server) as client:
            self.wait_for(server, DEMO)
            with open(model("chain"), "rb") as file:
                whole = file.read()
            path = os.path.join(self.folder, "chain.gguf")
            with open(path, "wb") as file:
                file.write(whole[: len(whole) // 2])
            self.root.write("models/llama_cpp/text.gguf", "no model at all")
            wait_until(lambda: server.log().count("passed over") == 2, "both files are passed over", 20)
            self.assertIn(REFUSAL, client.generate("What is 2 + 2?\n", temperature=0).text)
            with open(path, "wb") as file:
                file.write(whole)
            self.wait_for(server, "chain.gguf")
            self.assertEqual(server.log().count("passed over"), 2)

    def test_what_was_chosen_stays(self):
        self.root.add_model("chain")
        with Server(root=self.root) as server, Client(server) as client:
            said = client.request("select_model", {"model_name": "chain.gguf"}, reply="select_model")
            self.assertTrue(said["success"], said)
            wait_until(lambda: len(server.workers()) == 1, "the fallback's process ends")
            self.root.add_model("micro", "newer.gguf")
            shutil.copy(os.path.join(self.folder, DEMO), os.path.join(self.folder, "other.gguf"))
            self.assertEqual(client.generate("go S", temperature=0).text, self.chain)
        with Server(root=self.root) as server, Client(server) as client:
            self.assertEqual(client.generate("go S", temperature=0).text, self.chain)

    def test_a_chosen_model_that_is_gone_is_not_replaced_silently(self):
        self.root.write("configs/config.yaml", "binding_name: llama_cpp\nmodel_name: absent.gguf\n")
        with Server(root=self.root) as server, Client(server) as client:
            self.assertIn("absent.gguf", client.generate("hello").error)

    def test_a_demonstration_model_that_was_removed_does_not_come_back(self):
        with Server(root=self.root):
            os.remove(os.path.join(self.folder, DEMO))
        with Server(root=self.root) as server, Client(server) as client:
            self.assertFalse(os.path.exists(os.path.join(self.folder, DEMO)))
            self.assertIn("models/llama_cpp/", client.generate("hello").error)
