"""`python -m tcja_gen` is `tcja-gen`; under torchrun: `torchrun --nproc-per-node 2 -m tcja_gen train ...`."""

import sys

from .cli import main

sys.exit(main())
