"""lm-eval's own command line, with `--model slmbench`."""

from __future__ import annotations


def main() -> None:
    """Hands the arguments over to lm-eval."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
