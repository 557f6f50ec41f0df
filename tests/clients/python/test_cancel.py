"""A cancel works in every state, and a generation has exactly one end."""

import time
import unittest

from client import Client
from server import Server, wait_until

NAMES = ("cancel_generation", "cancel_text_generation")
# With `()` the event has no argument at all.
ARGUMENTS = ((), ({},), (None,), ({"any": "thing"}, 2))


class Cancel(unittest.TestCase):
    """The scripted binding with one slot, so that every state can be held."""

    @classmethod
    def setUpClass(cls):
        config = "binding_name: scripted\nmodel_name: one-slot\nqueue_length: 8\n"
        cls.server = Server(config=config, scripted=True).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)

    def cancelled_once(self, client, start):
        """Nothing more comes for a generation that was cancelled."""
        client.request("list_active_personalities", reply="active_personalities_list")
        time.sleep(0.3)
        heard = [name for name, _ in client.heard[start:]]
        self.assertEqual([n for n in heard if n in ("text_generated", "generation_error")], [])
        self.assertEqual(heard.count("generation_canceled"), 1, heard)
        after = heard[heard.index("generation_canceled") :]
        self.assertNotIn("text_chunk", after)

    def test_while_writing_with_both_names_and_any_arguments(self):
        for transport in ("websocket", "polling"):
            for name in NAMES:
                for args in ARGUMENTS:
                    with self.subTest(name=name, args=args, transport=transport):
                        with Client(self.server, transport) as client:
                            start = client.begin("slow 500 20")
                            client.wait("text_chunk")
                            said = client.request(name, *args, reply="generation_canceled")
                            self.assertTrue(said["message"])
                            self.cancelled_once(client, start)

    def test_in_the_queue_and_the_slot_goes_to_the_next(self):
        with Client(self.server) as runs, Client(self.server) as waits, Client(self.server) as after:
            first = runs.begin("slow 100 20")
            runs.wait("text_chunk")
            start = waits.begin("say never")
            last = after.begin("say at last")
            waits.request("cancel_generation", reply="generation_canceled")
            self.cancelled_once(waits, start)
            self.assertEqual(len(runs.finish(first).text.split()), 100)
            self.assertEqual(after.finish(last).text, "at last")
            self.assertEqual(waits.generate("say again").text, "again")

    def test_answers_at_once_although_the_binding_ignores_it(self):
        with Client(self.server) as client:
            start = client.begin("deaf 60 50")
            client.wait("text_chunk")
            client.request("cancel_generation", reply="generation_canceled", timeout=1)
            self.cancelled_once(client, start)
            self.assertEqual(client.generate("say back").text, "back")

    def test_with_nothing_running_gets_the_same_answer(self):
        with Client(self.server) as client:
            for name in NAMES:
                for args in ARGUMENTS:
                    self.assertTrue(client.request(name, *args, reply="generation_canceled")["message"])

    def test_twice_ends_one_generation_once(self):
        with Client(self.server) as client:
            start = client.begin("slow 500 20")
            client.wait("text_chunk")
            client.emit("cancel_generation", {})
            client.emit("cancel_text_generation", {})
            client.wait("generation_canceled")
            client.wait("generation_canceled")
            self.assertEqual([n for n in client.ends(start) if n != "generation_canceled"], [])

    def test_a_place_in_the_queue_is_told(self):
        with Client(self.server) as runs, Client(self.server) as waits:
            # One runs and the binding holds two more, so what comes after them waits in the front.
            others = [Client(self.server) for _ in range(3)]
            first = runs.begin("slow 60 20")
            runs.wait("text_chunk")
            for other in others:
                other.begin("slow 10 20")
            start = waits.begin("say last")
            queued = lambda name, args: name == "generation_state" and args[0]["state"] == "queued"
            state = waits.until(queued, "generation_state queued")[1]
            self.assertGreaterEqual(state["position"], 1)
            runs.request("cancel_generation", reply="generation_canceled")
            self.assertEqual(waits.finish(start).text, "last")
            self.assertEqual(runs.ends(first), ["generation_canceled"])
            for other in others:
                other.close()

    def test_of_one_client_leaves_the_others_alone(self):
        with Client(self.server) as client, Client(self.server) as other:
            start = client.begin("slow 40 20")
            client.wait("text_chunk")
            other.request("cancel_generation", reply="generation_canceled")
            self.assertEqual(len(client.finish(start).text.split()), 40)


class Prompt(unittest.TestCase):
    """The bench model reads a 2,000-token prompt for seconds."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server("bench", config="slots: 2\nctx_size: 4096\n").__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)

    def test_in_the_middle_of_a_long_prompt(self):
        with Client(self.server) as client:
            client.generate("abc", n_predicts=1)
            start = client.begin("0 " * 1000, n_predicts=10)
            reading = lambda name, args: name == "generation_state" and args[0].get("state") == "reading"
            client.until(reading, "generation_state reading")
            began = time.monotonic()
            client.request("cancel_generation", reply="generation_canceled")
            answered = time.monotonic() - began
            self.assertEqual(client.ends(start), ["generation_canceled"])
            made = client.generate("abc", n_predicts=3)
            self.assertTrue(made.text)
            self.assertEqual(client.ends(start), ["generation_canceled", "text_generated"])
            # Reading it all takes seconds; an answer that waits for it would show.
            print("      answered after %.0f ms" % (answered * 1000), end="")


class Leaving(unittest.TestCase):
    def test_a_client_that_leaves_frees_its_sequence(self):
        config = "binding_name: scripted\nmodel_name: one-slot\n"
        with Server(config=config, scripted=True) as server, Client(server) as stays:
            for leave in ("close", "tear"):
                client = Client(server)
                client.begin("loop")
                client.wait("text_chunk")
                start = stays.begin("say free")
                if leave == "close":
                    client.close()
                else:
                    # The socket goes without a word, as when a laptop is shut.
                    client.io.eio.ws.sock.close()
                self.assertEqual(stays.finish(start, timeout=60).text, "free")

    def test_a_hundred_clients_that_leave_keep_nothing(self):
        with Server("chain", config="slots: 4\n") as server, Client(server) as stays:
            stays.generate("A")
            before = server.descriptors()
            for _ in range(100):
                with Client(server) as client:
                    client.begin("L", n_predicts=2000)
                    client.wait("text_chunk")
            self.assertTrue(stays.generate("A").text)
            wait_until(lambda: server.descriptors() <= before + 2, "descriptors are back")


class Together(unittest.TestCase):
    """Events that arrive in one packet, or before anybody could read an answer."""

    def test_a_cancel_right_behind_its_generation_leaves_nothing_running(self):
        with Server("chain") as server, Client(server) as client:
            for _ in range(30):
                start = client.begin("L", n_predicts=-1)
                client.request("cancel_generation", reply="generation_canceled")
                self.assertEqual(client.ends(start), ["generation_canceled"])
            # Behind thirty generations of the whole context it would wait far longer.
            self.assertTrue(client.generate("A", timeout=10).text)

    def test_a_cancelled_selection_changes_nothing(self):
        with Server("chain", scripted=True) as server, Client(server) as client:
            for _ in range(10):
                client.emit("select_model", {"model_name": "absent.gguf"})
                client.emit("cancel_generation", {})
                heard = dict(client.wait("select_model", "generation_canceled") for _ in range(2))
                self.assertFalse(heard["select_model"]["success"])
                self.assertTrue(client.generate("A").text)

    def test_every_fresh_session_answers_its_first_event(self):
        with Server("chain") as server:
            for _ in range(100):
                with Client(server) as client:
                    client.request("list_active_personalities", reply="active_personalities_list")


class Full(unittest.TestCase):
    def test_a_full_queue_answers_both_names_and_later_takes_more(self):
        config = "binding_name: scripted\nmodel_name: one-slot\nqueue_length: 2\nqueue_per_client: 1\n"
        with Server(config=config, scripted=True) as server:
            clients = [Client(server) for _ in range(12)]
            try:
                starts = [client.begin("slow 20 50") for client in clients]
                refused = []
                for client, start in zip(clients, starts):
                    made = client.finish(start)
                    if made.end == "buzzy":
                        refused.append(client)
                        self.assertTrue(made.data["message"])
                        self.assertTrue(client.wait("busy")[1]["message"])
                    else:
                        self.assertEqual(len(made.text.split()), 20)
                self.assertTrue(0 < len(refused) < 12, len(refused))
                for client in refused:
                    self.assertEqual(client.generate("say now").text, "now")
            finally:
                for client in clients:
                    client.close()
