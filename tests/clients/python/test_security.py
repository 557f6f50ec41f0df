"""Who may talk to the server: hosts, origins, keys."""

import http.client
import json
import socket
import unittest

import socketio

from client import Client
from server import Root, Server, run

PATHS = ("/socket.io/?EIO=4&transport=polling", "/list_models", "/get_config", "/")
KEY = "a-long-key-for-tests"


def status(port, path, method="GET", body=None, **headers):
    """Status of a request with exactly these headers (`_` stands for `-`)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host="Host" in named, skip_accept_encoding=True)
        for name, value in named.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()


def upgrade(port, **headers):
    """Status of a WebSocket handshake."""
    return status(
        port,
        "/socket.io/?EIO=4&transport=websocket",
        Connection="Upgrade",
        Upgrade="websocket",
        Sec_WebSocket_Version="13",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        **headers,
    )


class Borders(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server().__enter__()
        cls.port = cls.server.port

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)

    def test_a_foreign_host_is_misdirected(self):
        for host in ("evil.example", "evil.example:%d" % self.port, "127.0.0.1.evil.example", "192.168.0.7"):
            for path in PATHS:
                self.assertEqual(status(self.port, path, Host=host), 421, (host, path))
            self.assertEqual(upgrade(self.port, Host=host), 421, host)

    def test_our_own_hosts_are_served(self):
        for host in ("127.0.0.1:%d", "localhost:%d", "[::1]:%d"):
            self.assertEqual(status(self.port, PATHS[0], Host=host % self.port), 200, host)
            self.assertEqual(upgrade(self.port, Host=host % self.port), 101, host)

    def test_a_foreign_or_null_origin_is_forbidden(self):
        for origin in ("http://evil.example", "null", "http://127.0.0.1.evil.example", "https://localhost.evil", "file://"):
            for path in PATHS:
                self.assertEqual(status(self.port, path, Origin=origin), 403, (origin, path))
            self.assertEqual(upgrade(self.port, Origin=origin), 403, origin)

    def test_our_own_origin_is_served(self):
        for host in ("127.0.0.1", "localhost"):
            origin = "http://%s:%d" % (host, self.port)
            own = origin[len("http://") :]
            self.assertEqual(status(self.port, PATHS[0], Host=own, Origin=origin), 200)
            self.assertEqual(upgrade(self.port, Host=own, Origin=origin), 101)

    def test_cross_site_fetches_are_forbidden(self):
        for site in ("cross-site", "same-site"):
            self.assertEqual(status(self.port, "/list_models", Sec_Fetch_Site=site), 403)
            self.assertEqual(status(self.port, PATHS[0], Sec_Fetch_Site=site), 403)
        for site in ("none", "same-origin"):
            self.assertEqual(status(self.port, "/list_models", Sec_Fetch_Site=site), 200)

    def test_malformed_heads_are_bad_requests(self):
        for head in (
            b"GET /list_models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
            b"GET /list_models HTTP/1.1\r\n\r\n",
            b"GET http://evil.example/list_models HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % self.port,
        ):
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as raw:
                raw.sendall(head)
                answer = raw.recv(200)
                self.assertRegex(answer, rb"^HTTP/1.1 (400|421)", head)

    def test_forms_from_pages_are_refused(self):
        body = json.dumps({"setting_name": "temperature", "setting_value": 0.5}).encode()
        own = "http://127.0.0.1:%d" % self.port
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            got = status(self.port, "/update_setting", "POST", body, Content_Type=kind, Origin=own)
            self.assertIn(got, (400, 403, 415), kind)
        got = status(self.port, "/update_setting", "POST", body, Content_Type="application/json")
        self.assertEqual(got, 200)

    def test_a_body_over_the_limit_is_refused(self):
        body = b'{"setting_name":"user_name","setting_value":"' + b"x" * 3_000_000 + b'"}'
        try:
            got = status(self.port, "/update_setting", "POST", body, Content_Type="application/json")
            self.assertEqual(got, 413)
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.assertEqual(status(self.port, "/list_models"), 200)

    def test_no_answer_allows_other_origins(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", PATHS[0])
        headers = {name.lower() for name, _ in connection.getresponse().getheaders()}
        self.assertNotIn("access-control-allow-origin", headers)
        connection.close()

    def test_version_is_not_found(self):
        self.assertEqual(status(self.port, "/version"), 404)


class AllowedOrigin(unittest.TestCase):
    def test_an_origin_that_the_operator_allowed_is_served(self):
        with Server(args=["--allowed-origin", "https://chat.example.org"]) as server:
            self.assertEqual(status(server.port, PATHS[0], Origin="https://chat.example.org"), 200)
            self.assertEqual(status(server.port, PATHS[0], Origin="https://chat.example.org.evil"), 403)
            self.assertEqual(status(server.port, PATHS[0], Origin="http://chat.example.org"), 403)


class Keys(unittest.TestCase):
    def test_a_listener_that_is_not_loopback_needs_a_key(self):
        root = Root()
        self.addCleanup(root.remove)
        for address in ("0.0.0.0:0", "[::]:0"):
            done = run("serve", "--root", root.path, "--listen", address)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("key", done.stderr)

    def test_with_a_key_http_and_sockets_need_it(self):
        root = Root()
        self.addCleanup(root.remove)
        file = root.write("key.txt", KEY + "\n")
        for args in (["--api-key", KEY], ["--api-key-file", file]):
            with Server(args=args) as server:
                port = server.port
                for path in PATHS[1:3]:
                    self.assertEqual(status(port, path), 401, path)
                    self.assertEqual(status(port, path, Authorization="Bearer wrong"), 401)
                    self.assertEqual(status(port, path, Authorization="Bearer " + KEY), 200)
                    self.assertEqual(status(port, path, X_Api_Key=KEY), 200)
                for auth in (None, {}, {"token": "wrong"}, {"token": 7}, "text"):
                    with self.assertRaises(socketio.exceptions.ConnectionError, msg=auth):
                        Client(server, auth=auth)
                with Client(server, auth={"token": KEY}) as client:
                    client.request("list_active_personalities", reply="active_personalities_list")
                with Client(server, "polling", headers={"Authorization": "Bearer " + KEY}) as client:
                    client.request("list_active_personalities", reply="active_personalities_list")

    def test_the_key_is_never_shown(self):
        with Server(args=["--api-key", KEY]) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", "/get_config", headers={"X-Api-Key": KEY})
            self.assertNotIn(KEY, connection.getresponse().read().decode())
            connection.close()
            self.assertNotIn(KEY, server.log())


class Limits(unittest.TestCase):
    def test_connections_are_limited(self):
        with Server(config="max_connections: 8\n") as server:
            clients = []
            refused = 0
            for _ in range(14):
                try:
                    clients.append(Client(server))
                except socketio.exceptions.ConnectionError:
                    refused += 1
            self.assertGreaterEqual(refused, 4)
            self.assertTrue(clients)
            for client in clients:
                client.close()
