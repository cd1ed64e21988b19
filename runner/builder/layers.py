"""Build the layers of a plan that the engine does not have yet, each committed under its key.

A layer that was committed is good: a later build, also one after a kill, goes on from it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.builder.failures import explain
from runner.builder.recipe import child, layer_tag
from runner.builder.repository import make_repository
from runner.builder.resolve import from_label, resolve, to_label
from runner.docker_api.images import Config
from runner.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.builder.cran import Resolved
    from runner.builder.recipe import Layer
    from runner.builder.session import Finished, Session
    from runner.docker_api.images import Image
    from runner.spec.libs import Libs

LAYER_LABEL = "runner.layer"
FAMILY_LABEL = "runner.layer.family"
ITEMS_LABEL = "runner.layer.items"
DEPTH_LABEL = "runner.layer.depth"
R_LABEL = "runner.r.packages"

_VENV = "/opt/venv"
_TOOLS = b"r-base-dev\n"
_MAX_DEPTH = 10
"""After so many additions a layer is built anew: each costs a container some start time, and an engine allows 127."""


class Chain:
    """The layers of one image being built."""

    def __init__(self, session: Session, libs: Libs, base: Image, layers: Sequence[Layer]) -> None:
        self._session = session
        self._libs = libs
        self._base = base
        self._layers = layers
        self._resolved: Resolved | None = None

    def build(self) -> tuple[Image, Image]:
        """Build what is missing: (the image that was gone on from, the image of the last layer).

        Raises:
            SpecError, BuildError: a layer cannot be built; those before it stay for the next build.
        """
        image, missing = self._found()
        before = image
        if any(layer.stage in {"apt", "r-binary"} for layer in missing):
            self._resolved = resolve(self._session, self._libs, self._base.id)
        for layer in missing:
            start = self._fewer(layer) or image
            if layer is missing[0]:
                before = start
            image = self._build(layer, start)
        return before, image

    def _fewer(self, layer: Layer) -> Image | None:
        """A layer that differs only in having fewer of the items: what is missing is then added to it."""
        if not layer.items or self._session.no_cache:
            return None
        best: tuple[int, Image] | None = None
        for image in self._session.engine.labelled(f"{FAMILY_LABEL}={layer.family}"):
            items = _items(image)
            # A finished image and later layers inherit the labels; only the layer itself is committed under its key.
            own = image.id == getattr(self._session.engine.inspect(layer_tag(image.labels[LAYER_LABEL])), "id", None)
            if own and items < layer.items and _depth(image) < _MAX_DEPTH and (best is None or len(items) > best[0]):
                best = len(items), image
        if best is None:
            return None
        added = ", ".join(sorted(item.split(" ")[0] for item in layer.items - _items(best[1])))
        self._session.report(layer.stage.split("-", maxsplit=1)[0], f"+ {added}  on {best[1].id[:19]}")
        return best[1]

    def _found(self) -> tuple[Image, Sequence[Layer]]:
        """The deepest layer on the engine, and the layers that follow it."""
        if not self._session.no_cache:
            for index in reversed(range(len(self._layers))):
                if image := self._session.engine.inspect(self._layers[index].tag):
                    return image, self._layers[index + 1 :]
        return self._base, self._layers

    def _build(self, layer: Layer, parent: Image) -> Image:
        report, stage = self._session.report, layer.stage
        match stage:
            case "r-binary":
                return self._r_binary(layer, parent)
            case "r-source":
                return self._r_source(layer, parent)
            case "pip":
                report("pip", f"{len(self._libs.pip)} declared …")
                path = parent.env.get("PATH", "/usr/local/bin:/usr/bin:/bin")
                path = path if path.startswith(f"{_VENV}/bin:") else f"{_VENV}/bin:{path}"
                image = self._run(layer, parent, layer.inputs, env={"PATH": path, "VIRTUAL_ENV": _VENV})
                what = f"{len(self._libs.pip)} declared"
            case "apt":
                image = self._run(layer, parent, layer.inputs)
                what = f"{len(self._libs.apt)} declared"
            case _:
                report(stage, "Python …" if stage == "python" else "R …")
                image = self._run(layer, parent, layer.inputs, env={"LANG": parent.env.get("LANG", "C.UTF-8")})
                version = image.labels.get(f"runner.{stage}.version", "")
                what = f"{'Python' if stage == 'python' else 'R'} {version}"
        report(stage, _summary(what, parent, image))
        return image

    def _r_binary(self, layer: Layer, parent: Image) -> Image:
        assert self._resolved is not None  # noqa: S101 - build() resolves when this layer is missing
        binary = self._resolved.binary
        label = {R_LABEL: to_label(self._resolved)}
        image = self._run(layer, parent, {**layer.inputs, "packages": _lines(sorted(binary))}, labels=label)
        if binary:
            self._session.report("r", _summary(f"{len(binary)} Debian binaries", parent, image))
        return image

    def _r_source(self, layer: Layer, parent: Image) -> Image:
        """Compile beside the image, copy the result into it: no compiler, source or cache gets into the layer."""
        resolved = from_label(parent.labels[R_LABEL])
        sources = list(resolved.source.values())
        if not sources:
            self._session.engine.tag(parent.id, layer.tag)
            return parent
        session = self._session
        files = make_repository(sources, session.ca_bundle, lambda text: session.report("r", text))
        compiled = any(source.compiled for source in sources)
        tools = self._tools(parent) if compiled else parent
        inputs = {f"cran/{path}": raw for path, raw in files.items()}
        inputs["packages"] = _lines(source.name for source in sources)
        inputs["binary"] = _lines(sorted(resolved.binary)) if compiled else b""
        session.report("r", f"building {len(sources)} packages from source …")
        with session.step("r-build", tools.id, ("/bin/sh", "/mnt/in/r_build.sh"), inputs) as done:
            self._check("r-build", done)
            built = (done.out / "library.tar").read_bytes()
        image = self._run(layer, parent, {**layer.inputs, "library.tar": built})
        session.report("r", _summary(f"{len(sources)} from source", parent, image))
        return image

    def _tools(self, parent: Image) -> Image:
        """R's compilers on what is below the R packages: an image of their own, that every change of those can use."""
        index = next(index for index, layer in enumerate(self._layers) if layer.stage == "r-binary")
        below = self._layers[index - 1]
        tools = child(below, "r-tools", "apt.sh")
        image = self._session.engine.inspect(tools.tag)
        if image is None or self._session.no_cache:
            self._session.report("r", "compilers …")
            image = self._run(tools, self._session.engine.inspect(below.tag) or parent, {"packages": _TOOLS})
        return image

    def _check(self, stage: str, done: Finished) -> None:
        if done.ran.exit_code:
            log = self._session.log_path
            raise explain(stage, self._libs, done.lines, done.ran.exit_code, oom=done.ran.oom, log=log)

    def _run(
        self,
        layer: Layer,
        parent: Image,
        inputs: Mapping[str, bytes],
        *,
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Image:
        session = self._session
        argv = ("/bin/sh", f"/mnt/in/{layer.script}")
        with session.step(layer.stage, parent.id, argv, inputs) as done:
            self._check(layer.stage, done)
            answers = {key: value for key, value in done.answers.items() if key.startswith("runner.")}
            marks = {**(labels or {}), **answers, **_marks(layer, parent)}
            replaced = session.engine.inspect(layer.tag)
            identifier = done.ran.commit(Config(env or {}, marks, comment=f"runner: {layer.stage}"), layer.tag)
        if replaced is not None:
            # Only --no-cache comes here. The engine refuses while an older image stands on it.
            with suppress(BuildError):
                session.engine.remove(replaced.id)
        image = session.engine.inspect(identifier)
        if image is None:
            raise BuildError(f"the engine committed {layer.tag}, but does not have it", "build again")
        return image


def _marks(layer: Layer, parent: Image) -> dict[str, str]:
    """The labels by which a layer is found again, and by which others can be added to it."""
    same = parent.labels.get(FAMILY_LABEL) == layer.family
    return {
        LAYER_LABEL: layer.key,
        FAMILY_LABEL: layer.family,
        ITEMS_LABEL: json.dumps(sorted(layer.items)),
        DEPTH_LABEL: str(_depth(parent) + 1 if same else 0),
    }


def _items(image: Image) -> frozenset[str]:
    return frozenset(json.loads(image.labels.get(ITEMS_LABEL, "[]")))


def _depth(image: Image) -> int:
    return int(image.labels.get(DEPTH_LABEL, "0"))


def _lines(items: Iterable[str]) -> bytes:
    return "".join(f"{item}\n" for item in items).encode()


def _summary(what: str, parent: Image, image: Image) -> str:
    return f"{what}  +{max(0, image.size_bytes - parent.size_bytes) / (1 << 20):.0f} MiB"
