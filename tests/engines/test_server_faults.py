"""A server that does wrong, on a real socket: a named error each, what is finished is kept, nothing waits for ever."""

from __future__ import annotations

import copy
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.engines.options import EngineOptions
from slmbench.engines.protocol import WriteRequest
from slmbench.engines.server_address import ServerOptions, address_of
from slmbench.engines.serving import ServerBatches, ServerFailure, _client, meet
from slmbench.engines.serving._link import ServerLink
from slmbench.errors import DataError, EngineError, SlmbenchError, TrustError, UsageError
from slmbench.models import load_unread, resolve_model
from tests.stand_ins.model_server import Answer, Hang, ModelServer, serving

KEY = "sk-not-for-any-log-1234567890"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_client, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(_client, "LONGEST_WAIT_S", 0.2)
    monkeypatch.setattr(_client, "_TICK_S", 0.05)


@pytest.fixture(scope="module")
def unread() -> Any:
    return load_unread(resolve_model("nano", default_catalog()))


Odd = Callable[[int, Any, Any], Any]
"""(number of the text that is asked for, its body, the handler) -> what is answered in its place, None for a text."""


@pytest.fixture(scope="module")
def answering(unread: Any) -> Any:
    """answering(odd) -> a server whose texts are "ok" plus the prompt's last word, but for what odd gives."""

    def make(odd: Odd | None = None) -> Any:
        count = [-1]  # The first one is the probe of the meeting.

        def answer(path: str, body: Any, handler: Any) -> Any:
            if path == "/v1/models":
                return {"data": [{"id": "m"}]}
            if path != "/v1/completions":
                raise Answer(404, {"error": {"message": "not here"}})
            number = count[0]
            count[0] += 1
            if number >= 0 and odd is not None and (found := odd(number, body, handler)) is not None:
                return found
            return good(unread, body)

        return serving(answer)

    return make


def good(unread: Any, body: Any, **changed: Any) -> Any:
    read = len(unread.tokenizer.encode(body["prompt"], add_special_tokens=False))
    choice = {"text": f" ok {body['prompt'].split()[-1]}", "finish_reason": "stop", "index": 0} | changed
    return {"choices": [choice], "usage": {"prompt_tokens": read, "completion_tokens": 3}}


def asked_of(unread: Any, n: int = 1, until: tuple[str, ...] = ()) -> list[WriteRequest]:
    texts = [f"Say the word w{at}" for at in range(n)]
    kwargs = {"until": list(until), "do_sample": False, "max_gen_toks": 8}
    encode = unread.tokenizer.encode
    return [WriteRequest(("t", at), text, encode(text), dict(kwargs)) for at, text in enumerate(texts)]


def met(unread: Any, server: ModelServer | str, batch: int = 1, **options: Any) -> ServerBatches:
    url = server if isinstance(server, str) else server.url
    chosen = EngineOptions("server", batch, server=ServerOptions(url, **({"timeout_s": 30.0} | options)))
    return ServerBatches(meet(unread, chosen), 0)


def failing(unread: Any, server: ModelServer, kind: type[SlmbenchError] = EngineError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        list(met(unread, server, **options).write(asked_of(unread)))
    assert "'t', item 0" in str(caught.value)
    return str(caught.value)


def raising(answer: Any) -> Odd:
    def odd(*_: Any) -> Any:
        raise answer

    return odd


def test_texts_come_back_each_under_its_own_request(unread: Any, answering: Any) -> None:
    with answering() as server:
        found = dict(met(unread, server, batch=3).write(asked_of(unread, 8)))
    assert {at: one.text for at, one in found.items()} == {at: f" ok w{at}" for at in range(8)}
    assert {(one.finish_reason, one.tokens_out, one.plain) for one in found.values()} == {("eos", 3, "")}


@pytest.mark.parametrize("batch", [1, 3])
def test_no_more_requests_are_under_way_than_the_batch_says(unread: Any, answering: Any, batch: int) -> None:
    def slow(*_: Any) -> Any:
        time.sleep(0.03)

    with answering(slow) as server:
        list(met(unread, server, batch=batch).write(asked_of(unread, 9)))
    assert server.most_at_once == batch


ODD_ANSWERS = [
    (b"<html>hello</html>", "isn't JSON"),
    (b'{"choices": [{"text": "cut o', "isn't JSON"),
    (b'data: {"choices": [{"text": "a"}]}\n\ndata: [DONE]\n\n', "isn't JSON"),
    (b"\xff\xfe\x00garbage\x1b[31m", "not UTF-8"),
    (b"", "it is empty"),
    (b"[" * 100_000, "isn't JSON"),
    ({}, "field choices is missing"),
    ({"choices": []}, "choices"),
    ({"choices": "none"}, "choices"),
    ({"choices": [{"text": 5, "finish_reason": "stop"}]}, "text"),
    ({"choices": [{"finish_reason": "stop"}]}, "text is missing"),
    ({"choices": [{"text": "a", "finish_reason": "tired"}]}, "'tired', which is neither stop nor length"),
    ({"choices": [{"text": "a", "finish_reason": None}]}, "without a reason"),
    ({"choices": [{"text": "a", "finish_reason": "stop"}], "usage": {"prompt_tokens": -1}}, "prompt_tokens"),
    ({"error": "out of memory"}, "field choices is missing"),
]


@pytest.mark.parametrize(("body", "said"), ODD_ANSWERS, ids=[said for _, said in ODD_ANSWERS])
def test_an_answer_that_is_none_is_named_with_its_item(unread: Any, answering: Any, body: Any, said: str) -> None:
    with answering(raising(Answer(200, body))) as server:
        told = failing(unread, server)
    assert said in told and "/v1/completions" in told and "answers before it are kept" in told
    assert told.isprintable()


def test_a_body_without_end_is_read_as_far_as_an_answer_may_go(unread: Any, answering: Any) -> None:
    sent = [0]

    def endless(_: int, __: Any, handler: Any) -> Any:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**9))
        handler.end_headers()
        block = b" " * 1_000_000
        while sent[0] < 10**9:
            handler.wfile.write(block)
            sent[0] += len(block)
        raise Hang

    with answering(endless) as server:
        assert "more than 32 MB" in failing(unread, server)
    assert sent[0] < 80_000_000


def test_a_server_that_hangs_is_left_after_the_timeout(unread: Any, answering: Any) -> None:
    free = threading.Event()

    def hang(*_: Any) -> Any:
        free.wait(20)
        raise Hang

    with answering(hang) as server:
        began = time.monotonic()
        assert "no whole answer within 0.3 seconds; --timeout" in failing(unread, server, timeout_s=0.3)
        assert time.monotonic() - began < 5
        free.set()


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_server_that_dribbles_is_left_after_the_timeout_too(unread: Any, answering: Any, part: str) -> None:
    def dribble(_: int, __: Any, handler: Any) -> Any:
        if part == "body":
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
        for _at in range(100):
            handler.wfile.write(b"HTTP/1.1 200 OK"[:1] if part == "head" else b" ")
            time.sleep(0.1)
        raise Hang

    with answering(dribble) as server:
        began = time.monotonic()
        assert "no whole answer within 0.5 seconds" in failing(unread, server, timeout_s=0.5)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"])
def test_a_connection_that_breaks_is_tried_again_a_few_times(unread: Any, answering: Any, sent: bytes) -> None:
    tries: list[int] = []

    def broken(number: int, _: Any, handler: Any) -> Any:
        tries.append(number)
        handler.wfile.write(sent)
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        raise Hang

    with answering(broken) as server:
        assert "the connection broke" in failing(unread, server)
    assert len(tries) == _client.TRIES


def test_500_for_ever_ends_after_a_few_tries_with_what_the_server_says(unread: Any, answering: Any) -> None:
    with answering(raising(Answer(500, {"error": {"message": "CUDA out of\nmemory\x1b[2J"}}))) as server:
        told = failing(unread, server)
        assert "HTTP 500 (CUDA out of memory" in told and f"{_client.TRIES} times in a row" in told
        assert "\x1b" not in told
    assert server.paths().count("/v1/completions") == 1 + _client.TRIES


@pytest.mark.parametrize("status", [429, 500, 503])
def test_two_errors_and_then_an_answer_is_an_answer(unread: Any, answering: Any, status: int) -> None:
    def twice(number: int, *_: Any) -> Any:
        if number < 2:
            raise Answer(status, {"error": "busy"})

    with answering(twice) as server:
        assert [one.text for _, one in met(unread, server).write(asked_of(unread))] == [" ok w0"]


def test_retry_after_is_waited_for_within_a_bound(unread: Any, answering: Any) -> None:
    times: list[float] = []

    def busy(number: int, *_: Any) -> Any:
        times.append(time.monotonic())
        if number < 2:
            raise Answer(429, {}, Retry_After="0.1" if number == 0 else "86400")

    with answering(busy) as server:
        list(met(unread, server).write(asked_of(unread)))
    first, second = (after - before for before, after in itertools.pairwise(times[:3]))
    assert 0.1 <= first < 2 and _client.LONGEST_WAIT_S <= second < 2


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_the_server_refuses_is_that_items_fault_alone(unread: Any, answering: Any, status: int) -> None:
    with answering(raising(Answer(status, {"error": {"message": "context length is 10 tokens"}}))) as server:
        assert f"HTTP {status} (context length is 10 tokens)" in failing(unread, server, DataError)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(unread: Any, answering: Any, status: int) -> None:
    with answering() as other:
        away = Answer(status, {}, Location=f"{other.url}/v1/completions")
        with answering(raising(away)) as server:
            assert f"HTTP {status}; it leads to {other.url}" in failing(unread, server)
        assert other.asked == []


def test_an_answer_that_is_packed_unasked_is_refused(unread: Any, answering: Any) -> None:
    with answering(raising(Answer(200, b"\x1f\x8b", Content_Encoding="gzip"))) as server:
        assert "its answer is packed (gzip), unasked" in failing(unread, server)


def test_a_wrong_content_type_is_no_fault_of_a_right_answer(unread: Any, answering: Any) -> None:
    def html(_: int, body: Any, __: Any) -> Any:
        raise Answer(200, good(unread, body), Content_Type="text/html")

    with answering(html) as server:
        assert [one.text for _, one in met(unread, server).write(asked_of(unread))] == [" ok w0"]


def test_what_is_finished_is_given_before_the_error(unread: Any, answering: Any) -> None:
    def fourth(number: int, *_: Any) -> Any:
        if number >= 3:
            raise Answer(500, {})

    with answering(fourth) as server:
        found = []
        with pytest.raises(EngineError, match="item 3"):
            for at, _ in met(unread, server).write(asked_of(unread, 6)):
                found.append(at)
    assert found == [0, 1, 2]


def test_an_end_in_the_middle_waits_for_no_answer(unread: Any, answering: Any) -> None:
    free = threading.Event()

    def slow(number: int, *_: Any) -> Any:
        if number:
            free.wait(20)

    with answering(slow) as server:
        answers = met(unread, server, batch=2).write(asked_of(unread, 6))
        next(answers)
        began = time.monotonic()
        answers.close()
        assert time.monotonic() - began < 2
        free.set()


def nothing_there() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_a_port_with_nothing_behind_is_told_at_once(unread: Any) -> None:
    url = nothing_there()
    with pytest.raises(ServerFailure, match="nothing answers there: Connection refused") as caught:
        met(unread, url)
    assert url in str(caught.value)


def test_https_on_a_port_that_speaks_http_is_told(unread: Any, answering: Any) -> None:
    with answering() as server, pytest.raises(ServerFailure, match="no secure connection") as caught:
        met(unread, server.url.replace("http:", "https:"))
    assert "it may speak http://, not https://" in str(caught.value)


@pytest.fixture
def babbling() -> Iterator[str]:
    """A port that speaks no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def babble() -> None:
            try:
                while True:
                    made, _ = listening.accept()
                    made.recv(65536)
                    made.sendall(b"\x15\x03\x03\x00\x02\x02\x28")
                    made.close()
            except OSError:
                pass

        threading.Thread(target=babble, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_what_speaks_no_http_is_told(unread: Any, babbling: str) -> None:
    with pytest.raises(ServerFailure, match="doesn't speak HTTP"):
        met(unread, babbling)


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/", "/v1/completions"])
def test_an_address_may_end_with_v1_or_not(unread: Any, answering: Any, end: str) -> None:
    with answering() as server:
        assert len(list(met(unread, server.url + end).write(asked_of(unread)))) == 1


def test_an_address_may_have_a_path_before_v1() -> None:
    assert address_of(ServerOptions("http://localhost:8000/models/a/v1")).told("/v1/models") == (
        "http://localhost:8000/models/a/v1/models"
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:8000", "did you mean http://127.0.0.1:8000?"),
        ("ftp://127.0.0.1", "begins with neither http:// nor https://"),
        ("http://", "names no host"),
        ("http://127.0.0.1:99999", "Port out of range"),
        ("http://127.0.0.1:x", "Port could not be cast"),
        ("http://127.0.0.1:1/?key=1", "leave out what begins with ? or #"),
        ("http://127.0.0.1 :1", "names no host|no host"),
        ("http://no-such-host.invalid", "there is no host"),
    ],
)
def test_an_address_that_is_none_is_named(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        address_of(ServerOptions(url))


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    for url in (f"http://user:{KEY}@127.0.0.1:1", f"http://{KEY}@127.0.0.1", f"{KEY}@127.0.0.1:80"):
        with pytest.raises(UsageError, match="--api-key-env") as caught:
            address_of(ServerOptions(url))
        assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["93.184.216.34", "10.0.0.1", "192.168.1.2", "[2001:db8::1]", "0.0.0.0", "169.254.169.254", "[::]"]
)
def test_another_machine_is_not_asked_unless_that_is_allowed(host: str) -> None:
    with pytest.raises(TrustError, match="is another machine, which would be sent all prompts; allow it by"):
        address_of(ServerOptions(f"http://{host}:8000"))
    assert not address_of(ServerOptions(f"http://{host}:8000", allow_remote=True)).loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1", "[::ffff:127.0.0.1]"])
def test_this_machine_is_asked(host: str) -> None:
    assert address_of(ServerOptions(f"http://{host}:8000")).loopback


def test_a_name_that_leads_elsewhere_by_the_time_it_is_asked_gets_nothing(
    unread: Any, answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering() as server:
        monkeypatch.setattr(_client, "is_loopback", lambda address: False)
        with pytest.raises(TrustError, match="leads to another machine by now"):
            met(unread, server)
        assert server.asked == []


def test_proxies_of_the_environment_are_not_taken(unread: Any, answering: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, nothing_there())
    monkeypatch.delenv("no_proxy", raising=False)
    with answering() as server:
        assert len(list(met(unread, server).write(asked_of(unread)))) == 1


def test_the_key_goes_with_each_request_and_is_in_no_message(
    unread: Any, answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_KEY", KEY)
    with answering(raising(Answer(500, {"error": f"wrong key {KEY}"}))) as server:
        told = failing(unread, server, api_key_env="LOCAL_KEY")
        assert {headers["Authorization"] for _, _, headers in server.asked} == {f"Bearer {KEY}"}
    assert KEY not in told and "repeats the API key" in told


def test_without_a_key_none_is_sent(unread: Any, answering: Any) -> None:
    with answering() as server:
        list(met(unread, server).write(asked_of(unread)))
        assert not any("Authorization" in headers for _, _, headers in server.asked)


def test_a_variable_that_is_no_name_or_holds_no_key_is_refused_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ODD_KEY", f"{KEY}\nX-Other: 1")
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    for name, said in ((KEY, "and not the key itself"), ("NO_SUCH_KEY", "is not set"), ("ODD_KEY", "can't be a key")):
        with pytest.raises(UsageError, match=said) as caught:
            ServerOptions("http://127.0.0.1", api_key_env=name).check()
        assert KEY not in str(caught.value)


def test_a_key_that_is_asked_for_is_told(unread: Any) -> None:
    def locked(*_: Any) -> Any:
        raise Answer(401, {"error": "who is it?"})

    with serving(locked) as server, pytest.raises(EngineError, match=r"HTTP 401.*give its key by --api-key-env"):
        met(unread, server)


@pytest.mark.parametrize(
    ("owner", "told"), [("vllm", "vLLM 0.32.0"), ("somebody", "stand-in/1.0, version 0.32.0")], ids=["vllm", "other"]
)
def test_a_server_is_called_as_it_calls_itself(unread: Any, owner: str, told: str) -> None:
    def answer(path: str, body: Any, _: Any) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": "m", "owned_by": owner, "max_model_len": 500, "created": time.time_ns()}]}
        if path == "/version":
            return {"version": "0.32.0"}
        if path != "/v1/completions":
            raise Answer(404, {})
        return good(unread, body)

    with serving(answer) as server:
        engine = met(unread, server)
    assert engine.loaded.served == {
        "name": "m",
        "api": "/v1/completions",
        "where": "this machine",
        "server": told,
        "said": {"max_model_len": 500, "owned_by": owner},
    }
    assert engine.max_length == 500 - 2


@pytest.mark.parametrize(
    ("models", "served", "said"),
    [
        ([], None, "--served: say what .* calls the model; it lists none"),
        (["a", "b"], None, "it has 2: a, b"),
        (["qwen", "b"], "qwem", "has no model 'qwem'; did you mean 'qwen'"),
    ],
)
def test_a_model_that_the_server_lacks_is_named(unread: Any, models: list[str], served: Any, said: str) -> None:
    def listing(path: str, *_: Any) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": name} for name in models]}
        raise Answer(404, {})

    with serving(listing) as server, pytest.raises(UsageError, match=said):
        met(unread, server, served=served)


def test_a_server_without_a_raw_interface_is_named_with_what_was_tried(unread: Any) -> None:
    def chat_alone(path: str, *_: Any) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": "m"}]}
        raise Answer(404, {"detail": "Not Found"})

    with serving(chat_alone) as server, pytest.raises(EngineError, match="no interface that takes a prompt as it is"):
        met(unread, server)


def test_a_server_that_puts_a_template_around_a_prompt_is_refused(unread: Any) -> None:
    def wrapped(path: str, body: Any, _: Any) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": "m"}]}
        if path != "/v1/completions":
            raise Answer(404, {})
        return good(unread, body | {"prompt": f"<user> {body['prompt']} <assistant> a a"})

    with serving(wrapped) as server, pytest.raises(EngineError, match="it puts a template around it, or has a model"):
        met(unread, server)


def test_a_server_that_takes_openais_own_fields_alone_is_asked_with_these(unread: Any) -> None:
    own = {"model", "prompt", "max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "stream"}

    def strict(path: str, body: Any, _: Any) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": "m"}]}
        if path != "/v1/completions":
            raise Answer(404, {})
        if odd := sorted(set(body) - own - {"seed", "stop"}):
            raise Answer(400, {"error": {"message": f"unknown field {odd[0]}"}})
        return good(unread, body)

    with serving(strict) as server:
        engine = met(unread, server)
        assert [one.text for _, one in engine.write(asked_of(unread, until=("\n",)))] == [" ok w0"]
        assert "OpenAI's own fields alone" in " ".join(engine.loaded.notices)
        assert json.dumps(server.asked[-1][1]["stop"]) == '["\\n"]'


def test_choices_are_refused_by_their_tasks_where_no_log_probabilities_of_prompts_come_back(
    unread: Any, answering: Any
) -> None:
    with answering() as server:
        chosen = EngineOptions("server", 1, server=ServerOptions(server.url))
        with pytest.raises(
            UsageError, match=r"hold, and hellaswag, boolq need them .choices, or --perplexity.; leave that out"
        ):
            meet(unread, chosen, ["hellaswag", "boolq"])


def test_log_probabilities_of_another_place_are_found_out(unread: Any) -> None:
    """As llama-cpp-python 0.3 gives them where a model's tokenizer puts no BOS before a text."""
    tokenizer = unread.tokenizer

    def shifted(path: str, body: Any, _: Any) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": "m"}]}
        if path != "/v1/completions":
            raise Answer(404, {})
        prompt = body["prompt"]
        ids = prompt if isinstance(prompt, list) else tokenizer.encode(prompt, add_special_tokens=False)
        made = tokenizer.encode(" the patient is")[: body["max_tokens"]]
        values = [-1.0 - at % 5 for at in range(len(ids) + len(made))]
        listed = [*ids, *made] if body.get("echo") else made
        chances = [*values[1:], -9.0][-len(listed) :] if body.get("echo") else values[len(ids) :]
        logprobs = {
            "tokens": [tokenizer.decode([one]) for one in listed],
            "token_logprobs": chances,
            "top_logprobs": [{"a": one} for one in chances],
        }
        choice = {"text": tokenizer.decode(made), "finish_reason": "length", "logprobs": logprobs}
        return {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": len(made)}}

    with serving(shifted) as server:
        chosen = EngineOptions("server", 1, server=ServerOptions(server.url))
        with pytest.raises(UsageError, match="no log-probabilities of a prompt's tokens that hold"):
            meet(unread, chosen, ["t"])


def test_latency_asks_one_after_another_after_one_that_warms_up(unread: Any, answering: Any) -> None:
    def slow(*_: Any) -> Any:
        time.sleep(0.02)

    with answering(slow) as server:
        options = EngineOptions("server", 4, latency=True, server=ServerOptions(server.url))
        engine = options.registered.function(meet(unread, options), options, 0)
        found = dict(engine.write(asked_of(unread, 3)))
        texts = [body["max_tokens"] for path, body, _ in server.asked if path == "/v1/completions"]
    assert server.most_at_once == 1
    assert texts == [1, 1, 8, 8, 8]  # The meeting's, the one that warms up, and those that count.
    assert all(one.latency_ms >= 20 for one in found.values())


def test_the_speed_of_a_server_is_measured_and_no_size_of_weights_is_claimed(unread: Any, answering: Any) -> None:
    from slmbench.engines.speed import measured_speed

    with answering() as server:
        engine = met(unread, server)
        speed = measured_speed(engine, engine.loaded)
        read = {len(unread.tokenizer.encode(body["prompt"])) for _, body, _ in server.asked if body is not None}
    assert speed.prefill_tokens_per_s and speed.model_B is None and speed.load_s is None
    assert max(read) > 200


def test_a_drawn_text_has_a_seed_of_its_own_whatever_the_batch_is(unread: Any, answering: Any) -> None:
    def seeds(batch: int, seed: int = 0) -> dict[str, Any]:
        requests = asked_of(unread, 3)
        for one in requests:
            one.kwargs.update(do_sample=True, temperature=0.7, top_p=0.9)
        with answering() as server:
            options = EngineOptions("server", batch, server=ServerOptions(server.url))
            list(ServerBatches(meet(unread, options), seed).write(requests))
            sent = [body for path, body, _ in server.asked if path == "/v1/completions"][1:]
        assert {(one["temperature"], one["top_p"], one["top_k"]) for one in sent} == {(0.7, 0.9, 50)}
        return {one["prompt"]: one["seed"] for one in sent}

    first = seeds(1)
    assert len(set(first.values())) == 3
    assert seeds(3) == first
    assert set(seeds(1, seed=1).values()).isdisjoint(first.values())


def test_a_prompt_that_is_too_long_is_cut_on_its_left(unread: Any, answering: Any) -> None:
    text = "one two three " * 600 + "the end"
    ids = unread.tokenizer.encode(text)
    request = WriteRequest(("t", 0), text, ids, {"until": [], "do_sample": False, "max_gen_toks": 8})
    with answering() as server:
        engine = met(unread, server)
        list(engine.write([request]))
        sent = server.asked[-1][1]["prompt"]
    assert unread.tokenizer.encode(sent, add_special_tokens=False) == ids[-(engine.max_length - 8) :]
    assert sent.endswith("the end")


@pytest.mark.parametrize(
    ("adds_bos", "text", "has_bos", "sent", "reads"),
    [
        (True, "a b", True, "a b", 0),
        (True, "<s>a b", True, "a b", 0),
        (False, "a b", True, "<s>a b", 0),
        (False, "<s>a b", True, "<s>a b", 0),
        (False, "a b", False, "a b", 0),
        (True, "a b", False, "a b", 1),  # It can't be kept from it; that its tokens are others is told.
    ],
)
def test_a_prompt_has_one_bos_whoever_puts_it_there(
    nano_tokenizer: Any, adds_bos: bool, text: str, has_bos: bool, sent: str, reads: int
) -> None:
    tokenizer = copy.deepcopy(nano_tokenizer)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    bare = tokenizer.encode(text.removeprefix("<s>"), add_special_tokens=False)
    ids = [tokenizer.bos_token_id, *bare] if has_bos else bare
    link: Any = ServerLink(Any, Any, adds_bos=adds_bos, window=None)  # type: ignore[arg-type]
    assert link.sent(tokenizer, text, ids) == (sent, len(ids) + reads)


STOPS = ("\n\n", "END", "Q:", "###", "Note:", "five")


@pytest.mark.parametrize(
    ("text", "wanted", "reason"),
    [
        ("one two", "one two", "stop"),
        ("one END two Note: three", "one ", "stop"),
        ("a five b", "a ", "stop"),  # Beyond the four that a server takes.
        ("Note: at once", "", "stop"),
    ],
)
def test_texts_are_cut_at_the_first_stop_also_at_those_that_were_not_sent(
    unread: Any, answering: Any, text: str, wanted: str, reason: str
) -> None:
    with answering(lambda _, body, __: good(unread, body, text=text)) as server:
        [(_, found)] = met(unread, server).write(asked_of(unread, until=STOPS))
        assert server.asked[-1][1]["stop"] == list(STOPS[:4])
    assert (found.text, found.finish_reason) == (wanted, reason)


def test_a_stop_that_the_server_tells_from_its_own_end_is_told_apart(unread: Any, answering: Any) -> None:
    for said, reason in ((None, "eos"), ("\n\n", "stop"), (unread.tokenizer.eos_token_id, "eos")):
        with answering(lambda _, body, __, said=said: good(unread, body, stop_reason=said)) as server:
            [(_, found)] = met(unread, server).write(asked_of(unread, until=STOPS))
        assert (found.finish_reason, found.plain) == (reason, "")


def test_a_server_that_doesnt_tell_them_apart_is_told_of(unread: Any, answering: Any) -> None:
    with answering() as server:
        [(_, found)] = met(unread, server).write(asked_of(unread, until=STOPS))
    assert found.finish_reason == "stop" and "doesn't tell a stop string from the model's own end" in found.plain


def test_another_number_of_tokens_read_and_none_counted_are_told_of(unread: Any, answering: Any) -> None:
    def uncounted(_: int, body: Any, __: Any) -> Any:
        return good(unread, body) | {"usage": {"prompt_tokens": 3}}

    with answering(uncounted) as server:
        [(_, found)] = met(unread, server).write(asked_of(unread))
    assert "another number of tokens" in found.plain and "counted by the tokenizer here" in found.plain
    assert found.tokens_out == len(unread.tokenizer.encode(" ok w0", add_special_tokens=False))
