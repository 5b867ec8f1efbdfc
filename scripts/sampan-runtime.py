#!python
"""Start the OCI runtime where no sealed interpreter is there yet: `sampan-runtime` beside this looks for one first."""

import sys

from sampan.oci.main import main

sys.exit(main())
