"""`python -m tests.emulators.azureml`."""

import sys

from tests.emulators.azureml.cli import main

sys.exit(main())
