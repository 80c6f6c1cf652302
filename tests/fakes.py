"""Small stand-ins for the outside world."""

import asyncio
import hashlib
import json
import re
import threading
import time
from collections import Counter
from contextlib import suppress

import numpy as np

from app.synth.types import Encoder, Prompt, Reply


class FakeTeacher:
    """Answers every step of Self-Instruct with sensible JSON; `replies` overrides a step by name."""

    def __init__(self, **replies):
        self.replies = replies
        self.prompts: list[Prompt] = []

    async def __call__(self, prompt: Prompt) -> Reply:
        self.prompts.append(prompt)
        answer = self.replies.get(prompt.step, self._default)
        reply = answer(prompt) if callable(answer) else answer
        return reply if isinstance(reply, Reply) else Reply(reply, id=f"{prompt.position}")

    def steps(self) -> list[str]:
        return [prompt.step for prompt in self.prompts]

    def _default(self, prompt: Prompt) -> str:
        number = len(self.prompts)
        if prompt.step == "instructions":
            texts = [f"Explain subject {number}-{n} {unlike(n, number)}" for n in range(8)]
            return json.dumps({"instructions": instruction_items(texts, prompt.schema)})
        if prompt.step == "classification":
            return json.dumps({"is_classification": False})
        return json.dumps({"instances": [{"input": "", "output": f"Answer {number}"}]})


def instruction_items(texts: list[str], schema: dict) -> list:
    """The items of a reply with new instructions: texts, or objects where the schema asks for the classification."""
    if schema["properties"]["instructions"]["items"]["type"] == "string":
        return texts
    return [{"instruction": text, "is_classification": False} for text in texts]


def unlike(*seed) -> str:
    """Ten words that no other seed has."""
    digest = hashlib.sha256(repr(seed).encode()).hexdigest()
    return " ".join(re.findall("....", digest)[:10])


def hash_encoder(texts) -> np.ndarray:
    """Unit vectors that differ for different texts; the same text gives the same vector."""
    rows = []
    for text in texts:
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
        rows.append(rng.standard_normal(32))
    matrix = np.array(rows, dtype=np.float32).reshape(len(rows), 32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def encoders(encode=hash_encoder, **identity):
    """What a worker's pools take: every name and dtype gives this one encoder."""
    facts = {"name": "fake", "backend": "fake", "revision": "1", "dtype": "float32", "pooling": "", "dimensions": 32}
    encoder = Encoder(encode, facts | identity)
    return lambda name, dtype: encoder


class FakeClock:
    """Seconds that pass only when a test says so: `clock()` reads them; `sleep` advances them and gives way."""

    def __init__(self, now: float = 1000.0):
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class ScriptedServer:
    """An HTTP server that answers every POST with what `answer(body)` returns: (status, headers, bytes).

    A GET gets `models` as JSON, or a 404 where there are none.
    """

    def __init__(self, answer, models: list[dict] | None = None):
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        self.bodies: list[dict] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.bodies.append(body)
                outer.paths.append(self.path)
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                response = answer(body)
                if response is None:
                    return
                status, headers, content = response
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                # Who waited may be gone: a call that was cancelled.
                with suppress(BrokenPipeError):
                    self.wfile.write(content)

            def do_GET(self):
                content = json.dumps({"object": "list", "data": models}).encode()
                self.send_response(404 if models is None else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "ScriptedServer":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()


class ScriptedSelfInstruct:
    """Answers Self-Instruct's calls; `fault(body, count)` may answer first. Counts each request body."""

    def __init__(self, fault=lambda body, count: None, seconds=0.0):
        self.fault, self.seconds = fault, seconds
        self.served: Counter[str] = Counter()
        self.guard = threading.Lock()

    def __call__(self, body: dict):
        key = json.dumps(body, sort_keys=True)
        with self.guard:
            count = self.served[key]
            self.served[key] += 1
        reply = self.fault(body, count)
        if reply is not None:
            return reply
        time.sleep(self.seconds)
        step = body["response_format"]["json_schema"]["name"]
        if step == "instructions":
            texts = [f"Explain to me {unlike(body['seed'], n)}" for n in range(instructions_wanted(body))]
            reply = {"instructions": instruction_items(texts, body["response_format"]["json_schema"]["schema"])}
        elif step == "classification":
            reply = {"is_classification": False}
        elif step == "answer_verdict":
            names = body["response_format"]["json_schema"]["schema"]["properties"]
            reply = {name: "fine" if name in ("rationale", "topic") else 4 for name in names}
        else:
            reply = {"instances": [{"input": "", "output": f"An answer about {unlike(key)}"}]}
        return 200, {}, chat(json.dumps(reply))


def instructions_wanted(body: dict) -> int:
    return body["response_format"]["json_schema"]["schema"]["properties"]["instructions"]["maxItems"]


def chat(content: str | None, finish: str = "stop", **more) -> bytes:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": content, "refusal": more.pop("refusal", None)}
    body = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake-1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
    return json.dumps(body | more).encode()


def error(code: str, message: str = "a message") -> bytes:
    return json.dumps({"error": {"message": message, "type": "x", "param": None, "code": code}}).encode()


async def nothing_known(draft) -> None:
    """A screen that lets everything through."""
