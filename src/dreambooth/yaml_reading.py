"""YAML of unknown origin, read strictly and within bounds.

The library keeps the last of two equal keys without a word, and lets a text of a few hundred bytes grow to gigabytes by
references to references. Here both are refused, before anything is built.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yaml import Node

__all__ = ["MOST_YAML_BYTES", "GivenTwiceError", "parse_yaml"]

MOST_YAML_BYTES = 256 << 10
"""A settings file has about 10 KB; the library needs seconds for each megabyte."""

_MOST_VALUES = 20_000  # with everything that references repeat
_DEEPEST = 50
_LARGEST = 2**64
_UNNAMED = 'in "<unicode string>", '  # how the library names every string


class GivenTwiceError(ValueError):
    """A key that a mapping has twice, in what is YAML otherwise."""


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises GivenTwiceError for a duplicate key, and ValueError with a sentence for everything that is no YAML, values that fit
    into nothing (a date without such a month, a whole number beyond 64 bits), and nesting, references and sizes beyond all use.
    """
    import yaml

    if len(text) > MOST_YAML_BYTES:
        raise ValueError(f"larger than {MOST_YAML_BYTES:,} bytes")
    try:
        loader = _strict()(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace(_UNNAMED, "")) from error
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (TypeError, OverflowError, AttributeError, KeyError, IndexError) as error:  # from values of the library's own types
        raise ValueError(f"a value that cannot be read ({type(error).__name__}: {error})") from error


@cache
def _strict() -> Any:
    import yaml

    class Strict(yaml.SafeLoader):
        """Refuses duplicate keys and endless numbers, and deep nesting while it is scanned: the library slows down with it."""

        def fetch_flow_collection_start(self, kind: Any) -> None:
            if self.flow_level >= _DEEPEST:
                raise RecursionError
            super().fetch_flow_collection_start(kind)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen, twice = set[Any](), dict[str, int]()  # with its line
            for name, _ in node.value:
                key = self.construct_object(name, deep=True)
                if isinstance(key, str | int | float | bool | None):
                    if key in seen:
                        twice.setdefault(str(key), name.start_mark.line + 1)
                    seen.add(key)
            if twice:
                raise GivenTwiceError("; ".join(f"line {line}: {key} is given twice" for key, line in [*twice.items()][:3]))
            return super().construct_mapping(node, deep=deep)

        def construct_yaml_int(self, node: Any) -> int:
            value = int(super().construct_yaml_int(node)) if len(node.value) <= 100 else _LARGEST
            if abs(value) >= _LARGEST:
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: a whole number beyond 64 bits")
            return value

    Strict.add_constructor("tag:yaml.org,2002:int", Strict.construct_yaml_int)
    return Strict


def _check_size(root: Node) -> None:
    """Raise ValueError unless the values below a node, with everything that references repeat, are as many as settings have."""
    sizes: dict[int, int] = {}

    def size(node: Node, depth: int) -> int:
        if depth > _DEEPEST:
            raise ValueError("nested too deeply, or a reference to itself")
        if id(node) not in sizes:
            inner = node.value if isinstance(node.value, list) else []
            parts = [part for pair in inner for part in (pair if isinstance(pair, tuple) else (pair,))]
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in parts)
        if sizes[id(node)] > _MOST_VALUES:
            raise ValueError(f"more than {_MOST_VALUES:,} values")
        return sizes[id(node)]

    size(root, 0)
