"""Processes that die, hang or talk nonsense, and what their clients hear."""

import os
import signal
import time
import unittest

from client import Client
from server import Chain, Server, alive, wait_until


class WorkerDeath(unittest.TestCase):
    def test_kill_9_of_the_worker_in_the_middle_of_eight_streams(self):
        with Server("bench", config="slots: 8\nctx_size: 2048\n", scripted=True) as server:
            clients = [Client(server) for _ in range(8)]
            other = Client(server)
            try:
                clients[0].generate("abc", n_predicts=1)
                worker = server.worker()
                other.request("select_binding", {"binding_name": "scripted"}, reply="select_binding")
                chosen = other.request("select_model", {"model_name": "good"}, reply="select_model")
                self.assertTrue(chosen["success"], chosen)
                starts = [client.begin("abc %d" % n, n_predicts=1500) for n, client in enumerate(clients)]
                beside = other.begin("slow 200 20")
                for client in clients:
                    client.wait("text_chunk")
                other.wait("text_chunk")
                os.kill(worker, signal.SIGKILL)
                killed = time.monotonic()
                for client, start in zip(clients, starts):
                    made = client.finish(start)
                    self.assertTrue(made.error)
                print("      all eight told after %.0f ms" % ((time.monotonic() - killed) * 1000), end="")
                fresh = wait_until(lambda: [p for p in server.workers() if p != worker], "a new worker", 5)
                self.assertFalse(alive(worker))
                again = clients[3].generate("abc", n_predicts=5)
                self.assertTrue(again.text)
                self.assertEqual(server.workers(), fresh)
                text = other.finish(beside).text
                self.assertEqual(text, "".join("p%d " % n for n in range(1, 201)))
                for client, start in zip(clients, starts):
                    self.assertEqual(client.ends(start)[0], "generation_error")
            finally:
                for client in clients + [other]:
                    client.close()

    def test_what_the_worker_had_not_taken_up_is_sent_again(self):
        config = "binding_name: scripted\nmodel_name: one-slot\n"
        with Server(config=config, scripted=True) as server, Client(server) as one, Client(server) as two:
            first = one.begin("slow 500 20")
            one.wait("text_chunk")
            second = two.begin("say still here")
            time.sleep(0.2)
            os.kill(self.scripted(server), signal.SIGKILL)
            self.assertTrue(one.finish(first).error)
            self.assertEqual(two.finish(second).text, "still here")

    def scripted(self, server):
        found = [pid for pid, words in server.children().items() if "binding.py" in words]
        self.assertEqual(len(found), 1)
        return found[0]

    def test_abort_ends_its_generations_and_the_next_request_works(self):
        with Server("chain") as server, Client(server) as client:
            client.generate("A")
            start = client.begin("L", n_predicts=4000)
            client.wait("text_chunk")
            os.kill(server.worker(), signal.SIGABRT)
            self.assertTrue(client.finish(start).error)
            self.assertEqual(client.generate("A").text, Chain().text("A"))

    def test_the_worker_ends_when_its_front_is_killed(self):
        for kind, config in (("bench", "slots: 2\n"), (None, "binding_name: scripted\nmodel_name: good\n")):
            with self.subTest(kind=kind), Server(kind, config=config, scripted=kind is None) as server:
                client = Client(server)
                client.begin("abc" if kind else "loop", n_predicts=2000)
                client.wait("text_chunk")
                children = list(server.children())
                self.assertTrue(children)
                server.kill()
                wait_until(lambda: not any(map(alive, children)), "the children are gone", 5)
                wait_until(lambda: not client.connected, "the client has noticed", 10)

    def test_a_hung_binding_is_ended_and_reported(self):
        config = "binding_name: scripted\nmodel_name: good\nhang_timeout_s: 1\n"
        with Server(config=config, scripted=True) as server, Client(server) as client:
            made = client.generate("hang", timeout=30)
            self.assertTrue(made.error)
            self.assertEqual(made.joined, "p1 ")
            self.assertEqual(client.generate("say alive").text, "alive")

    def test_a_stopped_worker_is_ended_and_reported(self):
        with Server("bench", config="hang_timeout_s: 2\nslots: 2\n") as server, Client(server) as client:
            client.generate("abc", n_predicts=1)
            start = client.begin("abc", n_predicts=1000)
            client.wait("text_chunk")
            os.kill(server.worker(), signal.SIGSTOP)
            self.assertTrue(client.finish(start, timeout=30).error)
            self.assertTrue(client.generate("abc", n_predicts=2).text)

    def test_sigterm_ends_server_and_children_with_0(self):
        with Server("chain") as server:
            with Client(server) as client:
                client.generate("A")
                children = list(server.children())
                self.assertTrue(children)
            self.assertEqual(server.stop(), 0)
            self.assertFalse(any(map(alive, children)))


class Lines(unittest.TestCase):
    """What a drop-in binding may do wrong."""

    @classmethod
    def setUpClass(cls):
        config = "binding_name: scripted\nmodel_name: good\n"
        cls.server = Server(config=config, scripted=True).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)

    def test_stray_lines_and_unknown_events_are_passed_over(self):
        with Client(self.server) as client:
            self.assertEqual(client.generate("stray 3").text, "stray done")
            self.assertEqual(client.generate("unknown").text, "unknown done")

    def test_a_refusal_is_the_clients_error(self):
        with Client(self.server) as client:
            self.assertIn("the scripted binding refuses", client.generate("refuse").error)

    def dies_and_returns(self, client, prompt):
        before = client.generate("pid").text
        made = client.generate(prompt)
        self.assertTrue(made.error)
        after = client.generate("pid", timeout=60).text
        self.assertNotEqual(before, after)
        return made


class Deaths(unittest.TestCase):
    """One server each: after five deaths a binding rests."""

    def test_a_malformed_an_overlong_and_too_many_stray_lines_end_the_process(self):
        for prompt in ("malformed", "overlong", "stray 300", "crash"):
            with self.subTest(prompt=prompt):
                config = "binding_name: scripted\nmodel_name: good\n"
                with Server(config=config, scripted=True) as server, Client(server) as client:
                    Lines.dies_and_returns(self, client, prompt)

    def test_a_binding_that_dies_again_and_again_rests_and_is_tried_on_demand(self):
        config = "binding_name: scripted\nmodel_name: good\n"
        with Server(config=config, scripted=True) as server, Client(server) as client:
            for _ in range(5):
                self.assertTrue(client.generate("crash", timeout=60).error)
            self.assertEqual(client.generate("say once more", timeout=60).text, "once more")

    def test_text_of_one_generation_survives_the_nonsense_before_it(self):
        config = "binding_name: scripted\nmodel_name: good\n"
        with Server(config=config, scripted=True) as server, Client(server) as client:
            made = client.generate("crash")
            self.assertTrue(made.error)
            self.assertEqual(made.joined, "p1 p2 ")


class Loading(unittest.TestCase):
    def test_progress_of_a_load_is_shown_and_a_cancel_ends_the_wait(self):
        config = "binding_name: scripted\nmodel_name: slow-load\n"
        with Server(config=config, scripted=True) as server, Client(server) as client:
            made = client.generate("say loaded")
            self.assertEqual(made.text, "loaded")
            states = {args[0].get("state") for name, args in made.events if name == "generation_state"}
            self.assertIn("loading", states)

    def test_a_model_that_does_not_load_gives_its_reason_and_the_former_one_serves(self):
        config = "binding_name: scripted\nmodel_name: good\n"
        with Server(config=config, scripted=True) as server, Client(server) as client:
            self.assertEqual(client.generate("say one").text, "one")
            for name in ("no-load", "crash-load"):
                said = client.request("select_model", {"model_name": name}, reply="select_model", timeout=60)
                self.assertFalse(said["success"], said)
                self.assertEqual(said["model_name"], name)
                self.assertTrue(said["error"])
                self.assertEqual(client.generate("say two").text, "two")
