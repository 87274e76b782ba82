"""`python -m slmkit` is `slm`."""

import sys

from slmkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
