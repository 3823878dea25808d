"""``python -m tests.soak``: SOAK_SECONDS (60) of it; SOAK_SEED repeats a run's choices."""

from __future__ import annotations

import logging
import os
import random
import sys

from .soak import Soak

# It brings deadlocks about, of which pools complain.
logging.getLogger("anypool").setLevel(logging.CRITICAL)

seconds = float(os.environ.get("SOAK_SECONDS", "60"))
seed = int(os.environ.get("SOAK_SEED", str(random.randrange(10**6))))
print(f"soak: {seconds:g} seconds, SOAK_SEED={seed}", flush=True)
sys.exit(Soak(seconds, seed).run())
