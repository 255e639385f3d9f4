"""Chat templates of twins, written after the published layouts of turns."""

from __future__ import annotations

from slmbench.schema import ModelSpec

# Every conversation opens with a system turn that has two dates in it, today's among them unless one is given.
_LLAMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% if date_string is not defined %}"
    "{% set date_string = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: {{ date_string }}\n\n{{ system | trim }}<|eot_id|>"
    "{% for turn in turns %}<|start_header_id|>{{ turn['role'] }}<|end_header_id|>\n\n"
    "{{ turn['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

_CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# A closed conversation ends in EOS, behind the end of its last turn.
_PHI3 = (
    "{% for turn in messages %}<|{{ turn['role'] }}|>\n{{ turn['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)

# The names of roles are plain text to the tokenizer.
_ZEPHYR = (
    "{% for turn in messages %}<|{{ turn['role'] }}|>\n{{ turn['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def chat_template(spec: ModelSpec) -> str | None:
    """The template of a family's twin; None if the real model has none."""
    # Qwen2.5's base models come with the template of the tuned ones, whose turns don't end in the base's EOS.
    if spec.family == "qwen2":
        return _CHATML
    if not spec.instruct:
        return None
    return {"llama": _LLAMA, "smollm2": _CHATML, "phi3": _PHI3, "tinyllama": _ZEPHYR}.get(str(spec.family))
