"""An endpoint of OpenAI's protocol on the loopback, that can be slow, busy, broken or unwilling; and a captioner without a model."""

import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL.Image import Image

from benchmark.embedding.captioners import Captioner

CLASSES = ("cat", "dog")
KEY = "sk-nobody-may-see-this-1234567890"


class ColourReader(Captioner):
    """Says which class and number the colour of an image stands for, and on which node that was.

    Where it writes that down, it waits for a second node, for at most a minute: without a model it is done before that
    one has started.
    """

    _end = time.monotonic() + 60  # when this process has imported it

    def captions(self, images: Sequence[Image]) -> list[str]:
        import ray

        node = ray.get_runtime_context().get_node_id()
        said = []
        for image in images:
            red, green, blue = image.getpixel((0, 0))  # type: ignore[misc]
            said.append(f"a photo of a {CLASSES[red // 200]} with number {1000 * green + blue} on a table")
        if log := os.environ.get("ICM_BENCH_TEST_LOG"):
            with open(log, "a") as file:  # noqa: PTH123
                file.write("".join(f"{node} {caption}\n" for caption in said))
            while time.monotonic() < self._end and len(_nodes(log)) < 2:
                time.sleep(0.05)
        return said


def _nodes(log: str) -> set[str]:
    """Return the nodes that a log names."""
    return {line.split(" ", 1)[0] for line in Path(log).read_text().splitlines()}


def rewritten(caption: str) -> str:
    """The rewrite that the endpoint means."""
    return caption.replace("on a table", "in the deep snow at night")


def number_of(body: dict[str, Any]) -> int:
    """The number that the caption of a request names."""
    return int(re.findall(r"number (\d+)", body["messages"][0]["content"])[-1])


Reply = tuple[int, dict[str, str], bytes]  # status, headers, body


def answer(text: str | None, sent: int = 100, answered: int = 20, **choice: Any) -> Reply:
    message = {"role": "assistant", "content": text, **choice.pop("message", {})}
    content = {
        "choices": [{"index": 0, "finish_reason": "stop", **choice, "message": message}],
        "usage": {"prompt_tokens": sent, "completion_tokens": answered},
    }
    return 200, {}, json.dumps(content).encode()


class ChatServer:
    """What reaches the endpoint: `bodies` and `headers` of all requests, `answered` counts texts that were asked and answered."""

    def __init__(self, reply: Callable[["ChatServer", dict[str, Any]], Reply]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answered: Counter[str] = Counter()
        self.busy = self.most_busy = 0
        self._reply, self._lock = reply, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                self._serve(handler)

            def log_message(handler, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.bodies.append(body)
            self.headers.append(dict(handler.headers))
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        status, headers, content = self._reply(self, body)
        with self._lock:  # before the answer is sent: who has it may ask again before this thread goes on
            self.busy -= 1
            if status == 200 and b'"choices"' in content:
                self.answered[json.dumps(body, sort_keys=True)] += 1
        try:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            if "Content-Length" not in headers:
                handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            parts = [content] if "Drip" not in headers else [content[i : i + 1] for i in range(len(content))]
            for part in parts:
                handler.wfile.write(part)
                handler.wfile.flush()
                time.sleep(float(headers.get("Drip", 0)))
        except OSError:  # the one who asked is gone
            pass

    @contextmanager
    def running(self) -> Iterator["ChatServer"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def unwilling(server: ChatServer, body: dict[str, Any]) -> Reply:
    """Answer slowly; every so often busy, broken or garbled; refuse, say nothing, repeat or change the class by number.

    Tokens are counted by words, in a way that nobody expects.
    """
    time.sleep(0.02)
    turn, number = len(server.bodies), number_of(body)
    if turn % 19 == 0:
        return 429, {"Retry-After": "0.1"}, b'{"error": {"code": "rate_limit_exceeded", "message": "slow down"}}'
    if turn % 23 == 0:
        return 500, {}, b"<html>oops</html>"
    if turn % 29 == 0:
        return 200, {}, b"this is no JSON"
    prompt = body["messages"][0]["content"]
    caption = prompt.rpartition("Caption: ")[2]
    text = rewritten(caption)
    sent, answered = int(1.9 * len(prompt.split())) + 31, int(1.4 * len(text.split())) + 5
    if number % 100 == 7:
        return answer("I'm sorry, but I can't help with that.", sent, answered)
    if number % 100 == 17:
        return answer(None, sent, 0, finish_reason="content_filter")
    if number % 100 == 27:
        return answer("  ", sent, 1)
    if number % 100 == 37:
        return answer(f'"{caption}."', sent, answered)
    if number % 100 == 47:
        return answer(text.replace("cat", "bird").replace("dog", "bird"), sent, answered)
    return answer(f'"{text}"', sent, answered)


OUT = {7: "refused", 17: "refused", 27: "empty", 37: "identical", 47: "changes the class"}  # number modulo 100 -> why
