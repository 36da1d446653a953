"""What does `python -m chatterbox` run? The command line."""

import sys

from chatterbox.cli import main

sys.exit(main())
