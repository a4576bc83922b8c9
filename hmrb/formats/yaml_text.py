"""Read YAML of unknown origin as plain values: numbers, texts, lists and tables, within limits that are said."""

from typing import Any

import yaml

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 20_000  # after aliases are replaced by what they stand for
MAX_DIGITS = 18  # what 64 bits hold
_TAG = "tag:yaml.org,2002:"


class YamlProblem(ValueError):
    """A text that is no YAML of plain values, or exceeds a limit; the message is one line."""


def load_yaml(text: str | bytes) -> Any:
    """The values of a YAML text. Raises YamlProblem."""
    if len(text) > MAX_BYTES:
        raise YamlProblem(f"larger than {MAX_BYTES:,} bytes")
    try:
        if isinstance(text, bytes):
            text = text.decode()
        _check_size(text)
        return yaml.load(text, Loader=_PlainLoader)
    except YamlProblem:
        raise
    except UnicodeDecodeError:
        raise YamlProblem("not a text file in UTF-8") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise YamlProblem(f"invalid YAML: {' '.join(str(error).split())[:300]}") from None
    except RecursionError:
        raise YamlProblem(f"nested deeper than {MAX_DEPTH} levels") from None


def _check_size(text: str) -> None:
    """Refuse deep nesting and aliases that multiply, before any value is built."""
    sizes: dict[str, int] = {}  # of what an anchor stands for
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the values counted before it
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            name = str(event.anchor)
            if name in (anchor for anchor, _ in open_nodes):
                raise YamlProblem(f"the alias *{name} stands for a value that contains it")
            count += sizes.get(name, 0)
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, count - 1))
            elif event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = count - before
        if len(open_nodes) > MAX_DEPTH:
            raise YamlProblem(f"nested deeper than {MAX_DEPTH} levels")
        if count > MAX_VALUES:
            raise YamlProblem(f"more than {MAX_VALUES:,} values, counting what its aliases stand for")


class _PlainLoader(yaml.SafeLoader):
    """Refuses duplicate keys, of which the last would silently win, and values that a spec cannot hold."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":  # <<: *anchor
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float):
                raise yaml.MarkedYAMLError(problem=f"{key!r} is no name of a field", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key '{key}'", problem_mark=node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    if len(node.value) <= 4 * MAX_DIGITS and abs(value := loader.construct_yaml_int(node)) < 10**MAX_DIGITS:
        return int(value)
    problem = f"a number of more than {MAX_DIGITS} digits: {node.value[:20]}..."
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    value = str(loader.construct_scalar(node))
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise yaml.MarkedYAMLError(problem="half a character (a surrogate)", problem_mark=node.start_mark)
    return value


def _refused(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    kind = node.tag.removeprefix(_TAG)
    problem = f"a {kind}; allowed are numbers, texts, lists and tables; put a text in quotes"
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


_PlainLoader.add_constructor(f"{_TAG}int", _integer)
_PlainLoader.add_constructor(f"{_TAG}str", _text)
for _kind in ("timestamp", "binary", "set", "omap", "pairs"):
    _PlainLoader.add_constructor(f"{_TAG}{_kind}", _refused)
