"""`slmbench doctor --for MODEL`: what a model takes here, packed in every way, and what it would do a second."""

from __future__ import annotations

import json

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.deployment import capacity
from slmbench.engines.options import EngineOptions
from slmbench.engines.speed import READ_TOKENS, WRITTEN_TOKENS, measured_speed
from slmbench.models import load_model, resolve_model


def test_each_packing_has_the_bytes_of_its_bits_and_fewer_bits_write_sooner() -> None:
    found = capacity("nano", default_catalog())
    numbers = load_model(resolve_model("nano", default_catalog())).parameters
    assert (found.parameters, found.layers, found.context_tokens) == (numbers, 4, 1024)
    by_packing = {one.packing: one for one in found.fits}
    assert by_packing["float32"].file_bytes == 4 * numbers
    assert by_packing["q8_0"].file_bytes == int(numbers * 8.5 / 8)
    # Keys and values: two, of 2 bytes, of 2,048 tokens, 4 layers and 128 numbers.
    more = by_packing["q8_0"].memory_bytes - by_packing["q8_0"].file_bytes - 2 * 2 * 2048 * 4 * 128
    assert 150e6 < more < 160e6
    # Beside float32 weights they are of 4 bytes.
    whole = by_packing["float32"].memory_bytes - by_packing["float32"].file_bytes - 2 * 4 * 2048 * 4 * 128
    assert whole == more
    rates = [one.decode_tokens_per_s for one in found.fits]
    assert rates == sorted(rates) and rates[0] > 0
    assert found.bytes_per_s > 1e8 and found.flops > 1e8


def test_it_is_shown_and_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--for", "nano", "--json"]) == 0
    assert {one["packing"] for one in json.loads(capsys.readouterr().out)["fits"]} >= {"float32", "q4_k_m"}
    assert main(["doctor", "--for", "nosuch"]) == 2
    assert "unknown model 'nosuch'" in capsys.readouterr().err


def test_one_streams_speed_is_of_what_was_read_and_written() -> None:
    loaded = load_model(resolve_model("nano", default_catalog()))
    chosen = EngineOptions("shared", batch=1)
    engine = chosen.registered.function(loaded, chosen, 0)
    asked: list[tuple[int, int]] = []

    class Counting:
        max_length = engine.max_length

        def write(self, requests):
            asked.extend((len(one.prompt), one.kwargs["max_gen_toks"]) for one in requests)
            return engine.write(requests)

    found = measured_speed(Counting(), loaded)
    assert set(asked) == {(READ_TOKENS, 1), (READ_TOKENS, 1 + WRITTEN_TOKENS)}
    assert found.prefill_tokens_per_s is not None and found.prefill_tokens_per_s > 0
    assert found.decode_tokens_per_s is None or found.decode_tokens_per_s > 0
    assert found.load_s is not None and found.load_s > 0 and found.model_B == 1_972_408
