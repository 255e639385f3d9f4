"""The heads against plain scikit-learn and numpy, and the base's hidden states against transformers' own."""

from __future__ import annotations

import json

import numpy as np
import pytest
from attrs import evolve

from slmbench.errors import UsageError
from slmbench.models import adapter_on, read_adapter
from slmbench.routing import fit_router
from slmbench.routing._features import MAX_TOKENS, BaseFeatures
from slmbench.routing._heads import Labeled
from slmbench.routing._hidden import layer_of
from slmbench.routing.arrow import ArrowHead, directions_of
from slmbench.routing.centroid import CentroidHead
from slmbench.routing.length import LengthHead
from slmbench.routing.logistic import LogisticHead
from slmbench.routing.tfidf import TfidfHead

TEXTS = ["What is 3 + 4?", "a", "The patient, 61, has had a cough for nine days.", "word " * 300, "Who?", ""]


@pytest.fixture(scope="module")
def rows(texts):
    return Labeled(
        [text for one in texts for text in one.fit], [k for k, one in enumerate(texts) for _ in one.fit], len(texts)
    )


@pytest.fixture(scope="module")
def asked(texts):
    return [text for one in texts for text in one.validation]


def _own_means(loaded, texts, layer):
    """By transformers' own `output_hidden_states`, a text at a time."""
    import torch

    core = loaded.model
    seq2seq = core.config.is_encoder_decoder
    found = []
    for text in texts:
        ids = torch.tensor([loaded.tokenizer(text)["input_ids"][:MAX_TOKENS]])
        with torch.no_grad():
            stack = core.get_encoder() if seq2seq else core
            states = stack(input_ids=ids, output_hidden_states=True).hidden_states[layer][0]
        found.append((states if seq2seq or len(states) == 1 else states[1:]).mean(0).float().numpy())
    return np.stack(found)


@pytest.mark.parametrize("layer", [1, 2])
def test_means_are_those_of_the_hidden_states_that_transformers_gives(base, layer):
    found = BaseFeatures(base).means(TEXTS, layer)
    wanted = _own_means(base, TEXTS[:-1], layer)
    assert np.abs(found[:-1] - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert not found[-1].any()


def test_of_an_encoder_decoder_the_encoder_alone_is_read(tiny_t5):
    loaded = tiny_t5()
    found = BaseFeatures(loaded).means(TEXTS[:4], 1)
    wanted = _own_means(loaded, TEXTS[:4], 1)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert BaseFeatures(loaded).layers == 2 and not BaseFeatures(loaded).has("decoder.block.0.layer.0.SelfAttention.q")


def test_layers_above_the_one_that_is_read_are_not_computed(base):
    core, ran = base.model, []
    last = core.base_model.layers[-1]
    handle = last.register_forward_hook(lambda *_: ran.append(1))
    try:
        BaseFeatures(base).means(TEXTS[:2], 1)
        assert ran == []
        BaseFeatures(base).means(TEXTS[:2], BaseFeatures(base).layers)
        assert ran == [1]
    finally:
        handle.remove()


def test_what_else_is_in_the_batch_changes_nothing_but_rounding(base):
    alone = np.concatenate([BaseFeatures(base).means([text], 2) for text in TEXTS])
    together = BaseFeatures(base).means(TEXTS, 2)
    assert np.abs(alone - together).max() < 1e-5 * np.abs(together).max()


def test_the_centroid_head_is_the_nearest_mean_by_plain_numpy(base, rows, asked):
    features = BaseFeatures(base, keep=True)
    head = CentroidHead.fit(rows, features)
    train, test = (features.means(texts, layer_of(features)).astype(np.float64) for texts in (rows.texts, asked))
    middle, spread = train.mean(0), train.std(0)
    scaled = (train - middle) / spread
    centres = np.stack([scaled[np.array(rows.labels) == k].mean(0) for k in range(3)])
    scaled = (test - middle) / spread
    cosines = np.einsum("nd,cd->nc", scaled, centres) / np.outer(
        np.linalg.norm(scaled, axis=1), np.linalg.norm(centres, axis=1)
    )
    shares = head.shares(asked, features)
    assert np.log(shares)[:, 1:] - np.log(shares)[:, :1] == pytest.approx(
        10 * (cosines[:, 1:] - cosines[:, :1]), abs=1e-3
    )
    assert (shares.argmax(1) == cosines.argmax(1)).all()


def test_the_logistic_head_is_scikit_learns_pipeline(base, rows, asked):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = BaseFeatures(base, keep=True)
    head = LogisticHead.fit(rows, features)
    train, test = (features.means(texts, layer_of(features)) for texts in (rows.texts, asked))
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
    plain.fit(train, rows.labels)
    assert head.shares(asked, features) == pytest.approx(plain.predict_proba(test), abs=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_tfidf_head_is_scikit_learns_pipeline(rows, asked, classes):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    kept = [(text, label) for text, label in zip(rows.texts, rows.labels, strict=True) if label < classes]
    some, labels = [text for text, _ in kept], [label for _, label in kept]
    plain = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True),
        ),
        LogisticRegression(C=10, class_weight="balanced", max_iter=2000),
    ).fit(some, labels)
    head = TfidfHead.fit(Labeled(some, labels, classes))
    assert head.shares(asked, None) == pytest.approx(plain.predict_proba(asked), abs=1e-3)
    again = TfidfHead.load(head.arrays, head.settings, classes)
    assert (again.shares(asked, None) == head.shares(asked, None)).all()


def test_the_length_head_sees_nothing_but_the_length(rows):
    head = LengthHead.fit(rows)
    first, second = head.shares(["abcdef", "uvwxyz"], None)
    assert (first == second).all()
    sizes = np.log1p([len(text) for text in rows.texts])
    assert head.means == pytest.approx([sizes[np.array(rows.labels) == k].mean() for k in range(3)])


def test_directions_are_the_top_right_singular_vectors_of_the_whole_change(adapters):
    from peft.utils.save_and_load import load_peft_weights

    for info in adapters.values():
        weights, found = load_peft_weights(info.folder), directions_of(info)
        assert len(found) == len(weights) / 2
        for module, vector in found.items():
            a, b = (weights[f"base_model.model.{module}.lora_{part}.weight"].double() for part in "AB")
            wanted = np.linalg.svd((b @ a).numpy())[2][0]
            assert abs(vector @ wanted) == pytest.approx(1, abs=1e-6)


def test_strengths_are_the_mean_of_what_each_layer_reads_along_a_direction(base, adapters):
    import torch

    features = BaseFeatures(base)
    found = {
        f"{k}:{module}": v for k, info in enumerate(adapters.values()) for module, v in directions_of(info).items()
    }
    strengths = features.strengths(TEXTS, found)
    assert strengths.shape == (len(TEXTS), len(found)) and not strengths[-1].any()
    for column in (0, len(found) // 2, len(found) - 1):
        key, vector = list(found.items())[column]
        module, seen = base.model.get_submodule(key.partition(":")[2]), []
        handle = module.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0][0]))
        with torch.no_grad():
            base.model(input_ids=torch.tensor([base.tokenizer(TEXTS[2])["input_ids"]]))
        handle.remove()
        wanted = np.abs(seen[0][1:].numpy() @ vector).mean()
        assert strengths[2, column] == pytest.approx(wanted, rel=1e-4)


def test_arrow_finds_the_adapter_whose_direction_a_text_has(base, adapters):
    features = BaseFeatures(base)
    head = ArrowHead.fit(adapters, range(3), features)
    shares = head.shares(TEXTS, features)
    assert shares.shape == (len(TEXTS), 3) and shares.sum(1) == pytest.approx(1)
    again = ArrowHead.load(head.arrays, head.settings, 3)
    assert again.shares(TEXTS, features) == pytest.approx(shares, abs=1e-6)
    two = ArrowHead.fit(adapters, [0, 1, 2, 2], features).shares(TEXTS, features)
    assert two[:, 2] == pytest.approx(shares[:, 2] / 2) and two[:, 3] == pytest.approx(shares[:, 2] / 2)


def test_arrow_prefers_the_adapter_that_was_made_for_a_kind_of_rows(base, texts, tmp_path, monkeypatch):
    """Adapters whose A is the main direction of one task's states in each layer: the case that Arrow is meant for."""
    import torch
    from safetensors.torch import save_file

    features = BaseFeatures(base)
    layers = [f"model.layers.{n}.self_attn.q_proj" for n in range(features.layers)]
    inputs = {name: [] for name in layers}
    for one in texts[:2]:
        for name in layers:
            seen = []
            handle = base.model.get_submodule(name).register_forward_pre_hook(
                lambda _, given, seen=seen: seen.append(given[0].flatten(0, 1))
            )
            for _, ids, there in features._batches(features.tokens(one.fit)):
                features.run(ids, there)
            handle.remove()
            inputs[name].append(torch.cat(seen))
    infos = {}
    for number, name in enumerate(("first", "second")):
        tensors = {}
        for layer in layers:
            own, other = inputs[layer][number], inputs[layer][1 - number]
            # What is large in one task and small in the other.
            gap = own.T @ own / len(own) - other.T @ other / len(other)
            vector = torch.linalg.eigh(gap).eigenvectors[:, -1]
            tensors[f"base_model.model.{layer}.lora_A.weight"] = vector[None].contiguous()
            tensors[f"base_model.model.{layer}.lora_B.weight"] = torch.ones(len(own.T), 1)
        folder = tmp_path / name
        folder.mkdir()
        save_file(tensors, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        infos[name] = read_adapter(str(folder))
    # The everyday texts are strange to the embedded model; these stand between the two tasks.
    monkeypatch.setattr("slmbench.routing.arrow.BASE_TEXTS", [*texts[0].fit[:20], *texts[1].fit[:20]])
    head = ArrowHead.fit(infos, range(2), features)
    right = [float((head.shares(one.validation, features).argmax(1) == k).mean()) for k, one in enumerate(texts[:2])]
    assert sum(right) / 2 > 0.8


def test_a_head_reads_the_base_alone(texts, adapters, owners, base):
    made = fit_router(texts, adapters, owners, base, head="centroid")
    before = made.route("What?")
    on = adapter_on(base, next(iter(adapters.values())).folder)
    with on, pytest.raises(UsageError, match="an adapter is on 'nano', and a router reads the base alone"):
        made.route("What?")
    assert made.route("What?") == before
    with pytest.raises(UsageError, match="head, centroid, reads hidden states of 'nano': give it that model"):
        evolve(made, loaded=None).route("What?")
