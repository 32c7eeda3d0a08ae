"""A web server that notifications are posted to, in a thread of its own."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """What was posted, in order. It answers with `status`; while `held`, it does not answer."""

    def __init__(self, port: int) -> None:
        self.posts: list[dict[str, Any]] = []
        self.status = 200
        self.held = threading.Event()
        self.released = threading.Event()
        self.url = f"json://token:hush-hush@127.0.0.1:{port}/very-secret-path?rto=600"

    def titles(self) -> list[str]:
        return [post["title"] for post in self.posts]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Serve until the block ends. What is held then is let go."""
    hooks: list[Webhook] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook, length = hooks[0], int(self.headers["Content-Length"])
            hook.posts.append(json.loads(self.rfile.read(length)))
            if hook.held.is_set():
                hook.released.wait()
            self.send_response(hook.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of http.server
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hooks.append(Webhook(server.server_port))
        serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        try:
            yield hooks[0]
        finally:
            hooks[0].released.set()
            server.shutdown()
            serving.join()
