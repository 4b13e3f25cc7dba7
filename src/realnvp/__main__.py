"""``python -m realnvp`` runs the command line."""

import sys

from realnvp.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
