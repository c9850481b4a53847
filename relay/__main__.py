"""``python -m relay`` is the command ``rtmp-relay``."""

import sys

from relay.cli import main

sys.exit(main())
