"""A registry on loopback that images are pushed to, and whose connections break: python3 upload-registry.py FOLDER

Prints its port. It wants the login me:secret, by basic authentication, or with `token` in FOLDER/scheme by bearer tokens, which are
given for what was asked. The first piece of a blob breaks off after FOLDER/break bytes. Requests are appended to FOLDER/log; what
has been pushed lies in FOLDER by digest and tag.
"""
import base64, hashlib, http.server, os, re, sys, urllib.parse

folder = sys.argv[1]
uploads, broken = {}, []


def setting(name, default=""):
    path = os.path.join(folder, name)
    return open(path).read().strip() if os.path.exists(path) else default


class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_): pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(body)

    def is_allowed(self):
        given = self.headers.get("Authorization", "")
        basic = "Basic " + base64.b64encode(b"me:secret").decode()
        if self.path.startswith("/token"):
            if given != basic: return self.answer(401)
            scope = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query).get("scope", ["login"])[0]
            return self.answer(200, ('{"token": "%s"}' % scope.replace('"', "")).encode())
        if setting("scheme") != "token":
            if given == basic: return True
            return self.answer(401, WWW_Authenticate='Basic realm="x"')
        writes = self.command in ("POST", "PATCH", "PUT")
        if given == "Bearer login" and self.path == "/v2/" or given.startswith("Bearer repository:") and (given.endswith("pull,push") or not writes):
            return True
        realm = "http://127.0.0.1:%d/token" % self.server.server_port
        return self.answer(401, WWW_Authenticate='Bearer realm="%s",service="here"' % realm)

    def handle_any(self):
        with open(os.path.join(folder, "log"), "a") as log:
            log.write("%s %s %s\n" % (self.command, self.path, self.headers.get("Content-Range", "")))
        length = int(self.headers.get("Content-Length", 0))
        if not self.is_allowed():
            self.rfile.read(length)
            return
        path, _, query = self.path.partition("?")
        if path == "/v2/": return self.answer(200)
        blob = re.search(r"/blobs/(sha256:[0-9a-f]+)$", path)
        session = re.search(r"/blobs/uploads/(\w+)$", path)
        manifest = re.search(r"/manifests/(.+)$", path)
        if blob: return self.answer(200 if os.path.exists(os.path.join(folder, blob[1])) else 404)
        if path.endswith("/blobs/uploads/"):
            name = os.urandom(4).hex()
            uploads[name] = b""
            # A relative address with a query, which has to be kept.
            return self.answer(202, Location=name + "?state=1")
        if session and "state=" in query: return self.upload(session[1], query, length)
        if manifest and self.command == "PUT":
            body = self.rfile.read(length)
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
            for name in (manifest[1].replace("/", "_"), digest): open(os.path.join(folder, name), "wb").write(body)
            return self.answer(201, Docker_Content_Digest=digest)
        self.answer(404)

    def upload(self, name, query, length):
        place = "%s?state=%d" % (name, len(uploads[name]) + 2)
        if self.command == "GET": return self.answer(204, Location=place, Range="0-%d" % max(0, len(uploads[name]) - 1))
        if self.command == "PATCH":
            start = int(self.headers.get("Content-Range", "0").split("-")[0])
            if start != len(uploads[name]): return self.answer(416)
            limit = int(setting("break", "0"))
            if limit and length > limit and not broken:
                broken.append(name)
                uploads[name] += self.rfile.read(limit)
                self.close_connection = True
                return self.connection.shutdown(2)
            uploads[name] += self.rfile.read(length)
            return self.answer(202, Location=place)
        wanted = urllib.parse.parse_qs(query)["digest"][0]
        if "sha256:" + hashlib.sha256(uploads[name]).hexdigest() != wanted: return self.answer(400)
        open(os.path.join(folder, wanted), "wb").write(uploads.pop(name))
        self.answer(201)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_any


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
print(server.server_port, flush=True)
server.serve_forever()
