"""lm-eval's own tasks, its YAML as installed, pointed at a mirror's files: the oracle for `standard means equal`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any


def own_task(name: str, files: dict[str, str], *, shots: int | None = None) -> Any:
    """lm-eval's own ConfigurableTask of a YAML such as `gsm8k/gsm8k.yaml`, on local files: split -> path.

    shots: worked examples, taken as the first of the few-shot split.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    import lm_eval.tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    config = dict(load_yaml(Path(lm_eval.tasks.__file__).parent / name, resolve_func=True))
    config |= {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    if shots is not None:
        config["num_fewshot"] = shots
        if shots:
            config["fewshot_config"] = {"sampler": "first_n"}
    config.pop("tag", None)
    return ConfigurableTask(config=config)


def evaluate_own(task: Any, model: Any, tokenizer: Any, *, batch: int, limit: int | None) -> dict[str, Any]:
    """`simple_evaluate` of that task with a plain HFLM: nothing of slmbench is on the way."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    engine = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch)
    return dict(
        lm_eval.simple_evaluate(
            model=engine,
            tasks=[task],
            task_manager=TaskManager(include_defaults=False),
            bootstrap_iters=0,
            limit=limit,
            log_samples=True,
        )
    )
