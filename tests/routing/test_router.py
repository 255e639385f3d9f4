"""A router: fitted, asked, and refused where it doesn't belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmbench.errors import UsageError
from slmbench.models import read_adapter
from slmbench.routing import fit_router, read_router, write_router


def test_a_text_goes_to_the_adapter_of_its_task(router, texts, owners):
    for one in texts:
        routes = router.route_many(one.validation)
        right = [route.task == one.task and route.adapter == owners[one.task] for route in routes]
        assert sum(right) >= 0.9 * len(right)
    route = router.route(texts[0].validation[0])
    assert list(route.scores) == ["arithmetic", "note", "choice"]
    assert sum(route.scores.values()) == pytest.approx(1)


def test_below_the_threshold_and_without_a_text_the_base_answers(router, texts):
    from attrs import evolve

    strict = evolve(router, threshold=1.0)
    assert {route.adapter for route in strict.route_many(texts[0].validation)} == {None}
    for text in ("", " \n"):
        route = router.route(text)
        assert route.adapter is None and route.task is None
    assert router.route_many([]) == []


def test_an_adapter_of_two_tasks_has_the_sum_of_their_scores(texts, adapters, base):
    owners = {"nano_arithmetic": "arithmetic", "nano_note": "note", "nano_choice": "note"}
    infos = {name: adapters[name] for name in ("arithmetic", "note")}
    router = fit_router(texts, infos, owners, base, head="tfidf")
    assert [one.tasks for one in router.adapters] == [("nano_arithmetic",), ("nano_note", "nano_choice")]
    routes = router.route_many(texts[2].validation)
    assert {(route.adapter, route.task) for route in routes if route.task == "nano_choice"} == {("note", "nano_choice")}
    assert sum(route.task == "nano_choice" for route in routes) >= 0.9 * len(routes)


@pytest.mark.parametrize("head", ["tfidf", "length"])
def test_a_router_comes_back_from_its_folder_as_it_was(texts, adapters, owners, base, tmp_path, head):
    made = fit_router(texts, adapters, owners, base, head=head)
    folder = write_router(made, str(tmp_path / "router"))
    again = read_router(folder, base)
    asked = [text for one in texts for text in one.validation]
    assert again.route_many(asked) == made.route_many(asked)
    assert (again.adapters, again.base, again.facts) == (made.adapters, made.base, made.facts)
    assert sorted(path.name for path in Path(folder).iterdir()) == ["router.json", "router.safetensors"]
    again.check_adapters()


def test_the_same_rows_and_seed_make_the_same_files(texts, adapters, owners, base, tmp_path):
    folders = [
        write_router(fit_router(texts, adapters, owners, base), str(tmp_path / name / "router")) for name in "ab"
    ]
    first, second = ((Path(folder) / "router.safetensors").read_bytes() for folder in folders)
    assert first == second


def test_a_router_of_another_base_is_refused_with_both_digests(router, tmp_path, tiny_t5):
    folder = write_router(router, str(tmp_path / "router"))
    with pytest.raises(UsageError, match=r"router .* was made for 'nano' with weights \w{12}, but 'tiny-t5' here"):
        read_router(folder, tiny_t5())


def test_an_adapter_that_was_trained_again_or_is_gone_is_refused_by_name(router, base, tmp_path, random_adapter):
    other = read_adapter(str(random_adapter(base, tmp_path / "note", 7)))
    infos = {one.name: read_adapter(one.folder) for one in router.adapters}
    router.check_adapters(infos)
    with pytest.raises(UsageError, match=r"fitted for adapter 'note' \w{12}, and .* holds \w{12}: .*fit it again"):
        router.check_adapters({**infos, "note": other})
    infos.pop("choice")
    with pytest.raises(UsageError, match="adapter 'choice' is not among those given"):
        router.check_adapters(infos)


def test_adapters_that_nothing_tells_apart_are_an_error(texts, adapters, owners, base):
    with pytest.raises(UsageError, match="no head 'tf-idf'; did you mean 'tfidf'"):
        fit_router(texts, adapters, owners, base, head="tf-idf")
    with pytest.raises(UsageError, match="nothing tells when adapter 'choice' is meant"):
        fit_router(texts[:2], adapters, owners, base)
