"""Where vLLM has LoRA."""
