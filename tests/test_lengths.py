"""Lengths in tokens: as the tokenizer counts one by one, and percentiles as numpy has them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.catalog import default_catalog
from slmbench.errors import UsageError
from slmbench.formats import load_format, prompt_ids
from slmbench.lengths import Ruler, open_ruler, percentile
from slmbench.paths import package_dir

TEXTS = ["", "one", "two words", "one", "発熱 \n\n", "x" * 5000, "<|end|> in a text"]


def _with_bos(tokenizer: Any) -> Any:
    """The tokenizer as one that puts BOS before every text."""
    import copy

    from tokenizers import processors

    again = copy.deepcopy(tokenizer)
    again.bos_token = again.eos_token
    bos = (again.eos_token, again.eos_token_id)
    again.backend_tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    return again


def test_lengths_are_those_of_the_tokenizer(nano_tokenizer: Any) -> None:
    assert Ruler("nano", nano_tokenizer).lengths(TEXTS) == [len(nano_tokenizer.encode(text)) for text in TEXTS]
    assert Ruler("nano", nano_tokenizer).lengths([]) == []


def test_bos_counts_once_and_only_where_it_is_asked_for(nano_tokenizer: Any) -> None:
    tokenizer = _with_bos(nano_tokenizer)
    texts = ["one", tokenizer.bos_token + "one"]
    assert tokenizer.encode("one")[0] == tokenizer.bos_token_id
    ruler = Ruler("bos", tokenizer)
    assert ruler.lengths(texts) == [len(prompt_ids(load_format("plain"), tokenizer, text)) for text in texts]
    assert ruler.lengths(texts, special_tokens=False) == [ruler.lengths(texts)[0] - 1, ruler.lengths(texts)[1]]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300), st.sampled_from([0, 1, 50, 90, 99, 100]))
def test_percentiles_are_numpys_inverted_cdf(lengths: list[int], percent: int) -> None:
    assert percentile(lengths, percent) == np.percentile(lengths, percent, method="inverted_cdf")


def test_no_lengths_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no lengths"):
        percentile([], 50)


def test_a_registry_name_brings_its_context() -> None:
    ruler = open_ruler("nano", default_catalog())
    assert (ruler.model, ruler.context_tokens) == ("nano", 1024)


def test_a_models_folder_brings_the_context_of_its_config() -> None:
    ruler = open_ruler(os.path.join(package_dir(), "nano", "model"), default_catalog())
    assert (ruler.model, ruler.context_tokens) == ("model", 1024)


def test_a_folder_with_a_tokenizer_alone_will_do(tmp_path: Path, nano_tokenizer: Any) -> None:
    nano_tokenizer.save_pretrained(tmp_path / "words")
    ruler = open_ruler(str(tmp_path / "words"), default_catalog())
    assert ruler.model == "words" and ruler.lengths(TEXTS) == Ruler("nano", nano_tokenizer).lengths(TEXTS)


def test_an_unknown_model_is_a_usage_error_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'nano'"):
        open_ruler("nono", default_catalog())
