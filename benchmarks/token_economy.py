"""Tokens a record of every task in plain, chat, compact JSON and Toon, alone and 20 at once.

    python benchmarks/token_economy.py

Counted with the embedded model's tokenizer, and with that of the folder SLMBENCH_TOKENIZER where one is named. Rows are
the mirror's (SLMBENCH_DATA) or generated, else golden rows.
"""

from __future__ import annotations

import os

from slmbench.catalog import default_catalog
from slmbench.cli.data import print_costs
from slmbench.lengths import open_ruler
from slmbench.task import load_task
from slmbench.tokens import BATCH, token_costs


def main() -> None:
    catalog = default_catalog()
    tasks = [load_task(name, catalog) for name in catalog.files("tasks")]
    for number, model in enumerate(filter(None, ("nano", os.environ.get("SLMBENCH_TOKENIZER")))):
        ruler = open_ruler(model, catalog)
        if number:
            print()
        print_costs([token_costs(task, ruler) for task in tasks], ruler.model, BATCH)


if __name__ == "__main__":
    main()
