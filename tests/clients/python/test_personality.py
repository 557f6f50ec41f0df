"""Personality mode keeps the history of the session; raw mode passes the prompt as it stands."""

import json
import unittest

from client import Client
from server import Root, Server

YAML = """name: Parrot
author: the tests
version: 1.0.0
category: generic
personality_description: Repeats.
personality_conditioning: "You are a parrot."
user_message_prefix: "!@> Human: "
ai_message_prefix: "!@> Parrot:"
link_text: "\\n"
anti_prompts: ["!@>"]
"""


class History(unittest.TestCase):
    def setUp(self):
        self.root = Root(config="binding_name: scripted\nmodel_name: good\n", scripted=True)
        self.addCleanup(self.root.remove)
        self.root.write("personalities/tests/parrot/config.yaml", YAML)

    def mount(self, client):
        added = client.request("add_personality", {"path": "tests/parrot"}, reply=("personality_added", "personality_add_failed"))
        self.assertTrue(added["success"], added)
        return added["id"]

    def told(self, client, prompt, personality):
        return json.loads(client.generate(prompt, personality=personality).text)

    def test_each_answer_and_question_is_remembered_for_the_session(self):
        with Server(root=self.root) as server, Client(server) as client, Client(server) as other:
            mine = self.mount(client)
            first = self.told(client, "history one", mine)
            self.assertEqual(first[0], ["system", "You are a parrot."])
            self.assertEqual(first[1:], [["user", "history one"]])
            second = self.told(client, "history two", mine)
            self.assertEqual([role for role, _ in second], ["system", "user", "assistant", "user"])
            self.assertEqual(second[1][1], "history one")
            self.assertEqual(json.loads(second[2][1]), first)
            self.assertEqual(second[3][1], "history two")
            theirs = self.mount(other)
            self.assertEqual(self.told(other, "history mine", theirs)[1:], [["user", "history mine"]])

    def test_raw_prompts_pass_untouched_and_are_not_remembered(self):
        with Server(root=self.root) as server, Client(server) as client:
            mine = self.mount(client)
            self.assertEqual(client.generate("say  raw").text, "raw")
            self.assertEqual(self.told(client, "history one", mine)[1:], [["user", "history one"]])
            self.assertEqual(client.generate("say raw again").text, "raw again")
            self.assertEqual(len(self.told(client, "history two", mine)), 4)

    def test_an_index_that_is_not_mounted_is_refused(self):
        with Server(root=self.root) as server, Client(server) as client:
            mine = self.mount(client)
            for index in (mine + 1, -2, 99):
                self.assertIn("personality", client.generate("history", personality=index).error)

    def test_the_model_answers_through_its_prefix(self):
        # The chain model has no template, so the prompt ends with the prefix of the answer.
        root = Root()
        self.addCleanup(root.remove)
        root.write("personalities/tests/parrot/config.yaml", YAML)
        with Server("chain", root=root) as server, Client(server) as client:
            mine = self.mount(client)
            self.assertEqual(client.generate("Hi", personality=mine).text.strip(), "Hello there!")

    def test_a_template_of_the_model_is_used_when_it_has_one(self):
        root = Root()
        self.addCleanup(root.remove)
        root.write("personalities/tests/parrot/config.yaml", YAML)
        prompt = (
            "<|im_start|>system\nYou are a parrot.<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        )
        greedy = {"temperature": 0, "repeat_penalty": 1}
        with Server("context-chat", root=root) as server, Client(server) as client:
            mine = self.mount(client)
            raw = client.generate(prompt, n_predicts=24, parameters=greedy).text
            chat = client.generate("Hi", personality=mine, n_predicts=24, parameters=greedy).text
            self.assertEqual(chat.strip(), raw.strip())
