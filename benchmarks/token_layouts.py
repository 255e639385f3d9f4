"""Tokens a record of the five healthcare and legal sets in plain, chat, instruction blocks and Toon, by tokenizer.

    SLMBENCH_DATA=mirror SLMBENCH_TOKENIZERS=DIR[:DIR...] python benchmarks/token_layouts.py

A project calls instruction blocks "Toon" and token-efficient; here both stand beside each other. Rows are the mirror's,
else golden rows: the column `from` says which. Tokenizers are those of the folders; without any, the embedded model's.
"""

from __future__ import annotations

import os

from slmbench.catalog import default_catalog
from slmbench.lengths import open_ruler
from slmbench.recipe import suite_tasks
from slmbench.task import load_task
from slmbench.tokens import token_costs

SUITE, LAYOUT = "healthcare-toon", "instruction"


def main() -> None:
    catalog = default_catalog()
    tasks = [load_task(name, catalog) for name in suite_tasks(catalog, SUITE)]
    print("Mean tokens a record, prompt and answer, and the share of plain's")
    print(f"{'tokenizer':<24} {'task':<26} {'rows':>4} {'from':<7} {'plain':>8} {'chat':>15} {LAYOUT:>15} {'toon':>15}")
    for model in os.environ.get("SLMBENCH_TOKENIZERS", "nano").split(os.pathsep):
        ruler = open_ruler(model, catalog)
        name = os.path.basename(ruler.model.rstrip(os.sep))
        for task in tasks:
            cost = token_costs(task, ruler, n=200)
            shown = [
                "-" if tokens is None else f"{tokens:.1f} {tokens / cost.plain - 1:+.1%}"
                for tokens in (cost.chat, cost.declared[LAYOUT], cost.toon)
            ]
            print(
                f"{name:<24} {task.name:<26} {cost.rows:>4} {cost.source:<7} {cost.plain:>8.1f} "
                + " ".join(f"{one:>15}" for one in shown)
            )


if __name__ == "__main__":
    main()
