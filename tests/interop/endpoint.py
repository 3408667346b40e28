"""A token endpoint over TLS: as it should be, and wrong in each way that a check asks for (RFC 6749, RFC 8628)."""

import json
import socket
import ssl
import threading
import time
import urllib.parse

from checks import free_port

PATH = "/tenant/oauth2/v2.0/token"


class Endpoint:
    """Listens on `port`; `forms` has what was asked, one dictionary a request, `heads` the requests' heads.

    answers   what is answered, one after the other, the last one again and again: (status, dictionary) or octets;
              a function is called with the form for one of these
    behave    "" (as it should), "chunked" (octet by octet), "open" (no length), "drip" (an octet a ms),
              "silent", "deaf" (no handshake), "drop" (half of an answer), "close" (none)
    stuck     how many connections were left without an answer by "silent" and "deaf"

    While `may_end` is not set, the last octet of what drips is held back.
    """

    def __init__(self, world, certificate, *answers):
        self.answers, self.behave = list(answers), ""
        self.forms, self.heads, self.connections, self.stuck = [], [], 0, 0
        self.may_end = threading.Event()
        self.may_end.set()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*certificate)
        self.port = free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=16)
        world.stack.callback(self.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        """Nobody is there any more; without the shutdown a thread that accepts would hold the port."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def url(self, path=PATH, host="localhost"):
        return f"https://{host}:{self.port}{path}"

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        connection.settimeout(120)
        try:
            if self.behave == "deaf":
                connection.recv(1)
                self.stick()
            with self.context.wrap_socket(connection, server_side=True) as stream:
                self.answer(stream)
        except OSError:
            pass
        finally:
            connection.close()

    def stick(self):
        self.stuck += 1
        time.sleep(100)

    def answer(self, stream):
        head, body = read_request(stream)
        self.heads.append(head)
        form = dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
        self.forms.append(form)
        if self.behave == "silent":
            self.stick()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = answer(form)
        if self.behave == "close":
            return
        octets = answer if isinstance(answer, bytes) else self.response(*answer)
        if self.behave == "drop":
            stream.sendall(octets[: len(octets) - 20])
            stream.close()
        elif self.behave == "drip":
            for octet in octets[:-1]:
                stream.sendall(bytes([octet]))
                time.sleep(0.001)
            self.may_end.wait()
            stream.sendall(octets[-1:])
        else:
            stream.sendall(octets)

    def response(self, status, content):
        body = json.dumps(content, indent=1).encode()
        fields = f"Content-Length: {len(body)}\r\n"
        if self.behave == "chunked":
            fields = "Transfer-Encoding: chunked\r\n"
            body = b"".join(b"1\r\n%c\r\n" % octet for octet in body) + b"0\r\n\r\n"
        elif self.behave == "open":
            fields = ""
        head = (
            f"HTTP/1.1 {status} So\r\nCache-Control: no-store\r\nSet-Cookie: x={'y' * 3000}; secure\r\n"
            f"Content-Type: application/json; charset=utf-8\r\n{fields}Connection: close\r\n\r\n"
        )
        return head.encode() + body


def read_request(stream):
    """(head, body) of one request with a length."""
    octets = b""
    while b"\r\n\r\n" not in octets:
        octets += received(stream)
    head, body = octets.split(b"\r\n\r\n", 1)
    head = head.decode()
    length = next(
        int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length:")
    )
    while len(body) < length:
        body += received(stream)
    return head, body


def received(stream):
    octets = stream.recv(65536)
    if not octets:
        raise EOFError
    return octets


def token(access, seconds=3600, **more):
    """A grant as Microsoft and Google write it."""
    return 200, {"token_type": "Bearer", "scope": "x", "expires_in": seconds, "access_token": access, **more}


def error(name, description="what went wrong", status=400):
    return status, {"error": name, "error_description": description, "error_codes": [700082]}
