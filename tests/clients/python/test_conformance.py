"""What the official suites of Engine.IO 4 and Socket.IO 5 ask for, in the test mode and never without."""

import json
import unittest

import requests
import websocket

from server import Server


def receive(ws):
    """The next packet but pings, which are answered."""
    while True:
        packet = ws.recv()
        if packet != "2":
            return packet
        ws.send("3")


class Mode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(args=["--socketio-conformance"]).__enter__()
        cls.http = cls.server.url + "/socket.io/?EIO=4&transport=polling"
        cls.ws = "ws" + cls.server.url[len("http") :] + "/socket.io/?EIO=4&transport=websocket"

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)

    def open(self):
        ws = websocket.create_connection(self.ws, timeout=5)
        self.addCleanup(ws.close)
        self.assertTrue(ws.recv().startswith("0"))
        return ws

    def test_the_handshake_has_the_suites_intervals(self):
        hello = json.loads(requests.get(self.http, timeout=5).text[1:])
        self.assertEqual((hello["pingInterval"], hello["pingTimeout"], hello["maxPayload"]), (300, 200, 1000000))
        self.assertEqual(hello["upgrades"], ["websocket"])

    def test_bad_handshakes_are_refused(self):
        for query in ("", "?EIO=abc&transport=polling", "?EIO=4", "?EIO=4&transport=abc"):
            answer = requests.get(self.server.url + "/socket.io/" + query, timeout=5)
            self.assertEqual(answer.status_code, 400, query)
        answer = requests.get(self.http + "&sid=none", timeout=5)
        self.assertEqual(answer.status_code, 400)

    def test_both_namespaces_show_the_auth_payload(self):
        for namespace in ("/", "/custom"):
            prefix = "" if namespace == "/" else namespace + ","
            for payload in ("", '{"token":"123"}'):
                ws = self.open()
                ws.send("40" + prefix + payload)
                joined = receive(ws)
                self.assertTrue(joined.startswith("40" + prefix), joined)
                self.assertIn("sid", json.loads(joined[len("40" + prefix) :]))
                told = json.loads(receive(ws)[len("42" + prefix) :])
                self.assertEqual(told, ["auth", json.loads(payload or "{}")])

    def test_an_unknown_namespace_is_refused(self):
        ws = self.open()
        ws.send("40/random")
        self.assertEqual(receive(ws), '44/random,{"message":"Invalid namespace"}')

    def test_messages_and_acknowledgements_come_back_binary_too(self):
        ws = self.open()
        ws.send("40")
        receive(ws), receive(ws)
        ws.send('42["message",1,"2",{"3":[true]}]')
        self.assertEqual(json.loads(receive(ws)[2:]), ["message-back", 1, "2", {"3": [True]}])
        ws.send('42456["message-with-ack",1,"2",{"3":[false]}]')
        self.assertEqual(receive(ws), '43456[1,"2",{"3":[false]}]')
        ws.send('452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
        ws.send_binary(b"\1\2\3")
        ws.send_binary(b"\4\5\6")
        self.assertTrue(receive(ws).startswith('452-["message-back",'))
        self.assertEqual([receive(ws), receive(ws)], [b"\1\2\3", b"\4\5\6"])

    def test_a_client_that_answers_no_ping_is_closed(self):
        ws = self.open()
        ws.settimeout(5)
        heard = []
        try:
            while True:
                packet = ws.recv()
                heard.append(packet)
                if packet == "":
                    break
        except websocket.WebSocketConnectionClosedException:
            pass
        self.assertIn("2", heard)

    def test_a_client_that_never_joins_is_closed(self):
        ws = self.open()
        ws.settimeout(5)
        with self.assertRaises(websocket.WebSocketConnectionClosedException):
            while True:
                packet = ws.recv()
                if packet == "2":
                    ws.send("3")
                elif packet == "":
                    raise websocket.WebSocketConnectionClosedException()

    def test_no_generation_is_offered_in_this_mode(self):
        ws = self.open()
        ws.send("40")
        receive(ws), receive(ws)
        ws.send('42["generate_text",{"prompt":"A"}]')
        ws.send('42["message","after"]')
        self.assertEqual(json.loads(receive(ws)[2:]), ["message-back", "after"])


class Default(unittest.TestCase):
    def test_the_ordinary_server_offers_nothing_of_it(self):
        with Server() as server:
            url = "ws" + server.url[len("http") :] + "/socket.io/?EIO=4&transport=websocket"
            ws = websocket.create_connection(url, timeout=5)
            self.assertTrue(receive(ws).startswith("0"))
            ws.send("40")
            self.assertTrue(receive(ws).startswith("40"))
            ws.send('42["message","x"]')
            ws.send('421["list_active_personalities"]')
            packets = [receive(ws), receive(ws)]
            self.assertFalse([packet for packet in packets if "message-back" in packet or "auth" in packet])
            ws.send("40/custom")
            self.assertEqual(receive(ws), '44/custom,{"message":"Invalid namespace"}')
            ws.close()
