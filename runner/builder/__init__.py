"""libs.yaml → an image that is proven to contain what was asked."""

from __future__ import annotations

from runner.builder.build import BuiltImage, Options, build, default_libs, write_dockerfile, write_locked
from runner.builder.recipe import content_tag

__all__ = ["BuiltImage", "Options", "build", "content_tag", "default_libs", "write_dockerfile", "write_locked"]
