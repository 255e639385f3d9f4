# ruff: noqa: E501  (templates on one line each)
"""A model's own chat template: what transformers makes of it, on one day, and within limits."""

from __future__ import annotations

import time
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import UsageError
from slmbench.formats import load_format
from slmbench.formats._chat_template import ChatTemplateFault, asks_for_the_date, render_chat_template
from slmbench.models import load_tokenizer, resolve_model
from slmbench.values import Prompt, Shot, Target

CHAT = load_format("chat")
TURNS = [
    {"role": "system", "content": "Be short.\n"},
    {"role": "user", "content": " What is <b>2</b> & 3?  "},
    {"role": "assistant", "content": "5"},
    {"role": "user", "content": "Größer als 4?\n\n"},
]
# What templates of models are written with, piece by piece.
PIECES = [
    "{% for m in messages %}{{ loop.index0 }}{{ m['role'] ~ ': ' ~ m.content | trim }}{% if not loop.last %}|{% endif %}{% endfor %}",
    "{%- set ns = namespace(found=false, text='') -%}\n{%- for m in messages %}\n  {%- if m.role == 'user' and not ns.found %}\n"
    "    {%- set ns.found = true %}\n    {%- set ns.text = ns.text + m.content %}\n  {%- endif %}\n{%- endfor %}\n{{ ns.text }}\n",
    "{% macro turn(m, last=false) %}<{{ m.role }}>{{ caller() if caller else m.content }}{% if last %}.{% endif %}{% endmacro %}"
    "{% for m in messages %}{{ turn(m, loop.last) }}{% call turn(m) %}{{ m.content|upper }}{% endcall %}{% endfor %}",
    "{{ messages | tojson }} {{ messages[0] | tojson(indent=2) }} {{ none }} {{ missing }} {{ 1.5 + 2 }} {{ 7 // 2 }} {{ 2 ** 5 }}",
    "{{ messages[1:] | map(attribute='content') | map('trim') | join(' + ') }} {{ messages | selectattr('role', 'eq', 'user') | list | length }}",
    "{% for m in messages if m.role != 'system' %}{{ m.content.split('2')[0].strip() }}{% else %}none{% endfor %}",
    "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ loop.revindex }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{{ 'Hello %s, %d' % ('you', 3) }} {{ '{:>6}'.format('ab') }} {{ 'ab' * 3 }} {{ '-'.join(['a', 'b']) }} {{ 'a,b' | replace(',', ';') }}",
    "{% set d = dict(a=1) %}{{ d.a }}{{ d.items() | list }}{{ {'x': [1, (2, 3)]} }}{{ 'x' in d }}{{ [3, 1] | sort | first }}",
    "{% if messages is iterable and messages[0].content is string and add_generation_prompt is defined %}yes{% endif %}{{ bos_token }}",
    "  {% generation %}\n  {{ messages[2].content }}\n  {% endgeneration %}\n{% filter upper %}low{% endfilter %}{% set x %}a{{ 1 }}b{% endset %}{{ x }}",
    "{%- for key, value in messages[0].items() recursive %}{{ key }}={{ value }};{% endfor %}{{ messages[0]['nothing'] }}{{ tools }}{{ documents }}",
    "{% for item in [[1, [2]], 3] recursive %}{% if item is sequence %}[{{ loop(item) }}]{% else %}{{ item }}{% endif %}{% endfor %}",
    "{{ '%.2f' | format(1 / 3) }}{{ 'text' | center(10) }}{{ 'a\nb' | indent(2) }}{{ 'a b c' | wordcount }}{{ -3 | abs }}{{ 2.5 | round | int }}",
]


@pytest.mark.parametrize("template", PIECES)
def test_a_template_gives_what_transformers_makes_of_it(nano_tokenizer: Any, template: str) -> None:
    theirs = nano_tokenizer.apply_chat_template(
        TURNS, chat_template=template, tokenize=False, add_generation_prompt=True
    )
    variables = {"messages": TURNS, "tools": None, "documents": None, "add_generation_prompt": True}
    assert render_chat_template(template, {**nano_tokenizer.special_tokens_map, **variables}) == theirs


@pytest.mark.parametrize(
    "name", ["llama-3.2-1b-instruct", "phi-3.5-mini-instruct", "tinyllama-1.1b-chat", "qwen2.5-0.5b"]
)
def test_turns_of_a_models_own_template_are_transformers_own(name: str) -> None:
    tokenizer = load_tokenizer(resolve_model(name, default_catalog(), twin=True))
    shots = (Shot("2+2?", Target("4")),)
    ours = CHAT.render(Prompt("3+3?", system="Be short.", shots=shots), tokenizer).text
    roles = zip(("system", "user", "assistant", "user"), ("Be short.", "2+2?", "4", "3+3?"), strict=True)
    turns = [{"role": role, "content": content} for role, content in roles]
    asked = {"tokenize": False, "add_generation_prompt": True, "date_string": "26 Jul 2024"}
    assert ours == tokenizer.apply_chat_template(turns, **asked)


def test_the_date_is_the_same_every_day_and_for_every_way_to_ask_for_it() -> None:
    dated = "{{ strftime_now('%d %B %Y') }} {{ strftime_now('%Y-%m-%d %H:%M') }}"
    assert render_chat_template(dated, {"messages": []}) == "26 July 2024 2024-07-26 00:00"
    assert asks_for_the_date(dated)
    assert asks_for_the_date("{{ date_string }}")
    assert not asks_for_the_date("{{ messages[0].content }}")


ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}",
    "{% set ns = namespace(x='ab'.encode()) %}{% for i in range(60) %}"
    "{% set ns.x = ns.x.replace('a'.encode(), 'aa'.encode()) %}{% endfor %}",
    "{% set ns = namespace(x=['ab']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x={}) %}{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x|tojson }}",
    "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x > 1 }}",
    "{% for i in range(99999) %}" + "a" * 1000 + "{% endfor %}",
    "{% set text %}{% for i in range(99999) %}" + "a" * 1000 + "{% endfor %}{% endset %}x",
    "{% for x in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "{{ 'x' * 10 ** 10 }}",
    "{{ ['x'] * 10 ** 9 }}",
    "{{ 10 ** (10 ** 10) }}",
    "{{ 'x' | center(10 ** 10) }}",
    "{{ 'x'.center(10 ** 10) }}",
    "{{ 'x'.rjust(9999999999) }}",
    "{{ '%9999999999d' % 1 }}",
    "{{ '%*d' % (9999999999, 1) }}",
    "{{ '%9999999999d' | format(1) }}",
    "{{ '{:>9999999999}'.format(1) }}",
    "{{ '{:>{w}}'.format(1, w=9999999999) }}",
    "{{ (1).to_bytes(10 ** 10) }}",
    "{{ 'a\tb'.expandtabs(10 ** 10) }}",
    "{{ ('x' * 1000000) | indent(10 ** 9) }}",
    "{{ [1] | batch(10 ** 10, 'x') | list }}",
    "{{ range(99999) | slice(10 ** 10) | list }}",
    "{{ (range(99999) | join('x' * 100000)) }}",
    "{{ ('x' * 100000).join(range(99999) | map('string')) }}",
    "{{ 5 | round(-10 ** 9) }}",
    "{{ [[1]] * 900 | list | sum(start=[]) }}",
    "{{ strftime_now('%9999999999d') }}",
    "{{ [1] | tojson(indent=10 ** 9) }}",
]


@pytest.mark.parametrize("template", ENDLESS)
def test_a_template_without_end_is_an_error_within_seconds(template: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ChatTemplateFault):
        render_chat_template(template, {"messages": TURNS})
    assert time.monotonic() - begun < 8


BROKEN = [
    ("{% if %}", "Jinja syntax"),
    ("{{ messages", "Jinja syntax"),
    ("{% include 'x' %}", "it has `include`"),
    ("{% import 'x' as y %}", "it has `import`"),
    ("{% from 'x' import y %}", "it has `fromimport`"),
    ("{% extends 'x' %}", "it has `extends`"),
    ("{{ messages.nothing() }}", "has no attribute"),
    ("{{ 1 + 'x' }}", "TypeError"),
    ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself too deeply|loops and calls"),
    ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nested too deeply"),
    ("{{ " + "-" * 20000 + "1 }}", "nested too deeply"),
    ("{% if 1 %}" * 300 + "{% endif %}" * 300, "nested too deeply"),
    ("{{ 1" + "0" * 9000 + " }}", "digits"),
    ("{{ 'x' | nothing }}", "Jinja syntax"),
    ("x" * 300_000, "300,000 characters"),
    ("{{ raise_exception('only users here') }}", "only users here"),
    ("{{ ''.__class__.__mro__ }}", "__class__|unsafe"),
]


@pytest.mark.parametrize(("template", "said"), BROKEN)
def test_a_template_that_fails_is_one_error_that_names_the_model(nano_tokenizer: Any, template: str, said: str) -> None:
    import copy

    tokenizer = copy.copy(nano_tokenizer)
    tokenizer.chat_template = template
    tokenizer.name_or_path = "/data/odd-model"
    with pytest.raises(UsageError, match=f"(?s)(odd-model|chat template).*({said})"):
        CHAT.render(Prompt("a"), tokenizer)
