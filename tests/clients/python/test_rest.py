"""The core REST of LoLLMs' standalone server."""

import unittest

import requests

from server import Root, Server


class Rest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = Root()
        cls.root.add_model("chain")
        cls.server = Server(root=cls.root, args=["--model", cls.root.path + "/models/llama_cpp/chain.gguf"]).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)
        cls.root.remove()

    def get(self, path):
        for url in self.server.urls:
            answer = requests.get(url + path, timeout=10)
            self.assertEqual(answer.status_code, 200, path)
            yield answer.json()

    def set(self, name, value):
        body = {"setting_name": name, "setting_value": value}
        return requests.post(self.server.url + "/update_setting", json=body, timeout=30).json()

    def test_models_are_listed_by_name(self):
        for models in self.get("/list_models"):
            self.assertIn("chain.gguf", models)

    def test_the_active_model_has_name_and_index(self):
        for active in self.get("/get_active_model"):
            self.assertEqual(active["model"], "chain.gguf")
            self.assertIsInstance(active["index"], int)

    def test_mounted_personalities_are_listed(self):
        for mounted in self.get("/list_mounted_personalities"):
            self.assertIsInstance(mounted, list)

    def test_the_configuration_is_a_flat_object(self):
        for config in self.get("/get_config"):
            self.assertEqual(config["model_name"], "chain.gguf")
            self.assertIn("temperature", config)

    def test_the_machine_is_described(self):
        for infos in self.get("/get_server_ifos"):
            self.assertIsInstance(infos, dict)
            self.assertTrue(infos)

    def test_a_setting_is_changed_and_a_bad_one_refused(self):
        said = self.set("temperature", 0.25)
        self.assertEqual((said["setting_name"], said["status"]), ("temperature", True))
        self.assertEqual(next(self.get("/get_config"))["temperature"], 0.25)
        for name, value in (("temperature", "hot"), ("no_such_setting", 1), ("host", "0.0.0.0"), ("api_key", "x" * 20)):
            said = self.set(name, value)
            self.assertEqual((said["setting_name"], said["status"]), (name, False), said)
        self.assertEqual(next(self.get("/get_config"))["temperature"], 0.25)

    def test_bodies_that_are_no_json_are_refused(self):
        for body in (b"", b"{", b"[]", b"nul", b"\xff"):
            answer = requests.post(
                self.server.url + "/update_setting", data=body, headers={"Content-Type": "application/json"}, timeout=10
            )
            self.assertTrue(answer.status_code >= 400 or answer.json()["status"] is False, (body, answer.text))
