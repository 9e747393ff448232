"""Config templates: YAML, JSON or TOML files in which `{{name}}` stands for a value."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import yaml

Value = bool | int | float | str | None
PLACEHOLDER = re.compile(r"\{\{\{\{|\}\}\}\}|\{\{[ \t]*(?P<name>[A-Za-z_][A-Za-z0-9_.]{0,127})[ \t]*\}\}|\{\{")
MARK = re.compile(r"thawline\d+placeholder")
YAML = (".yaml", ".yml")
MOST_BYTES = 2**20  # of a template
LISTED_NAMES = 20  # in a message


class TemplateError(ValueError):
    """A template cannot be rendered. The message names the file, the line and the remedy."""


def render(text: str, values: Mapping[str, Value], file: str, target: str | None = None) -> str:
    """The text with values in place of its placeholders. Raises TemplateError.

    A placeholder that is a whole scalar, with or without quotes, becomes the value with its type. Within a longer string it becomes text.
    `{{{{` and `}}}}` stand for `{{` and `}}`. `file` is the template's name; the suffix of `target`, by default the same, gives the format.
    """
    suffix = PurePath(target or file).suffix.lower()
    parse = _parser(suffix, target or file)
    rendered, marked, texts = list[str](), list[str](), dict[str, str]()
    end = 0
    for found in PLACEHOLDER.finditer(text):
        before = text[end : found.start()]
        end = found.end()
        if found["name"] is None:
            literal = _braces(found, text, file)
            rendered += [before, literal]
            marked += [before, literal]
            continue
        value = _value_of(found, text, values, file)
        if value is None and suffix == ".toml":
            raise _fault(text, found, file, f"{found['name']} is null, which TOML cannot express")
        mark = f"thawline{len(texts)}placeholder"
        texts[mark] = as_text(value)
        if is_quoted := _is_quoted(text, found, before):
            before, end = before[:-1], end + 1
        if is_quoted or _stands_alone(text, found):
            rendered += [before, _literal(value)]
            # Without quotes the mark is a scalar only in YAML, where it also shows whether the place is one.
            marked += [before, mark if suffix in YAML and not is_quoted else f'"{mark}"']
        else:
            rendered += [before, _within(texts[mark], text, found, suffix)]
            marked += [before, mark]
    rendered.append(text[end:])
    marked.append(text[end:])
    _verify(parse, "".join(rendered), "".join(marked), texts, file)
    return "".join(rendered)


def as_text(value: Value) -> str:
    """The value within a longer string: as JSON, but a string without quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def unknown(name: str, known: Mapping[str, object]) -> str:
    """The message for a name that is not among the known parameters."""
    names = sorted(known)
    more = f" and {len(names) - LISTED_NAMES} more" if len(names) > LISTED_NAMES else ""
    return f"there is no parameter {name!r}; the parameters are {', '.join(names[:LISTED_NAMES]) or 'none'}{more}"


def _braces(found: re.Match[str], text: str, file: str) -> str:
    if found.group() == "{{":
        raise _fault(text, found, file, "{{ begins no placeholder; write {{name}}, or {{{{ for two braces")
    return found.group()[:2]


def _value_of(found: re.Match[str], text: str, values: Mapping[str, Value], file: str) -> Value:
    name = found["name"]
    if name not in values:
        raise _fault(text, found, file, unknown(name, values))
    return values[name]


def _fault(text: str, found: re.Match[str], file: str, message: str) -> TemplateError:
    return TemplateError(f"{file}, line {text.count(chr(10), 0, found.start()) + 1}: {message}")


def _line_before(text: str, found: re.Match[str]) -> str:
    """The part of the line before the placeholder, without escaped characters."""
    return re.sub(r"\\.", "", text[text.rfind("\n", 0, found.start()) + 1 : found.start()])


def _is_quoted(text: str, found: re.Match[str], before: str) -> bool:
    """Whether the placeholder is all that is within a pair of quotes. `before` is the text after the last placeholder."""
    quote = before[-1:]
    if quote not in ('"', "'") or text[found.end() : found.end() + 1] != quote:
        return False
    return _line_before(text, found).count(quote) % 2 == 1  # the quote begins a string


def _stands_alone(text: str, found: re.Match[str]) -> bool:
    """Whether nothing but the placeholder is between two delimiters of its line, outside of quotes."""
    before, after = _line_before(text, found), text[found.end() :].partition("\n")[0]
    begins = re.search(r"(?:^|^\s*-|:\s|[\"']\s*:|[=\[,{])\s*\Z", before) is not None
    return begins and re.match(r"\s*(?:\Z|[,\]}]|\s#)", after) is not None and not before.count('"') % 2 and not before.count("'") % 2


def _literal(value: Value) -> str:
    """The value as a scalar that has the same meaning in YAML 1.1 and 1.2, JSON and TOML."""
    if isinstance(value, float):
        # YAML 1.1 reads 1e-05 as a string: a number needs a decimal point.
        mantissa, exponent, power = repr(value).partition("e")
        return mantissa + ("" if "." in mantissa else ".0") + exponent + power
    return json.dumps(value, ensure_ascii=False)


def _within(value: str, text: str, found: re.Match[str], suffix: str) -> str:
    """A text within a string, escaped as the quotes around the string require."""
    before = _line_before(text, found)
    if before.count('"') % 2:
        return json.dumps(value, ensure_ascii=False)[1:-1]
    return value.replace("'", "''") if before.count("'") % 2 and suffix in YAML else value


def _parser(suffix: str, file: str) -> Callable[[str], Any]:
    if suffix in YAML:
        return _yaml_events
    parsers: Mapping[str, Callable[[str], Any]] = {".json": json.loads, ".toml": tomllib.loads}
    if (parser := parsers.get(suffix)) is None:
        raise TemplateError(f"{file}: a template becomes a .yaml, .yml, .json or .toml file; name it so")
    return parser


def _yaml_events(text: str) -> list[Any]:
    """The events of a YAML stream with their texts. Tags are not resolved, so that a template may use those of another program."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [(type(event).__name__, getattr(event, "value", None), getattr(event, "tag", None)) for event in yaml.parse(text, loader)]


def _verify(parse: Callable[[str], Any], rendered: str, marked: str, texts: Mapping[str, str], file: str) -> None:
    """Raise TemplateError unless the rendered file has the structure of the template, with each value in its place."""
    try:
        expected = parse(marked)
    except (ValueError, yaml.YAMLError) as error:
        raise TemplateError(f"{file} is not valid: {_one_line(error, texts)}") from None
    try:
        found = parse(rendered)
    except (ValueError, yaml.YAMLError) as error:
        raise TemplateError(f"{file} is not valid with these values: {_one_line(error, texts)}; put placeholders in quotes") from None
    if not _is_same(found, expected, texts):
        raise TemplateError(f"{file}: a value changes the structure of the file; put placeholders in quotes")


def _is_same(found: Any, expected: Any, texts: Mapping[str, str]) -> bool:
    match expected:
        case dict():
            return isinstance(found, dict) and _is_same(list(found.items()), list(expected.items()), texts)
        case list() | tuple():
            pairs = zip(found, expected, strict=False)
            return len(found) == len(expected) and all(_is_same(one, other, texts) for one, other in pairs)
        case str() if MARK.search(expected):
            text = MARK.sub(lambda mark: texts.get(mark.group(), mark.group()), expected)
            return as_text(found) == text or (expected in texts and _number(found) is not None and _number(found) == _number(text))
    return bool(found == expected)


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        return None


def _one_line(error: Exception, texts: Mapping[str, str]) -> str:
    return MARK.sub(lambda mark: texts.get(mark.group(), ""), " ".join(str(error).split()))[:300]
