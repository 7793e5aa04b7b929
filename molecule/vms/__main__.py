"""Start the command line (`python3 molecule/vms …`)."""

import sys

from commands import main

sys.exit(main(sys.argv[1:]))
