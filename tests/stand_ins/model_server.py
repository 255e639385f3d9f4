"""Servers on 127.0.0.1 that answer with the embedded model, as OpenAI's completions or Ollama, or that do wrong.

What the real ones do is not shown by them: they are written from the documentation of both interfaces
(platform.openai.com/docs/api-reference/completions, docs.ollama.com/api). Each notes what it was asked.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Answer(Exception):
    """What is sent in place of an answer. body: bytes as they are, or JSON."""

    def __init__(self, status: int, body: Any, **headers: str) -> None:
        self.status, self.headers = status, headers
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


class ModelServer:
    """A server. answer(path, body or None, handler) returns JSON; it may raise Answer, or write to the handler itself.

    asked: (path, body, headers) of each request, in the order in which they came.
    """

    def __init__(self, answer: Callable[[str, Any, BaseHTTPRequestHandler], Any], scheme: str = "http") -> None:
        self.asked: list[tuple[str, Any, dict[str, str]]] = []
        self.at_once = self.most_at_once = 0
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version, sys_version = "stand-in/1.0", ""

            def _do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                with lock:
                    outer.asked.append((self.path, body, dict(self.headers)))
                    outer.at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer.at_once)
                try:
                    self._send(200, json.dumps(answer(self.path, body, self)).encode(), {})
                except Answer as given:
                    self._send(given.status, given.body, given.headers)
                except Hang:
                    self.close_connection = True
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    with lock:
                        outer.at_once -= 1

            do_GET = do_POST = _do

            def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                told = {"Content-Type": "application/json", "Content-Length": str(len(body))}
                told |= {name.replace("_", "-"): value for name, value in headers.items()}
                for name, value in told.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Hang(Exception):
    """The connection is closed without an answer."""


@contextlib.contextmanager
def serving(answer: Callable[[str, Any, BaseHTTPRequestHandler], Any]) -> Iterator[ModelServer]:
    """A server for the length of the block."""
    server = ModelServer(answer)
    try:
        yield server
    finally:
        server.close()


class NanoAnswers:
    """The embedded model's own texts. delay_s: of each."""

    def __init__(self, loaded: Any, *, delay_s: float = 0.0) -> None:
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.delay_s = delay_s
        self._lock = threading.Lock()

    def ids(self, prompt: str | list[int]) -> list[int]:
        return list(prompt) if isinstance(prompt, list) else self.tokenizer.encode(prompt, add_special_tokens=False)

    def logprobs(self, ids: list[int]) -> tuple[list[float], list[float], list[int]]:
        """Of each token but the first: its log-probability, the best one's, the likeliest token."""
        import torch

        with self._lock, torch.no_grad():
            logits = self.model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
        own = [float(logits[at, token]) for at, token in enumerate(ids[1:])]
        best = logits.max(-1)
        return own, best.values.tolist(), best.indices.tolist()

    def write(self, prompt: str | list[int], most: int, stops: list[str]) -> tuple[str, str, int, int, list[float]]:
        """(text, reason, tokens read, tokens written, their log-probabilities), greedy, as OpenAI has it."""
        time.sleep(self.delay_s)
        ids = self.ids(prompt)
        read, values = len(ids), []
        for _ in range(most):
            _, best, likeliest = self.logprobs(ids)
            if likeliest[-1] == self.tokenizer.eos_token_id:
                return self.tokenizer.decode(ids[read:]), "stop", read, len(ids) - read + 1, values
            ids.append(likeliest[-1])
            values.append(best[-1])
            text = self.tokenizer.decode(ids[read:])
            if any(stop in text for stop in stops):
                first = min(text.index(stop) for stop in stops if stop in text)
                return text[:first], "stop", read, len(ids) - read, values
        return self.tokenizer.decode(ids[read:]), "length", read, len(ids) - read, values


def completions(nano: NanoAnswers, **models: Any) -> Callable[[str, Any, Any], Any]:
    """OpenAI's interface, with what vLLM adds to it: log-probabilities of prompts, and which stop ended a text."""
    listed = models or {"nano-served": {"owned_by": "stand-in"}}

    def answer(path: str, body: Any, _: Any) -> Any:
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": name, **said} for name, said in listed.items()]}
        if path != "/v1/completions":
            raise Answer(404, {"detail": "Not Found"})
        stops = body.get("stop") or []
        text, reason, read, wrote, values = nano.write(body["prompt"], body["max_tokens"], stops)
        choice: dict[str, Any] = {"text": text, "index": 0, "finish_reason": reason, "logprobs": None}
        if body.get("logprobs") is not None:
            tokens = nano.ids(nano.tokenizer.decode(nano.ids(body["prompt"])) + text)[read:]
            listed_ids: list[Any] = [*tokens]
            chances: list[Any] = values[: len(tokens)]
            best: list[Any] = chances
            if body.get("echo"):
                own, top, _ = nano.logprobs(nano.ids(body["prompt"]))
                listed_ids = [*nano.ids(body["prompt"]), *tokens]
                chances, best = [None, *own, *chances], [None, *top[:-1], *chances]
            names = [nano.tokenizer.decode([token]) for token in listed_ids]
            tops = [None if value is None else {"best": value} for value in best]
            choice["logprobs"] = {"tokens": names, "token_logprobs": chances, "top_logprobs": tops}
        usage = {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
        return {"id": "cmpl-1", "object": "text_completion", "choices": [choice], "usage": usage}

    return answer


def ollama(nano: NanoAnswers, name: str = "nano:latest", digest: str = "0" * 64) -> Callable[[str, Any, Any], Any]:
    """Ollama's interface; its `/v1/completions` puts a template around a prompt, as the real one's does."""

    def answer(path: str, body: Any, _: Any) -> Any:
        details = {"format": "gguf", "family": "llama", "parameter_size": "1M", "quantization_level": "F32"}
        if path == "/api/version":
            return {"version": "0.99.0"}
        if path == "/api/tags":
            return {"models": [{"name": name, "model": name, "digest": digest, "size": 1000, "details": details}]}
        if path == "/api/show":
            return {"details": details, "model_info": {"general.architecture": "llama", "llama.context_length": 1024}}
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": name, "object": "model", "created": time.time_ns()}]}
        if path != "/api/generate":
            raise Answer(404, b"404 page not found")
        options = body["options"]
        prompt = body["prompt"] if body.get("raw") else f"<|user|>{body['prompt']}<|assistant|>"
        text, reason, read, wrote, _ = nano.write(prompt, options["num_predict"], options.get("stop") or [])
        counts = {"prompt_eval_count": read, "eval_count": wrote, "total_duration": 1}
        return {"model": name, "response": text, "done": True, "done_reason": reason, **counts}

    return answer
