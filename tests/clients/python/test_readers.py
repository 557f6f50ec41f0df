"""Readers that are slow or stand still: nothing is lost, nobody waits for them, memory is bounded."""

import json
import socket
import threading
import time
import unittest

import websocket

from client import Client
from server import Server

CONFIG = "binding_name: scripted\nmodel_name: good\n"
PIECES = 4000


def flood_text(n):
    return "".join("%07d" % number + "é" * 496 + "." for number in range(n))


class Polls(unittest.TestCase):
    def test_a_client_that_polls_takes_many_generations_and_lives_on(self):
        # python-engineio leaves when one answer holds more than 16 packets.
        with Server("chain") as server, Client(server, "polling") as client:
            for _ in range(15):
                client.emit("generate_text", {"prompt": "L", "personality": -1, "n_predicts": 200})
            for _ in range(15):
                self.assertEqual(client.wait("text_generated", "generation_error")[0], "text_generated")
            self.assertTrue(client.connected)


class Raw:
    """A Socket.IO client that reads only when it is told to."""

    def __init__(self, server):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", server.port))
        url = "ws://127.0.0.1:%d/socket.io/?EIO=4&transport=websocket" % server.port
        self.ws = websocket.create_connection(url, socket=raw, timeout=30)
        assert self.ws.recv().startswith("0")
        self.ws.send("40")
        while not self.ws.recv().startswith("40"):
            pass

    def emit(self, name, data):
        self.ws.send("42" + json.dumps([name, data]))

    def read(self):
        """The next event; pings are answered."""
        while True:
            packet = self.ws.recv()
            if packet == "2":
                self.ws.send("3")
            elif packet.startswith("42"):
                return json.loads(packet[2:])

    def close(self):
        self.ws.close()


class Readers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(config=CONFIG, scripted=True).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)

    def test_a_slow_reader_gets_every_byte_in_order(self):
        raw = Raw(self.server)
        raw.emit("generate_text", {"prompt": "flood %d" % PIECES, "personality": -1, "n_predicts": 100000})
        time.sleep(2)
        chunks = []
        while True:
            name, data = raw.read()
            if name == "text_chunk":
                chunks.append(data["chunk"])
                if len(chunks) % 50 == 0:
                    time.sleep(0.02)
            elif name != "generation_state":
                break
        self.assertEqual(name, "text_generated", data)
        self.assertEqual("".join(chunks), flood_text(PIECES))
        self.assertEqual(data["text"], flood_text(PIECES))
        raw.close()

    def test_a_stalled_reader_delays_nobody_and_costs_bounded_memory(self):
        with Client(self.server) as other:
            other.generate("say warm")
            before = self.server.rss_kb()
            stalled = [Raw(self.server) for _ in range(3)]
            for raw in stalled:
                raw.emit("generate_text", {"prompt": "flood %d" % PIECES, "personality": -1, "n_predicts": 100000})
            for _ in range(20):
                self.assertEqual(other.generate("say quick", timeout=5).text, "quick")
            time.sleep(2)
            # Each text has 4 MB; a few copies of each are the bound.
            self.assertLess(self.server.rss_kb() - before, 3 * 4 * 8 * 1024)
            for raw in stalled:
                raw.close()

    def test_a_reader_that_comes_back_gets_all_of_it(self):
        raw = Raw(self.server)
        raw.emit("generate_text", {"prompt": "slow 300 5", "personality": -1, "n_predicts": 1000})
        time.sleep(3)
        heard = []
        name = ""
        while name != "text_generated":
            name, data = raw.read()
            if name == "text_chunk":
                heard.append(data["chunk"])
        self.assertEqual("".join(heard), "".join("p%d " % n for n in range(1, 301)))
        raw.close()

    def test_a_polling_client_gets_every_byte(self):
        with Client(self.server, "polling") as client:
            made = client.generate("flood 500", n_predicts=100000)
            self.assertEqual(made.joined, flood_text(500))
            self.assertEqual(made.text, flood_text(500))

    def test_many_readers_at_once_get_their_own(self):
        failures = []

        def work(number):
            try:
                with Client(self.server, "websocket" if number % 2 else "polling") as client:
                    made = client.generate("slow %d 3" % (50 + number))
                    assert made.joined == made.text == "".join("p%d " % n for n in range(1, 51 + number))
            except BaseException as error:  # noqa: B902 - told below
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
