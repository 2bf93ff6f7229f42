"""The modules beside this one can be imported by the tests; those of the framework's tests go before them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
