from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.errors import DataError
from slmbench.templates import MAX_LOOP_STEPS, MAX_OUTPUT_CHARS, MAX_TEMPLATE_CHARS, Template, TemplateFault

SMALL = {"question": "What is 1+1?", "answer": "2", "options": ["a", "b", "c"], "n": 3, "inner": {"key": "v"}}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Question: {{ question }}", "Question: What is 1+1?"),
        ("{{ question }}\n", "What is 1+1?\n"),
        ("{{ options[1] }} {{ options|length }} {{ options|join(', ') }}", "b 3 a, b, c"),
        ("{% for option in options %}{{ loop.index }}) {{ option }}\n{% endfor %}", "1) a\n2) b\n3) c\n"),
        ("{% for o in options %}{{ o }}{% if not loop.last %}-{% endif %}{% endfor %}", "a-b-c"),
        ("{{ 'yes' if n > 2 else 'no' }}", "yes"),
        ("{{ question|replace('What', 'Which')|upper }}", "WHICH IS 1+1?"),
        ("{{ question.replace('1', '2').lower() }}", "what is 2+2?"),
        ("{{ inner.key ~ inner['key'] }}", "vv"),
        ("{{ (n + 0.26)|round(1) }}", "3.3"),
        ("{{ '<b>' }} & {{ question[:4] }}", "<b> & What"),
        ("{{ nothing|default('none') }}", "none"),
        ("{% for o in [] %}{% else %}empty{% endfor %}", "empty"),
        ("no fields", "no fields"),
        ("", ""),
    ],
)
def test_what_prompts_need_is_there(source: str, text: str) -> None:
    assert Template(source).render(SMALL) == text


HOSTILE = [
    "{{ cycler.__init__.__globals__.os.popen('touch canary') }}",
    "{{ question.__class__.__mro__[1].__subclasses__() }}",
    "{{ question['__class__'] }}",
    "{{ question|attr('__class__') }}",
    "{{ question.format('x') }}",
    "{{ '{0.__class__}'.format(question) }}",
    "{{ '{x.__class__}'|format(x=1) }}",
    "{{ question['format']('x') }}",
    "{{ (question.format)('x') }}",
    "{% for f in [question.format] %}{{ f('x') }}{% endfor %}",
    "{{ question.format_map({}) }}",
    "{{ question.encode() }}",
    "{{ question.center(1000000000) }}",
    "{{ question.ljust(1000000000) }}",
    "{{ question.zfill(1000000000) }}",
    "{{ 'a\t'.expandtabs(1000000000) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ question|center(1000000000) }}",
    "{{ question|indent(1000000000) }}",
    "{{ self.__init__ }}",
    "{{ self }}",
    "{{ _limits }}",
    "{{ lipsum() }}",
    "{{ range(1000000000)|join }}",
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(1000000000) %}{% endfor %}",
    "{{ 'a' * 10**9 }}",
    "{{ 9**9**9**9 }}",
    "{{ 1 // 0 }}",
    "{{ 5|round(-1000000000) }}",
    "{{ 1.5|round(1000000000, 'ceil') }}",
    "{{ 1 is divisibleby(0) }}",
    "{{ question is nothing }}",
    "{{ question|map('upper') }}",
    "{% set q = question %}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{% macro m() %}{{ m() }}{% endmacro %}",
    "{% block b %}{% endblock %}",
    "{% for a in options recursive %}{{ loop(options) }}{% endfor %}",
    "{% for a in options %}{% for b in options %}{% for c in options %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in long %}{% for b in long %}{% endfor %}{% endfor %}",
    "{% for a in long %}{{ long }}{% endfor %}",
    "{{ " + "~".join(["long"] * 3000) + " }}",
    "{{ [" + ",".join(["long"] * 3000) + "] }}",
    "{{ 'a'" + ".replace('a', 'aaaaaaaaaa')" * 12 + " }}",
    "{{ 'a'" + "|replace('a', 'aaaaaaaaaa')" * 12 + " }}",
    "{{ question|replace('', long)|replace('', long) }}",
    "{{ long.join(long) }}",
    "{{ long|join(long) }}",
    "{{ long.join([long, long, long, long, long]).join([long, long, long, long, long]) }}",
    "{{ " + "(" * 4000 + "question" + ")" * 4000 + " }}",
    "{{ " + "[" * 4000,
    "{{ question" + ".a" * 5000 + " }}",
    "{{ " + "not " * 4000 + "question }}",
    "{{ " + "-" * 9000 + "1 }}",
    "{% if a %}" * 800 + "{% endif %}" * 800,
    "{{ " + "9" * 5000 + " }}",
    "{{ question",
    "{% for %}",
    "{{ question.format }}",
    "{{ inner.items }}",
    "{{ inner.get }}",
    "x" * (MAX_TEMPLATE_CHARS + 1),
]


@pytest.mark.parametrize("source", HOSTILE, ids=lambda source: source[:50])
def test_a_hostile_template_is_refused_soon_and_runs_nothing(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    started = time.process_time()
    with pytest.raises((TemplateFault, DataError)):
        Template(source).render({**SMALL, "long": "a" * 100_000})
    assert time.process_time() - started < 3
    assert os.listdir(tmp_path) == []


@given(st.text("{}%|.()[]'\"_ abqn019+-~*#\n", max_size=40))
def test_any_template_is_text_or_a_fault(source: str) -> None:
    try:
        assert isinstance(Template(source).render({"a": "x", "b": ["y"], "q": 1, "n": None}), str)
    except (TemplateFault, DataError):
        pass


def test_a_missing_field_is_named_with_the_nearest_that_is_there() -> None:
    with pytest.raises(DataError, match=r"template '\{\{ quesion \}\}' names 'quesion', .*; did you mean 'question'\?"):
        Template("{{ quesion }}").render(SMALL)


def test_a_null_value_is_an_error_and_not_the_word_none() -> None:
    with pytest.raises(DataError, match=r"'hint' is null; say what to write instead, as in {{ hint or '' }}"):
        Template("{{ hint }}").render({"hint": None})
    assert Template("{{ hint or '-' }}").render({"hint": None}) == "-"


def test_columns_may_have_names_that_python_or_jinja_use() -> None:
    fields = {"self": "s", "context": "c", "environment": "e", "class": "k", "loop": "l", "range": "r"}
    assert Template("{{ context }}{{ environment }}{{ loop }}{{ range }}{{ class }}").render(fields) == "celrk"


def test_loops_are_counted_together_and_anew_for_each_rendering() -> None:
    template = Template("{% for a in xs %}{% for b in ys %}{% endfor %}{% endfor %}x")
    fits = {"xs": "a" * 100, "ys": "b" * (MAX_LOOP_STEPS // 100 - 1)}
    assert template.render(fits) == "x"
    assert template.render(fits) == "x"
    with pytest.raises(DataError, match=r"its loops go on for more than 100,000 steps"):
        template.render({**fits, "xs": "a" * 101})


def test_a_text_beyond_the_limit_is_refused_and_one_at_it_is_not() -> None:
    assert len(Template("{{ q }}").render({"q": "x" * MAX_OUTPUT_CHARS})) == MAX_OUTPUT_CHARS
    with pytest.raises(DataError, match=r"makes more than 2,000,000 characters"):
        Template("{{ q }}.").render({"q": "x" * MAX_OUTPUT_CHARS})


def test_the_fields_that_a_template_names_are_known() -> None:
    assert Template("{{ a }}{% for x in b %}{{ x }}{{ c.d }}{% endfor %}").names == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("{{ b }} {{ a }} {{ b }}", ("b", "a")),
        ("{{ z.y.x[a] }} {{ m|default(k) }}", ("z", "a", "m", "k")),
        ("{% for x in b %}{{ x }}{{ a }}{% endfor %}", ("b", "a")),
        ("{% if c %}{{ b }}{% else %}{{ a }}{% endif %}", ("c", "b", "a")),
        ("{% for x in b %}{{ loop.index }}{% endfor %}", ("b",)),
        ("none", ()),
    ],
)
def test_the_fields_are_known_in_the_order_in_which_they_are_read(source: str, names: tuple[str, ...]) -> None:
    template = Template(source)
    assert template.names_in_order == names
    assert template.names == set(names)
