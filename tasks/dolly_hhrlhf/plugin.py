"""Every prompt of dolly_hhrlhf is an instruction in Alpaca's wrapper, which a chat template and Toon replace."""

_OPENS = "### Instruction:\n"
_CLOSES = "\n\n### Response:"


def example(row):
    wrapped = row["prompt"].rstrip()
    if _OPENS not in wrapped or not wrapped.endswith(_CLOSES):
        raise ValueError("the prompt is not wrapped as '### Instruction:' ... '### Response:'")
    return {"instruction": wrapped.split(_OPENS, 1)[1].removesuffix(_CLOSES).strip()}
