"""Bad input: each gives a clear error, and nothing else is lost."""

import json
import os
import socket
import unittest

import requests

from client import Client
from server import Chain, Root, Server, broken_models, run, wait_until


class Fields(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.chain = Chain()
        cls.server = Server("chain", config="slots: 2\nctx_size: 2048\n").__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)

    def still_works(self, client):
        self.assertEqual(client.generate("A", n_predicts=40).text, self.chain.text("A"))

    def test_wrong_types_in_every_field_of_generate_text(self):
        wrong = {
            "prompt": [7, None, [], {}, True, 1.5],
            "personality": ["x", [], {}, 1.5, 99, -7, 1 << 70],
            "n_predicts": ["many", [], {}, -5, 1.5, 1e300, True],
            "n_crop": ["x", [], {}, -9],
            "parameters": [7, "x", [], {"top_k": "x"}, {"seed": []}, {"temperature": {}}],
        }
        with Client(self.server) as client:
            for field, values in wrong.items():
                for value in values:
                    with self.subTest(field=field, value=value):
                        fields = {"prompt": "A", "n_predicts": 3, field: value}
                        made = client.generate(**fields)
                        if made.end == "generation_error":
                            self.assertGreater(len(made.error), 8, "the error says nothing")
                        else:
                            self.assertEqual(made.end, "text_generated")
            self.still_works(client)

    def test_a_wrong_prompt_is_named(self):
        with Client(self.server) as client:
            for value in (None, 7, [], {}):
                self.assertIn("prompt", client.generate(value).error)

    def test_numbers_out_of_range_are_named(self):
        bad = [
            ("temperature", -1),
            ("temperature", 1e9),
            ("top_k", -5),
            ("top_p", 7),
            ("top_p", -0.5),
            ("repeat_penalty", -2),
            ("repeat_penalty", 1e30),
            ("repeat_last_n", -99),
            ("seed", 1 << 70),
        ]
        with Client(self.server) as client:
            for name, value in bad:
                with self.subTest(name=name, value=value):
                    self.assertIn(name, client.generate("A", parameters={name: value}).error)
            self.still_works(client)

    def test_nan_and_infinity_name_the_field_and_the_session_lives_on(self):
        for transport in ("websocket", "polling"):
            with Client(self.server, transport) as client:
                for name in ("temperature", "top_p", "n_predicts", "seed"):
                    for value in (float("nan"), float("inf"), float("-inf")):
                        with self.subTest(transport=transport, name=name, value=value):
                            self.assertIn(name, client.generate("A", **{name: value}).error)
                self.assertTrue(client.generate('NaN "Infinity" A').text)

    def test_a_prompt_longer_than_the_context_names_both(self):
        with Client(self.server) as client:
            made = client.generate("x" * 3000, n_predicts=5)
            self.assertIn("3001", made.error)
            self.assertIn("2048", made.error)
            self.still_works(client)

    def test_a_prompt_of_10_mb_gets_an_error_or_a_closed_connection(self):
        with Client(self.server) as other:
            client = Client(self.server)
            try:
                client.emit("generate_text", {"prompt": "x" * 10_000_000, "personality": -1})
                name, _ = client.wait("generation_error", "text_generated", timeout=10)
                self.assertEqual(name, "generation_error")
            except AssertionError:
                self.assertFalse(client.connected, "neither an error nor a closed connection")
            finally:
                client.close()
            self.still_works(other)

    def test_a_prompt_of_10_mb_is_too_large_for_a_poll(self):
        # python-socketio keeps the status to itself, so this speaks Engine.IO by hand.
        url = self.server.url + "/socket.io/?EIO=4&transport=polling"
        sid = json.loads(requests.get(url, timeout=10).text[1:])["sid"]
        session = url + "&sid=" + sid
        self.assertEqual(requests.post(session, data="40", timeout=10).status_code, 200)
        event = '42["generate_text",{"prompt":"%s"}]' % ("x" * 10_000_000)
        try:
            self.assertEqual(requests.post(session, data=event, timeout=10).status_code, 413)
        except requests.exceptions.ConnectionError:
            pass  # Refused before it was all sent.
        with Client(self.server, "polling") as other:
            self.still_works(other)

    def test_json_nested_deeply_is_refused(self):
        text = "[" * 60_000 + "]" * 60_000
        with Client(self.server) as other:
            client = Client(self.server)
            client.io.eio.send('42["generate_text",%s]' % text)
            client.io.eio.send('42["tokenize",{"prompt":%s}]' % text)
            self.still_works(other)
            client.close()

    def test_unknown_names_and_paths_are_refused(self):
        bad = ["nope", "", ".", "..", "../x", "/etc/passwd", "a/b/c", "a\\b", "x" * 5000, "nul\0l", "%2e%2e", "..\u2215x"]
        with Client(self.server) as client:
            for value in bad:
                with self.subTest(value=value[:40]):
                    said = client.request("select_binding", {"binding_name": value}, reply="select_binding")
                    self.assertFalse(said["success"], said)
                    self.assertEqual(said["binding_name"], value)
                    self.assertTrue(said["error"])
                    said = client.request("select_model", {"model_name": value}, reply="select_model")
                    self.assertFalse(said["success"], said)
                    self.assertTrue(said["error"])
                    for path in (value, "generic/" + value, value + "/lollms", "../personalities/generic/lollms"):
                        said = client.request("add_personality", {"path": path}, reply="personality_add_failed")
                        self.assertFalse(said["success"], said)
                    said = client.request(
                        "list_available_personalities_names",
                        {"category": value},
                        reply="list_available_personalities_names_list",
                    )
                    self.assertFalse(said["success"], said)
            for ident in (99, -1, 1 << 40, "x", None, 1.5):
                said = client.request("activate_personality", {"id": ident}, reply="personality_add_failed")
                self.assertTrue(said["error"])
            self.still_works(client)

    def test_tokens_that_are_none_are_refused(self):
        with Client(self.server) as client:
            for tokens in ([1 << 40], [-5], ["x"], [None], "text", [[1]], [1.5]):
                said = client.request("detokenize", {"prompt": tokens}, reply=("detokenized", "generation_error"))
                self.assertTrue(said.get("error"), (tokens, said))
            self.still_works(client)


class Models(unittest.TestCase):
    def test_no_model_there(self):
        with Server() as server, Client(server) as client:
            demo = os.path.join(server.root.path, "models", "llama_cpp", "lollmsd-demo.gguf")
            os.remove(demo)
            wait_until(lambda: not server.workers(), "the fallback's process ends")
            self.assertIn("no model is selected", client.generate("A").error)
            for transport in ("websocket", "polling"):
                with Client(server, transport) as other:
                    self.assertIn("model", other.generate("A").error)

    def test_every_file_that_is_no_model_is_refused_and_the_former_one_serves(self):
        root = Root(config="slots: 2\n")
        self.addCleanup(root.remove)
        root.add_model("chain")
        folder = os.path.join(root.path, "models", "llama_cpp")
        broken = broken_models()
        names = sorted(os.listdir(broken))
        self.assertGreater(len(names), 20)
        for name in names:
            os.symlink(os.path.join(broken, name), os.path.join(folder, name + ".link"))
            with open(os.path.join(broken, name), "rb") as file:
                root.write("models/llama_cpp/" + name, file.read())
        expected = Chain().text("A")
        with Server(root=root) as server, Client(server) as client:
            client.request("select_binding", {"binding_name": "llama_cpp"}, reply="select_binding")
            said = client.request("select_model", {"model_name": "chain.gguf"}, reply="select_model")
            self.assertTrue(said["success"], said)
            for name in names:
                with self.subTest(name=name):
                    said = client.request("select_model", {"model_name": name}, reply="select_model", timeout=60)
                    self.assertFalse(said["success"], said)
                    self.assertEqual(said["model_name"], name)
                    self.assertGreater(len(said["error"]), 10)
                    self.assertEqual(client.generate("A").text, expected)
            said = client.request("select_model", {"model_name": "missing.gguf"}, reply="select_model")
            self.assertFalse(said["success"], said)
            self.assertEqual(client.generate("A").text, expected)

    def test_a_start_with_a_file_that_is_no_model_says_so(self):
        broken = broken_models()
        for name in ("empty", "torn_in_data", "png", "key_length_2_60"):
            with self.subTest(name=name):
                root = Root()
                self.addCleanup(root.remove)
                file = os.path.join(broken, name + ".gguf")
                done = run("serve", "--root", root.path, "--listen", "127.0.0.1:0", "--model", file)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(name + ".gguf", done.stderr)

    def test_a_start_with_a_file_that_llama_cpp_refuses_tells_its_clients(self):
        file = os.path.join(broken_models(), "no_norm.gguf")
        with Server(args=["--model", file]) as server, Client(server) as client:
            self.assertIn("output_norm", client.generate("A").error)

    def test_a_start_with_a_file_that_is_missing_says_so(self):
        root = Root()
        self.addCleanup(root.remove)
        done = run("serve", "--root", root.path, "--listen", "127.0.0.1:0", "--model", "/nowhere/x.gguf")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("x.gguf", done.stderr)
        self.assertIn("--model", done.stderr)


class Start(unittest.TestCase):
    def fails(self, *words, config=None, local=None, args=(), env=None):
        root = Root()
        self.addCleanup(root.remove)
        if config is not None:
            root.write("configs/config.yaml", config)
        if local is not None:
            root.write("configs/local_config.yaml", local)
        done = run("serve", "--root", root.path, "--listen", "127.0.0.1:0", *args, env=env)
        self.assertNotEqual(done.returncode, 0, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        return done

    def test_a_setting_of_the_wrong_type_is_named_with_file_and_line(self):
        self.fails("config.yaml:3", "slots", config="# one\nctx_size: 2048\nslots: many\n")
        self.fails("local_config.yaml:1", "temperature", local="temperature: [1]\n")
        self.fails("config.yaml:1", "top_p", config="top_p: 7\n")

    def test_an_environment_variable_of_the_wrong_type_is_named(self):
        self.fails("LOLLMSD_SLOTS", env={"LOLLMSD_SLOTS": "many"})

    def test_a_configuration_torn_in_half_is_named(self):
        self.fails("config.yaml", config='slots: 4\nuser_name: "torn in ha')
        self.fails("config.yaml", config="- a\n- list\n")
        self.fails("config.yaml", config=b"slots: 4\n\xff\xfe\x00")

    def test_a_port_in_use_is_named_with_the_option_that_changes_it(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            self.fails(port, "--listen", args=["--listen", "127.0.0.1:" + port])

    def test_an_unknown_setting_only_warns(self):
        with Server(config="slotz: 4\n") as server:
            self.assertIn("slotz", server.log())

    def test_a_broken_personality_or_card_is_reported_and_the_others_are_unaffected(self):
        root = Root()
        self.addCleanup(root.remove)
        root.write("personalities/generic/torn/config.yaml", "name: [torn\n  x: {")
        root.write("personalities/generic/binary/config.yaml", b"\x00\xff\x00")
        root.write("bindings/torn/binding_card.yaml", "name: [torn")
        root.write("bindings/no_card/readme.txt", "nothing")
        os.symlink("/etc", os.path.join(root.path, "personalities", "generic", "link"))
        with Server(root=root) as server, Client(server) as client:
            tree = client.request("list_available_personalities", reply="personalities_list")["personalities"]
            folders = [entry["folder"] for entries in tree.values() for entry in entries]
            self.assertGreaterEqual(len(folders), 8)
            self.assertFalse({"torn", "binary", "link"} & set(folders))
            bindings = client.request("list_available_bindings", reply="bindings_list")["bindings"]
            names = [entry["name"] for entry in bindings]
            self.assertIn("llama_cpp", names)
            self.assertFalse({"torn", "no_card"} & set(names))
            said = client.request("add_personality", {"path": "generic/torn"}, reply="personality_add_failed")
            self.assertFalse(said["success"])
            log = server.log()
            self.assertIn("generic/torn", log)
            self.assertIn("bindings/torn", log.replace("`", ""))

    def test_a_program_nobody_trusts_is_listed_and_not_run(self):
        root = Root(scripted=True)
        self.addCleanup(root.remove)
        with Server(root=root) as server, Client(server) as client:
            said = client.request("select_binding", {"binding_name": "scripted"}, reply="select_binding")
            self.assertTrue(said["success"], said)
        path = os.path.join(root.path, "bindings", "scripted", "binding.py")
        with open(path, "a") as file:
            file.write("# changed\n")
        with Server(root=root) as server, Client(server) as client:
            bindings = client.request("list_available_bindings", reply="bindings_list")["bindings"]
            self.assertIn("scripted", [entry["name"] for entry in bindings])
            said = client.request("select_binding", {"binding_name": "scripted"}, reply="select_binding")
            model = client.request("select_model", {"model_name": "good"}, reply="select_model")
            self.assertFalse(said["success"] and model["success"], (said, model))
            self.assertIn("trust", (said.get("error") or "") + (model.get("error") or ""))
            self.assertEqual([w for w in server.children().values() if "binding.py" in w], [])
