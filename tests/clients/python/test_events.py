"""Every core event, with every kind of argument, over both transports."""

import unittest

from client import Client
from server import Root, Server

# Event, a good payload, names of the reply, keys of its success.
EVENTS = [
    ("list_available_bindings", {}, "bindings_list", {"success", "bindings"}),
    ("list_available_personalities", {}, "personalities_list", {"personalities"}),
    ("list_available_models", {}, "available_models_list", {"success", "available_models"}),
    (
        "list_available_personalities_languages",
        {},
        "available_personalities_languages_list",
        {"success", "available_personalities_languages"},
    ),
    (
        "list_available_personalities_categories",
        {},
        "available_personalities_categories_list",
        {"success", "available_personalities_categories"},
    ),
    (
        "list_available_personalities_names",
        {"language": "english", "category": "generic"},
        "list_available_personalities_names_list",
        {"success", "list_available_personalities_names"},
    ),
    ("select_binding", {"binding_name": "llama_cpp"}, "select_binding", {"success", "binding_name"}),
    ("select_model", {"model_name": "chain.gguf"}, "select_model", {"success", "model_name"}),
    ("add_personality", {"path": "generic/lollms"}, "personality_added", {"success", "name", "id"}),
    ("activate_personality", {"id": 0}, "activate_personality", {"success", "name", "id"}),
    ("list_active_personalities", {}, "active_personalities_list", {"success", "personalities"}),
    ("tokenize", {"prompt": "hi A"}, "tokenized", {"tokens"}),
    ("detokenize", {"prompt": [259, 260]}, "detokenized", {"text"}),
    ("embed", {"prompt": "hi"}, "embeded", {"text"}),
    ("vectorize_text", {"payloads": [{"path": "x", "text": "y"}]}, "vectorized_db", {"status"}),
    ("query_database", {"query": "x"}, "vector_db_query", {"status"}),
    ("generate_text", {"prompt": "A", "personality": -1, "n_predicts": 8}, "text_generated", {"text"}),
    ("cancel_generation", {}, "generation_canceled", {"message"}),
    ("cancel_text_generation", {}, "generation_canceled", {"message"}),
]
NEEDS_DATA = {
    "list_available_personalities_names",
    "select_binding",
    "select_model",
    "add_personality",
    "activate_personality",
    "tokenize",
    "detokenize",
    "embed",
    "vectorize_text",
    "query_database",
    "generate_text",
}
# Where a failure has another name than a success.
FAILURES = {
    "add_personality": "personality_add_failed",
    "activate_personality": "personality_add_failed",
    "generate_text": "generation_error",
}


class Events(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = Root()
        cls.root.add_model("chain")
        cls.server = Server(root=cls.root, args=["--model", cls.root.path + "/models/llama_cpp/chain.gguf"])
        cls.server.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)
        cls.root.remove()

    def each_client(self):
        for url in self.server.urls:
            for transport in ("websocket", "polling"):
                with Client(url, transport) as client:
                    yield "%s over %s" % (url, transport), client

    def test_every_event_answers_its_documented_success(self):
        for where, client in self.each_client():
            for name, payload, reply, keys in EVENTS:
                with self.subTest(event=name, where=where):
                    said = client.request(name, payload, reply=reply)
                    self.assertLessEqual(keys, set(said), said)
                    if "success" in keys:
                        self.assertIs(said["success"], True, said)

    def test_every_event_takes_no_null_empty_and_two_arguments(self):
        for where, client in self.each_client():
            for name, payload, reply, keys in EVENTS:
                for args in ((), (None,), ({},), (payload, "and another"), ({}, None)):
                    with self.subTest(event=name, args=args, where=where):
                        self.answers_once(client, name, args, reply, keys)

    def answers_once(self, client, name, args, reply, keys):
        good = bool(args) and args[0] not in (None, {})
        failure = FAILURES.get(name, reply)
        said = client.request(name, *args, reply={reply, failure})
        if name in NEEDS_DATA and not good:
            self.assertTrue(said.get("error"), said)
            self.assertNotIn(said.get("success", False), (True,), said)
        else:
            self.assertLessEqual(keys, set(said), said)

    def test_every_event_takes_any_type_and_the_connection_lives_on(self):
        odd = [[], "text", 7, -1.5, True, [[[]]], {"prompt": 5}, {"id": "x"}, {"id": -1}, {"path": ["a"]}, {"": None}]
        for where, client in self.each_client():
            for name, _, reply, _ in EVENTS:
                for value in odd:
                    with self.subTest(event=name, value=value, where=where):
                        failure = FAILURES.get(name, reply)
                        client.request(name, value, reply={reply, failure})
            self.assertTrue(client.connected, where)

    def test_an_acknowledgement_is_empty_and_comes_besides_the_reply(self):
        for where, client in self.each_client():
            for name, payload, reply, _ in EVENTS:
                with self.subTest(event=name, where=where):
                    client.mark()
                    self.assertEqual(client.ask(name, payload), [])
                    client.wait(reply)

    def test_a_binary_argument_harms_nothing(self):
        for where, client in self.each_client():
            for name, _, reply, _ in EVENTS:
                with self.subTest(event=name, where=where):
                    client.request(name, b"\0\1\2", reply={reply, FAILURES.get(name, reply)})

    def test_unknown_events_are_ignored(self):
        with Client(self.server) as client:
            client.emit("no_such_event", {"a": 1})
            client.emit("", {})
            client.emit("Generate_Text", {"prompt": "A"})
            client.request("list_active_personalities", reply="active_personalities_list")
            names = {name for name, _ in client.heard}
            self.assertFalse(names & {"text_chunk", "text_generated", "generation_error"}, names)

    def test_events_of_one_session_take_effect_in_order(self):
        with Client(self.server) as client:
            for number in range(20):
                client.emit("tokenize", {"prompt": "A" * (number + 1)})
            lengths = [len(client.wait("tokenized")[1]["tokens"]) for _ in range(20)]
            self.assertEqual(lengths, sorted(lengths))
            self.assertEqual(lengths[-1] - lengths[0], 19)

    def test_a_listed_model_can_be_selected_and_has_the_documented_keys(self):
        keys = set("title icon license owner owner_link description isInstalled path filesize model_type".split())
        with Client(self.server) as client:
            models = client.request("list_available_models", reply="available_models_list")["available_models"]
            mine = [entry for entry in models if entry["title"] == "chain.gguf"]
            self.assertEqual(len(mine), 1, models)
            self.assertLessEqual(keys, set(mine[0]))
            self.assertIs(mine[0]["isInstalled"], True)

    def test_shipped_personalities_are_listed_by_category(self):
        with Client(self.server) as client:
            tree = client.request("list_available_personalities", reply="personalities_list")["personalities"]
            self.assertGreaterEqual(len(tree), 4)
            self.assertGreaterEqual(sum(map(len, tree.values())), 8)
            keys = set("folder name description author version has_scripts has_logo avatar".split())
            for category, entries in tree.items():
                for entry in entries:
                    self.assertLessEqual(keys, set(entry), category)
                    self.assertIs(entry["has_logo"], True, entry)
            asked = client.request(
                "list_available_personalities_categories", {}, reply="available_personalities_categories_list"
            )
            self.assertEqual(sorted(asked["available_personalities_categories"]), sorted(tree))
            for category in tree:
                names = client.request(
                    "list_available_personalities_names",
                    {"category": category},
                    reply="list_available_personalities_names_list",
                )
                self.assertEqual(
                    sorted(names["list_available_personalities_names"]), sorted(e["folder"] for e in tree[category])
                )

    def test_added_and_active_personalities_are_saved(self):
        with Client(self.server) as client:
            before = client.request("list_active_personalities", reply="active_personalities_list")["personalities"]
            tree = client.request("list_available_personalities", reply="personalities_list")["personalities"]
            category = sorted(tree)[0]
            path = "%s/%s" % (category, tree[category][0]["folder"])
            added = client.request("add_personality", {"path": path}, reply="personality_added")
            self.assertEqual(added["id"], len(before))
            client.request("activate_personality", {"id": added["id"]}, reply="activate_personality")
            saved = self.root.read("configs/local_config.yaml")
            self.assertIn(path, saved)
            self.assertRegex(saved, r"active_personality_id: %d\b" % added["id"])


class Restart(unittest.TestCase):
    def test_selections_survive_a_restart(self):
        root = Root()
        self.addCleanup(root.remove)
        root.add_model("chain")
        with Server(root=root) as server, Client(server) as client:
            client.request("select_binding", {"binding_name": "llama_cpp"}, reply="select_binding")
            tree = client.request("list_available_personalities", reply="personalities_list")["personalities"]
            path = ["%s/%s" % (c, e["folder"]) for c in tree for e in tree[c]][-1]
            added = client.request("add_personality", {"path": path}, reply="personality_added")
            client.request("activate_personality", {"id": added["id"]}, reply="activate_personality")
            mounted = client.request("list_active_personalities", reply="active_personalities_list")
        with Server(root=root) as server, Client(server) as client:
            again = client.request("list_active_personalities", reply="active_personalities_list")
            self.assertEqual(again["personalities"], mounted["personalities"])
