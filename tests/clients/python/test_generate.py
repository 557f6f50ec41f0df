"""Completions: their text, their pieces, their limits and their company."""

import threading
import unittest

from client import Client
from server import Chain, Server

CONFIG = "slots: 8\nctx_size: 4096\n"


class Chains(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.chain = Chain()
        cls.server = Server("chain", config=CONFIG).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)

    def test_pieces_joined_equal_the_final_text_byte_for_byte(self):
        for transport in ("websocket", "polling", ["polling", "websocket"]):
            with Client(self.server, transport) as client:
                for after in "ANSQ:":
                    with self.subTest(after=after, transport=transport):
                        made = client.generate("say " + after, n_predicts=400)
                        self.assertEqual(made.joined.encode(), made.text.encode())
                        self.assertEqual(made.text, self.chain.text(after))
                        self.assertTrue(all(made.chunks), "an empty piece was sent")

    def test_emoji_and_accents_are_never_cut(self):
        with Client(self.server) as client:
            for tokens in range(1, 41):
                made = client.generate("U", n_predicts=tokens)
                self.assertEqual(made.text, self.chain.text("U", tokens))
                self.assertEqual(made.joined, made.text)

    def test_bytes_that_are_no_text_become_a_replacement_character(self):
        with Client(self.server) as client:
            made = client.generate("I", n_predicts=10)
            self.assertEqual(made.text, " bad\ufffd byte")
            made = client.generate("B", n_predicts=10)
            self.assertEqual(made.text, " half\ufffd")
            self.assertEqual(made.joined, made.text)

    def test_an_empty_completion_ends_with_an_empty_text(self):
        with Client(self.server) as client:
            made = client.generate("E", n_predicts=10)
            self.assertEqual((made.text, made.chunks), ("", []))

    def test_n_predicts_bounds_the_text_and_may_be_missing_or_null(self):
        with Client(self.server) as client:
            self.assertEqual(client.generate("L", n_predicts=7).text, self.chain.text("L", 7))
            self.assertEqual(client.generate("A", n_predicts=None).text, self.chain.text("A"))
            self.assertEqual(client.generate("A").text, self.chain.text("A"))

    def test_chunks_carry_the_type_of_a_chunk(self):
        with Client(self.server) as client:
            made = client.generate("A", n_predicts=10)
            kinds = {args[0].get("type") for name, args in made.events if name == "text_chunk"}
            self.assertEqual(kinds, {0})

    def test_parameters_may_be_nested_partial_or_beside_the_prompt(self):
        with Client(self.server) as client:
            whole = dict(temperature=0.1, top_k=5, top_p=0.5, repeat_penalty=1.1, repeat_last_n=8, seed=1)
            for fields in ({"parameters": whole}, {"parameters": {"seed": 3}}, whole, {"parameters": None}):
                made = client.generate("A", n_predicts=30, **fields)
                self.assertEqual(made.text, self.chain.text("A"))

    def test_two_clients_interleaved_hear_only_their_own(self):
        with Client(self.server) as one, Client(self.server, "polling") as two:
            first = one.begin("L", n_predicts=300)
            second = two.begin("U", n_predicts=300)
            mine, theirs = one.finish(first), two.finish(second)
            self.assertEqual(mine.text, self.chain.text("L", 300))
            self.assertEqual(theirs.text, self.chain.text("U", 300))
            self.assertEqual((mine.joined, theirs.joined), (mine.text, theirs.text))

    def test_a_second_request_of_a_session_starts_after_the_first(self):
        with Client(self.server) as client:
            start = client.begin("L", n_predicts=50)
            client.emit("generate_text", {"prompt": "A", "personality": -1, "n_predicts": 50})
            first = client.finish(start)
            second = client.finish(start + len(first.events))
            self.assertEqual((first.text, first.joined), (self.chain.text("L", 50),) * 2)
            self.assertEqual((second.text, second.joined), (self.chain.text("A"),) * 2)

    def test_more_clients_than_slots_all_get_their_text(self):
        clients = [Client(self.server) for _ in range(12)]
        try:
            starts = [client.begin("L", n_predicts=40 + n) for n, client in enumerate(clients)]
            for n, (client, start) in enumerate(zip(clients, starts)):
                self.assertEqual(client.finish(start).text, self.chain.text("L", 40 + n))
        finally:
            for client in clients:
                client.close()

    def test_a_prompt_that_fills_the_context_is_refused_and_the_next_one_works(self):
        with Client(self.server) as client:
            made = client.generate("x" * 20_000, n_predicts=5)
            self.assertRegex(made.error, r"\d+ tokens")
            self.assertEqual(client.generate("A").text, self.chain.text("A"))

    def test_n_crop_keeps_the_end_of_a_prompt(self):
        with Client(self.server) as client:
            made = client.generate("x" * 20_000 + "A", n_predicts=40, n_crop=100)
            self.assertEqual(made.text, self.chain.text("A"))


class Context(unittest.TestCase):
    """The context model: what else runs must not change a text."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server("context", config="slots: 16\nctx_size: 2048\n").__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)

    GREEDY = {"temperature": 0, "repeat_penalty": 1}

    def prompt(self, number):
        words = "the quick brown fox jumps over the lazy dog and %d" % number
        return ("%d " % number) + " ".join([words] * (1 + number % 6) * 3)

    def alone(self, numbers):
        with Client(self.server) as client:
            return {
                n: client.generate(self.prompt(n), n_predicts=48, parameters=self.GREEDY).text for n in numbers
            }

    def test_sixteen_clients_with_cancels_between_get_the_text_they_get_alone(self):
        expected = self.alone(range(16))
        self.assertEqual(len(set(expected.values())), 16, "the texts do not depend on the prompts")
        got, failures = {}, []

        def work(number):
            try:
                with Client(self.server, "websocket" if number % 2 else "polling") as client:
                    if number % 3 == 0:
                        start = client.begin(self.prompt(number + 50), n_predicts=200, parameters=self.GREEDY)
                        if number % 2:
                            client.wait("text_chunk")
                        client.emit("cancel_generation")
                        client.wait("generation_canceled")
                        self.assertEqual(client.ends(start), ["generation_canceled"])
                    got[number] = client.generate(self.prompt(number), n_predicts=48, parameters=self.GREEDY).text
            except BaseException as error:  # noqa: B902 - told below, by the test's own thread
                failures.append((number, error))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(got, expected)

    def test_a_seed_repeats_a_text_and_another_gives_another(self):
        with Client(self.server) as client:
            hot = {"temperature": 1.5, "top_k": 0, "top_p": 1.0}
            texts = [
                client.generate("once", n_predicts=40, parameters=dict(hot, seed=seed)).text for seed in (5, 5, 6)
            ]
            self.assertEqual(texts[0], texts[1])
            self.assertNotEqual(texts[0], texts[2])


