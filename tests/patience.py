"""How long tests wait for what they want to see: on a real workspace a node has to be made and an image pulled first."""

from __future__ import annotations

import os

REAL = os.environ.get("RUNNER_TEST_WORKSPACE")
"""The ARM id of a workspace that the tests of Azure ML run in, instead of the emulator (docs/azure.md)."""

PATIENCE = 30 if REAL else 1
"""By how much every deadline is longer there."""
