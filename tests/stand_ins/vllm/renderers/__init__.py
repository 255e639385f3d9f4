"""Where vLLM has its chat templates."""
