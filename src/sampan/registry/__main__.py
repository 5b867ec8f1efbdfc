"""`python -m sampan.registry`: see process.py."""

import os
import sys

from sampan.registry.process import main

status = main(sys.argv[1:])
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)  # threads that wait for an idle client end with the process
