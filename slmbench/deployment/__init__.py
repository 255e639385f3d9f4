"""From an adapter to where people run small models: merged weights, Ollama, llama.cpp."""

from slmbench.deployment._capacity import CONTEXT_TOKENS, Capacity, Fit, capacity
from slmbench.deployment._export import TARGETS, Export, Target, export_adapter
from slmbench.deployment._go_template import go_template
from slmbench.deployment._modelfile import Asking, modelfile, turns_of
from slmbench.deployment._runtimes import GGUF_ARCHITECTURES, OLLAMA_ARCHITECTURES, gguf_problems, ollama_notices
from slmbench.deployment._turns import Turns, probe_turns

__all__ = [
    "CONTEXT_TOKENS",
    "GGUF_ARCHITECTURES",
    "OLLAMA_ARCHITECTURES",
    "TARGETS",
    "Asking",
    "Capacity",
    "Export",
    "Fit",
    "Target",
    "Turns",
    "capacity",
    "export_adapter",
    "gguf_problems",
    "go_template",
    "modelfile",
    "ollama_notices",
    "probe_turns",
    "turns_of",
]
