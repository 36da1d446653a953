"""`python -m chatterbox` runs the command line."""

import sys

from chatterbox.cli import main

sys.exit(main())
