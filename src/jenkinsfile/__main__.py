"""`python -m jenkinsfile`."""

import sys

from jenkinsfile.cli import main

sys.exit(main())
