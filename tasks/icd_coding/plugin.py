"""Codes come as a list or as one text; the answer has each once, in their order, without dots, as MIMIC-III does."""

import re


def example(row):
    codes = row["codes"]
    if isinstance(codes, str):
        codes = re.split(r"[,;|\s]+", codes)
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise ValueError(f"codes: expected texts, got {codes!r}; as numbers they would lose leading zeros")
    codes = [code.strip().upper().replace(".", "") for code in codes]
    codes = list(dict.fromkeys(code for code in codes if code))
    if not codes:
        raise ValueError("codes: there are none; leave stays without a code out of the file")
    return {"codes": codes}
