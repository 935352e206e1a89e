"""A small server of OpenPGP keys (HKP) on loopback: python3 key-server.py FOLDER [CERTIFICATE KEY]

Prints its port. Keys are files FINGERPRINT.asc in the folder; requests are appended to the file `log` there.
"""
import base64, hashlib, http.server, os, re, ssl, sys, urllib.parse

folder = sys.argv[1]


def packets(armored):
    body = armored.split("\n\n", 1)[1].split("-----END")[0]
    lines = [line for line in body.split("\n") if line and not line.startswith("=")]
    data, place = base64.b64decode("".join(lines)), 0
    while place < len(data):
        head = data[place]
        if head & 0x40:
            tag, first = head & 63, data[place + 1]
            if first < 192: length, start = first, place + 2
            elif first < 224: length, start = (first - 192 << 8) + data[place + 2] + 192, place + 3
            else: length, start = int.from_bytes(data[place + 2:place + 6], "big"), place + 6
        else:
            tag, size = head >> 2 & 15, 1 << (head & 3)
            length, start = int.from_bytes(data[place + 1:place + 1 + size], "big"), place + 1 + size
        yield tag, data[start:start + length]
        place = start + length


def describe(armored):
    name = fingerprint = None
    for tag, body in packets(armored):
        if tag == 6 and fingerprint is None:
            fingerprint = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()
            created, bits = int.from_bytes(body[1:5], "big"), int.from_bytes(body[6:8], "big")
        if tag == 13 and name is None: name = body.decode()
    return fingerprint, created, bits, name


def keys():
    for file in sorted(os.listdir(folder)):
        if file.endswith(".asc"): yield open(os.path.join(folder, file)).read()


class Server(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words): pass

    def note(self):
        with open(os.path.join(folder, "log"), "a") as log: log.write(f"{self.command} {self.path}\n")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        self.note()
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        text = query.get("search", [""])[0]
        def matches(armored):
            fingerprint, _, _, name = describe(armored)
            return fingerprint.endswith(text[2:].upper()) if text.startswith("0x") else text.lower() in name.lower()
        found = [armored for armored in keys() if matches(armored)]
        if not found: return self.answer(404, "not found")
        if query.get("op") == ["get"]: return self.answer(200, "\n".join(found))
        lines = [f"info:1:{len(found)}"]
        for armored in found:
            fingerprint, created, bits, name = describe(armored)
            lines += [f"pub:{fingerprint}:1:{bits}:{created}::", f"uid:{urllib.parse.quote(name)}:{created}::"]
        self.answer(200, "\n".join(lines) + "\n")

    def do_POST(self):
        self.note()
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        armored = urllib.parse.parse_qs(body)["keytext"][0]
        with open(os.path.join(folder, describe(armored)[0] + ".asc"), "w") as file: file.write(armored)
        self.answer(200, "ok")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
