"""`python -m slmbench`."""

import sys

from slmbench.cli import main

if __name__ == "__main__":
    sys.exit(main())
