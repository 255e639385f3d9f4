"""Writes ward.db beside the task: 40 made-up lines of a ward, 28 to train on and 12 to test on."""

from __future__ import annotations

import os
import random
import sqlite3
import sys

ASKED = {"pulse": ("What is the pulse?", "/min"), "temperature": ("How warm?", "C"), "weight": ("How heavy?", "kg")}


def rows() -> list[tuple[int, str, str, str, str]]:
    """(id, split, line, question, answer)."""
    draw = random.Random("ward")
    made = []
    for number in range(40):
        values = {
            "pulse": draw.randint(50, 120),
            "temperature": draw.randint(355, 405) / 10,
            "weight": draw.randint(45, 110),
        }
        line = ", ".join(f"{name} {value} {ASKED[name][1]}" for name, value in values.items())
        name = draw.choice(list(values))
        question, unit = ASKED[name]
        split = "train" if number < 28 else "test"
        made.append((number, split, f"Bed {number + 1}: {line}.", question, f"{values[name]} {unit}"))
    return made


def write(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "create table lines (id integer primary key, split text, line text, question text, answer text)"
        )
        connection.executemany("insert into lines values (?, ?, ?, ?, ?)", rows())
    connection.close()


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in sys.argv[1:] or (
        os.path.join(here, "folder", "tasks", "ward_questions"),
        os.path.join(here, "slmbench-task-example", "slmbench_task_example", "tasks", "ward_lines"),
    ):
        write(os.path.join(folder, "ward.db"))
