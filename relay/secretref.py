"""Where the configuration keeps a secret: ``{ env = "NAME" }``, ``{ file = "PATH" }`` or, with a warning, itself.

A reference is checked with the rest of the file but read later, so that a configuration can be checked on a machine
that has none of the secrets. The rule it guards: what was read is known to the log's redactor before anyone uses it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from relay.errors import ConfigError
from relay.secret import KNOWN_SECRETS, Secret

MAX_SECRET_BYTES = 16 * 1024
"""A stream key or token is below 1 KiB, a JWT below 8 KiB; a larger file is the wrong file."""

HASHED = re.compile(r"sha256:[0-9A-Fa-f]{64}")
Kind = Literal["env", "file", "plain"]

_FORMS = '{ env = "NAME" }, { file = "PATH" } or a string'


class SecretRef:
    """One secret of the configuration. Printing it shows where the secret is, never what it is."""

    __slots__ = ("_secret", "kind", "where")

    def __init__(self, kind: Kind, where: str, secret: Secret | None = None) -> None:
        self.kind: Kind = kind
        self.where = where
        self._secret = secret

    @classmethod
    def of(cls, value: str) -> SecretRef:
        """Wrap a secret that is already at hand."""
        return cls("plain", "", Secret(value))

    @property
    def secret(self) -> Secret:
        """The secret itself, read on first use. Raises ConfigError (with an empty path) when it is not there."""
        if self._secret is None:
            self.resolve()
        assert self._secret is not None  # noqa: S101 - resolve() sets it or raises
        return self._secret

    def resolve(self, directory: Path | None = None) -> Secret:
        """Read the secret; a relative path counts from *directory*, or from systemd's credentials if it is there."""
        if self._secret is None:
            text = self._from_env() if self.kind == "env" else self._from_file(directory)
            if not text:
                raise ConfigError("", f"{self} is empty")
            self._secret = Secret(text)
        KNOWN_SECRETS.add(self._secret)
        return self._secret

    def hide(self) -> None:
        """Hide a secret that came after the start from the log, for as long as somebody has it."""
        KNOWN_SECRETS.hold(self.secret)

    @property
    def exposed(self) -> bool:
        """The secret stands in the file as it is. A hash is not exposed."""
        return self.kind == "plain" and self._secret is not None and not HASHED.fullmatch(self._secret.reveal())

    def _from_env(self) -> str:
        value = os.environ.get(self.where)
        if value is None:
            raise ConfigError("", f"the environment variable {self.where} is not set")
        return value.strip("\r\n")

    def _from_file(self, directory: Path | None) -> str:
        path = self._path(directory)
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_SECRET_BYTES + 1)
        except OSError as error:
            raise ConfigError("", f"cannot read {path}: {error.strerror or error}") from None
        if len(data) > MAX_SECRET_BYTES:
            raise ConfigError("", f"{path} is larger than {MAX_SECRET_BYTES // 1024} KiB: not a secret")
        try:
            return data.decode("utf-8").strip("\r\n")
        except UnicodeDecodeError:
            raise ConfigError("", f"{path} is not UTF-8 text") from None

    def _path(self, directory: Path | None) -> Path:
        path = Path(self.where)
        if path.is_absolute():
            return path
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        if credentials and (Path(credentials) / path).exists():
            return Path(credentials) / path
        return (directory or Path()) / path

    def __repr__(self) -> str:
        return f"SecretRef({self})"

    def __str__(self) -> str:
        return "***" if self.kind == "plain" else f"{{ {self.kind} = {self.where!r} }}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretRef) or (self.kind, self.where) != (other.kind, other.where):
            return False
        return self.kind != "plain" or self._secret == other._secret

    def __hash__(self) -> int:
        return hash((self.kind, self.where))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        def table(key: str, text: str) -> JsonSchemaValue:
            value = {"type": "string", "description": text}
            return {"type": "object", "properties": {key: value}, "required": [key], "additionalProperties": False}

        return {
            "anyOf": [
                table("env", "Name of an environment variable that holds the secret."),
                table("file", "Path of a file that holds the secret."),
                {"type": "string", "description": "The secret itself. Readable by everybody who can read the file."},
            ]
        }


def _parse(value: object) -> SecretRef:
    """Build a reference from what TOML gave. No message repeats the value: it may be the secret."""
    if isinstance(value, SecretRef):
        return value
    if isinstance(value, Secret):
        return SecretRef("plain", "", value)
    if isinstance(value, str):
        if not value:
            raise PydanticCustomError("secret_ref", "must not be empty")
        return SecretRef.of(value)
    if not isinstance(value, dict):
        raise PydanticCustomError("secret_ref", f"must be {_FORMS}")
    if len(value) == 1:
        ((kind, where),) = value.items()
        if kind in ("env", "file") and isinstance(where, str) and where:
            return SecretRef(kind, where)
    raise PydanticCustomError("secret_ref", f"must be {_FORMS}, with exactly one of env and file")


def _as_tuple(value: object) -> tuple[object, ...]:
    if isinstance(value, list | tuple):
        if not value:
            raise PydanticCustomError("secret_ref", "must not be an empty list")
        return tuple(value)
    return (value,)


SecretRefs = Annotated[
    tuple[SecretRef, ...], BeforeValidator(_as_tuple, json_schema_input_type=SecretRef | list[SecretRef])
]
"""One secret, or a list of them so that an old and a new one are both good while they are changed."""

SecretPath = tuple[str | int, ...]


def find_secrets(value: object, path: SecretPath = ()) -> Iterator[tuple[SecretPath, SecretRef]]:
    """Yield every secret reference inside models, dicts, lists and tuples, with its path."""
    if isinstance(value, SecretRef):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from find_secrets(getattr(value, name), path if name == "root" else (*path, name))
        yield from find_secrets(value.__pydantic_extra__ or {}, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from find_secrets(item, (*path, key))
    elif isinstance(value, list | tuple):
        alone = len(value) == 1 and isinstance(value[0], SecretRef)  # written without a list, see SecretRefs
        for index, item in enumerate(value):
            yield from find_secrets(item, path if alone else (*path, index))
