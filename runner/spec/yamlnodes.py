"""YAML nodes out of libyaml's events. Its own composer recurses in C and overflows the stack on deep nesting; this loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

_DEEPEST = 200
"""More than any caller allows; it only keeps the recursion of the callers bounded."""


def quick(text: str) -> yaml.Node | None:
    """The tree of a text that holds one document; None where it holds none.

    Raises:
        yaml.YAMLError: whatever libyaml refuses, and what the pure composer refuses beyond it.
        RecursionError: nested deeper than any file of ours.
        ValueError: characters that cannot be encoded.
    """
    import yaml

    loader = yaml.CSafeLoader(text)
    try:
        return _Tree(loader).root()
    finally:
        loader.dispose()


class _Tree:
    """Events in, nodes out."""

    def __init__(self, loader: yaml.CSafeLoader) -> None:
        self._loader = loader
        self._resolve: Any = loader.resolve
        self._anchors: dict[str, yaml.Node] = {}
        self._open: list[yaml.CollectionNode] = []
        self._keys: list[yaml.Node | None] = []
        """Of each open mapping: the key whose value comes next."""
        self._root: yaml.Node | None = None

    def root(self) -> yaml.Node | None:
        import yaml

        documents = 0
        while True:
            event = self._loader.get_event()
            if isinstance(event, yaml.ScalarEvent):
                self._add(self._scalar(event), event.anchor)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._start(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._open.pop()
                self._keys.pop()
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise yaml.composer.ComposerError(
                        "expected a single document in the stream", None, "but found another document"
                    )
            elif isinstance(event, yaml.StreamEndEvent):
                return self._root

    def _scalar(self, event: yaml.ScalarEvent) -> yaml.ScalarNode:
        import yaml

        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolve(yaml.ScalarNode, event.value, event.implicit)
        return yaml.ScalarNode(tag, event.value, _mark(event), None, event.style)

    def _start(self, event: yaml.CollectionStartEvent) -> None:
        import yaml

        kind = yaml.MappingNode if isinstance(event, yaml.MappingStartEvent) else yaml.SequenceNode
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolve(kind, None, event.implicit)
        node = kind(tag, [], _mark(event), None, event.flow_style)
        self._add(node, event.anchor)
        self._open.append(node)
        self._keys.append(None)
        if len(self._open) > _DEEPEST:
            raise RecursionError

    def _alias(self, event: yaml.AliasEvent) -> None:
        import yaml

        if event.anchor not in self._anchors:
            raise yaml.composer.ComposerError(None, None, f"found undefined alias {event.anchor!r}", _mark(event))
        self._add(self._anchors[event.anchor], None)

    def _add(self, node: yaml.Node, anchor: str | None) -> None:
        import yaml

        if anchor is not None:
            if anchor in self._anchors:
                raise yaml.composer.ComposerError(None, None, f"found duplicate anchor {anchor!r}", node.start_mark)
            self._anchors[anchor] = node
        if not self._open:
            self._root = node
        elif isinstance(parent := self._open[-1], yaml.SequenceNode):
            parent.value.append(node)
        elif (key := self._keys[-1]) is None:
            self._keys[-1] = node
        else:
            parent.value.append((key, node))
            self._keys[-1] = None


def _mark(event: yaml.Event) -> Any:
    """libyaml's marks have the line that ours have; PyYAML's types know only those of the pure parser."""
    return event.start_mark
