"""On the path of a trial's stack: while the file `on` lies beside this one, training processes take 20 s to start."""

import sys
import time
from pathlib import Path

SECONDS = 20
SLOW = ("workers.finetuning", "workers.recipes")

if Path(__file__).with_name("on").exists() and any(part.startswith(SLOW) for part in sys.orig_argv):
    time.sleep(SECONDS)
