"""A configuration file as data, and what is wrong with it, said so that it can be mended.

Reads TOML, validates it against pydantic models and turns every error into ``FILE:LINE: path: what is wrong``. Knows no
option by name. The rule it guards: all errors at once, and no message ever repeats a value that may be a secret.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeGuard, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from relay.config_lines import LineIndex, show_path
from relay.config_lines import Path as TablePath
from relay.errors import ConfigError

MAX_FILE_BYTES = 1024 * 1024
"""A configuration of 1,000 streams with five targets each is about 600 KiB; above this it is the wrong file."""

MISSPELT = 0.85
"""How alike two names are that differ in one letter. Whole tables are taken for another only then: ``restream`` at the
top of a file is no ``streams``."""

Table = dict[str, object]
ModelT = TypeVar("ModelT", bound=BaseModel)

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_NUMBER_WITH_UNIT = re.compile(r"\s*([0-9][0-9_.]*)\s*[A-Za-z%]{1,8}\s*")
_UNQUOTED_UNIT = re.compile(r"=\s*([0-9][0-9_.]*)\s*[A-Za-z%]{1,8}\s*(?:#.*)?$")


class ConfigModel(BaseModel):
    """Base of every table of the configuration: unknown keys are errors, values never change once read.

    Validation is strict: ``"10"`` is not a number and ``true`` is not 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def count_from_file(path: Path, info: ValidationInfo) -> Path:
    """Return *path*, a relative one below the folder of the configuration file that is being validated."""
    directory: Path | None = (info.context or {}).get("directory")
    return path if directory is None else directory / path


LocalPath = Annotated[Path, AfterValidator(count_from_file)]
"""A path of this machine in a configuration. A relative one counts from the file's folder, as that of a secret does;
without a file from the working directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with a configuration."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        message = " ".join(self.message.split())  # one problem, one line, whatever an exception said
        return f"{where}: {self.path}: {message}" if self.path else f"{where}: {message}"


class ConfigFileError(ConfigError):
    """Everything that is wrong with a configuration, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems), key=lambda p: (p.file, p.line, p.path)))
        first = self.problems[0]
        super().__init__(first.path, first.message)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class Source:
    """The text of a configuration: its tables and their lines."""

    def __init__(self, text: str, *, file: str, directory: Path | None = None) -> None:
        self.file = file
        self.directory = directory
        self.data: Table = _parse_toml(text, file)
        self._written: dict[str, str] = {}
        try:
            self._lines = LineIndex(text)
        except RecursionError:
            self._lines = LineIndex("")

    def problem(self, path: TablePath, message: str) -> Problem:
        """Say what is wrong at *path*."""
        path = (self._written.get(str(path[0]), path[0]), *path[1:]) if path else path
        return Problem(file=self.file, line=self._lines.line(path), path=show_path(path), message=message)

    def problem_at(self, shown: str, message: str) -> Problem:
        """Say what is wrong at a path that is already written out, for example by a plugin's ConfigError."""
        found = self._lines.find(shown) if shown else ()
        return Problem(file=self.file, line=self._lines.line(found or ()), path=shown, message=message)

    def mend(self, known: Set[str]) -> bool:
        """Let what stands at the top under a misspelt name be found by its own, so that it can be validated as well.

        Returns whether there was any. Problems name what is written.
        """
        for name in [name for name in self.data if name not in known]:
            meant = closest(name, known - self.data.keys(), MISSPELT)
            if meant is not None:
                self._written[meant] = name
                self.data[meant] = self.data.pop(name)
        return bool(self._written)

    def table(self, *path: str) -> Table:
        """Return the table at *path*, empty when there is none."""
        current: object = self.data
        for part in path:
            current = current.get(part) if isinstance(current, dict) else None
        return current if isinstance(current, dict) else {}


def read_source(path: Path) -> Source:
    """Read a configuration file; raise ConfigFileError when it is not TOML."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _fatal(file, 1, f"cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise _fatal(file, 1, f"larger than {MAX_FILE_BYTES // 1024} KiB: not a configuration file")
    return Source(_decode(data, file), file=file, directory=path.resolve().parent)


def _decode(data: bytes, file: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _fatal(file, 1, "is UTF-16; save it as UTF-8")
    nul = data.find(b"\0")
    if nul >= 0:
        raise _fatal(file, data.count(b"\n", 0, nul) + 1, "is not a text file (NUL byte)")
    try:
        return data.decode("utf-8-sig")  # Windows editors put a byte order mark in front
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _fatal(file, line, f"is not UTF-8 text (byte 0x{data[error.start]:02x})") from None


def _parse_toml(text: str, file: str) -> Table:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(text, file, str(error)) from None
    except RecursionError:
        raise _fatal(file, 1, "is nested too deeply") from None
    except ValueError as error:  # int() refuses numbers of more than 4,300 digits
        raise _fatal(file, 1, f"not valid TOML: {error}") from None


def _syntax_error(text: str, file: str, said: str) -> ConfigFileError:
    place = _PLACE.search(said)
    lines = text.splitlines() or [""]
    line = int(place[1]) if place and place[1] else len(lines)
    column = f" (column {place[2]})" if place and place[2] else " (end of the file)"
    message = f"not valid TOML: {said[: place.start()] if place else said}{column}"
    wrong = lines[min(line, len(lines)) - 1]
    unit = _UNQUOTED_UNIT.search(wrong)
    if unit:
        message += f"; a number has no unit here, the key's name says it (did you mean {unit[1]}?)"
    return _fatal(file, line, message)


def _fatal(file: str, line: int, message: str) -> ConfigFileError:
    return ConfigFileError([Problem(file=file, line=line, path="", message=message)])


def validate(
    model: type[ModelT], data: Mapping[str, object], source: Source, at: TablePath = ()
) -> tuple[ModelT | None, list[Problem]]:
    """Build *model* from a table that stands at *at*; return it, or None and what is wrong.

    Goes through JSON because pydantic's strict mode is exact there: a TOML array may become a tuple, a string may
    become a path, but ``"10"`` does not become 10.
    """
    try:
        text = json.dumps(data, default=str)
        return model.model_validate_json(text, strict=True, context={"directory": source.directory}), []
    except RecursionError:
        return None, [source.problem(at, "is nested too deeply")]
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
        return None, [_explain(model, data, detail, source, at) for detail in details]


def _explain(
    model: type[BaseModel], data: Mapping[str, object], detail: ErrorDetails, source: Source, at: TablePath
) -> Problem:
    path = _real_path(data, detail["loc"], detail["type"])
    return source.problem((*at, *path), _message(model, detail, path))


def _holds(data: object, part: str | int) -> TypeGuard[dict[str | int, object]]:
    if isinstance(data, list):
        return isinstance(part, int) and part < len(data)
    return isinstance(data, dict) and part in data


def _real_path(data: object, loc: Sequence[str | int], kind: str) -> TablePath:
    """Drop what pydantic adds to a location (names of union members, ``[key]``): keep what stands in the file."""
    path: TablePath = ()
    for index, part in enumerate(loc):
        if _holds(data, part):
            data = data[part]
        elif not (kind == "missing" and index == len(loc) - 1):
            continue
        path = (*path, part)
    return path


_WRONG_TYPE = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "path_type": "must be a string",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "json_invalid": "is nested too deeply",
    "missing": "is required",
}


_MANY = ("list_type", "tuple_type")
_ONE = ("dict_type", "model_type")


def _message(model: type[BaseModel], detail: ErrorDetails, path: TablePath) -> str:
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "extra_forbidden":
        return "unknown key" + did_you_mean(str(path[-1]), _fields_at(model, path[:-1]))
    if kind == "literal_error":
        options = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        shown = ", ".join(f'"{option}"' for option in options)
        meant = closest(given, options) if isinstance(given, str) else None
        return f"must be one of {shown}" + ("" if meant is None else f' (did you mean "{meant}"?)')
    for bound, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if bound in context:
            return f"must be {words} {_plain(context[bound])} (got {given})"
    if kind in _MANY and isinstance(given, dict):
        return f"must be a list of tables: write [[{show_path(path)}]]"
    if kind in _ONE and isinstance(given, list):
        return f"must be one table: write [{show_path(path)}]"
    if kind in _WRONG_TYPE:
        return _WRONG_TYPE[kind] + _unit_hint(given)
    said = detail["msg"].removeprefix("Value error, ")
    return said[:1].lower() + said[1:]


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def _unit_hint(given: object) -> str:
    found = _NUMBER_WITH_UNIT.fullmatch(given) if isinstance(given, str) else None
    return "" if found is None else f'; the unit is in the key\'s name (got "{given}", did you mean {found[1]}?)'


def closest(wrong: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the name that was probably meant; *cutoff* says how alike the two must be, from 0 to 1."""
    return next(iter(difflib.get_close_matches(wrong.lower(), sorted(known), n=1, cutoff=cutoff)), None)


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return `` (did you mean "x"?)`` or what is known, when it is little, or nothing."""
    names = sorted(set(known))
    close = closest(wrong, names)
    if close is not None:
        return f' (did you mean "{close}"?)'
    if names and len(names) <= 8:
        return f" (known: {', '.join(names)})"
    return ""


def _fields_at(model: type[BaseModel], path: TablePath) -> list[str]:
    current: type[BaseModel] | None = model
    for part in path:
        if current is None:
            return []
        if part in current.model_fields:
            current = _model_in(current.model_fields[str(part)].annotation)
        elif "__pydantic_extra__" in vars(current).get("__annotations__", {}):  # tables by name, as the targets are
            current = _model_in(get_type_hints(current)["__pydantic_extra__"])
    return [] if current is None else list(current.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model inside ``X | None``, ``tuple[X, ...]`` or ``dict[str, X]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
