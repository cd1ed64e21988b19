"""Data of inputs and outputs: where a URI leads, had from there into a cache, and the other way.

Cheap to import: clients of https, Azure, S3 and Google are loaded when an address of theirs is used.
"""

from runner.data.fetch import fetch
from runner.data.place import Place
from runner.data.publish import check_publish, publish
from runner.data.resolve import resolve

__all__ = ["Place", "check_publish", "fetch", "publish", "resolve"]
