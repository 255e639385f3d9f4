"""The libraries below, kept from talking."""

from __future__ import annotations

import os


def quiet_libraries() -> None:
    """Keeps advice of the libraries below off the terminal; their errors come through as exceptions."""
    import logging
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("BITSANDBYTES_NOWELCOME", "1")
    warnings.filterwarnings("ignore")
    for name in ("transformers", "lm_eval", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "torchao"):
        logging.getLogger(name).setLevel(logging.ERROR)
