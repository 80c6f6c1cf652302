"""The configuration of the operator. Only this module reads the environment and the configuration file."""

import os
import pkgutil
import re
import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import UserFacingError
from app.masking import secrets_of_url


class ConfigurationError(UserFacingError):
    """The configuration can't be used. The message says which key, and what to do."""


def _key(whose: str, variable: str | None) -> str:
    # The SDKs refuse an empty key, also for servers that need none.
    if variable is None:
        return "none"
    value = os.environ.get(variable)
    if not value:
        raise ConfigurationError(f"{whose} needs the environment variable {variable}")
    return value


# One module for each protocol. This module lists their names and imports none: the API process has no teacher's SDK.
_ADAPTERS = Path(__file__).parent / "providers" / "adapters"
PROTOCOLS_WITH_REMOTE_BATCHES = frozenset({"openai"})
LOCAL_PROTOCOL = "local"
# The field that gives the address of a teacher, by protocol; None: there is none. Other protocols need a base_url.
_PLACES = {"callable": "function", LOCAL_PROTOCOL: None}
_SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
# What only a protocol with an address has, and what only the protocol of OpenAI has.
_FIELDS_OF_REQUESTS = ("extra_body", "extra_headers", "query", "stop", "system_turn", "drops", *_SAMPLING)
_FIELDS_OF_OPENAI = ("max_tokens_name", "streams", "presence_penalty", "frequency_penalty")
_FROM_ENV = "env:"
# A model in the worker computes few calls at once, and on a CPU takes minutes for a long reply.
_LOCAL_DEFAULTS = {"in_flight": 4, "timeout_seconds": 900}


def protocols() -> list[str]:
    """Return the protocols of teachers, which are the names of the modules of the adapters, in order."""
    return sorted(module.name for module in pkgutil.iter_modules([str(_ADAPTERS)]))


class TeacherConfig(BaseModel):
    """A teacher: an address, a function or a model of this machine. Prices are US dollars per million tokens.

    Attributes:
        function: "module:function", for the protocol `callable`, which has no address. Workers must be able to import
            it.
        model: The name of the model; for the protocol `local` the name of a base model.
        api_key_env: The name of the environment variable with the API key.
        cached_price: The price of a cached prompt token; None: that of any prompt token.
        in_flight: The most calls in flight, of all workers together. The rate limiter adapts the limit below it.
        requests_per_minute: The limit of all workers together; 0 is no limit.
        tokens_per_minute: The limit of all workers together; 0 is no limit.
        timeout_seconds: The longest time of one call.
        batch_price_share: The price of a call in a remote batch, as a share of its normal price.
        replies: The form of replies with parts. auto: the form that `seedbed teachers check` measured, and json_schema
            until then.
        thought_tokens: The tokens of a call for the thought of the teacher, beside those of its answer.
        opens_thought: Whether the template of the model opens the thought in the prompt.
        extra_body: Fields of each request body.
        extra_headers: HTTP headers of each request. A value "env:NAME" is read from the environment.
        query: Parameters of the address.
        temperature: Replaces the setting of each step, as `top_p` and the penalties do.
        system_turn: folded: the system text stands before the text of the user.
        drops: Fields of a request that the teacher refuses, and that are never sent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    protocol: str = "openai"
    base_url: str = ""
    function: str = ""
    model: str
    api_key_env: str | None = None
    prompt_price: Decimal = Field(default=Decimal(0), ge=0)
    cached_price: Decimal | None = Field(default=None, ge=0)
    completion_price: Decimal = Field(default=Decimal(0), ge=0)
    in_flight: int = Field(default=32, ge=1, le=2000)
    requests_per_minute: int = Field(default=0, ge=0)
    tokens_per_minute: int = Field(default=0, ge=0)
    timeout_seconds: float = Field(default=120, gt=0)
    # OpenAI's price of the Batch API: half of the normal one.
    batch_price_share: Decimal = Field(default=Decimal("0.5"), ge=0, le=1)
    replies: Literal["auto", "json_schema", "json_object", "tagged"] = "auto"
    thought_tokens: int | None = Field(default=None, ge=0, le=200_000)
    opens_thought: bool | None = None
    extra_body: dict[str, Any] = {}
    extra_headers: dict[str, str] = {}
    query: dict[str, str] = {}
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    stop: tuple[str, ...] = ()
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] | None = None
    system_turn: Literal["own", "folded"] | None = None
    streams: bool | None = None
    drops: tuple[str, ...] = ()

    @field_validator("protocol")
    @classmethod
    def registered(cls, value: str) -> str:
        """Raise a ValueError for a protocol that has no adapter."""
        if value not in protocols():
            raise ValueError(f"no protocol {value!r}; there are {', '.join(protocols())}")
        return value

    @field_validator("base_url")
    @classmethod
    def plain_http_url(cls, value: str) -> str:
        """Return the address without a slash at its end. Raises a ValueError for one that is no HTTP address."""
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("function")
    @classmethod
    def module_and_function(cls, value: str) -> str:
        """Raise a ValueError for a value that is not written as `module:function`."""
        if value and not re.fullmatch(r"[\w.]+:[\w.]+", value):
            raise ValueError("must be written as module:function")
        return value

    @model_validator(mode="before")
    @classmethod
    def named_by_its_function(cls, data: Any) -> Any:
        """A function is its own model, unless the operator gives the model a name."""
        if isinstance(data, dict) and data.get("protocol") == "callable" and data.get("function"):
            return {"model": data["function"], **data}
        return data

    @model_validator(mode="before")
    @classmethod
    def with_defaults_of_its_protocol(cls, data: Any) -> Any:
        """Add the defaults of the protocol for the fields that the operator has not set."""
        if isinstance(data, dict) and data.get("protocol") == LOCAL_PROTOCOL:
            return _LOCAL_DEFAULTS | data
        return data

    @model_validator(mode="after")
    def whole(self) -> "TeacherConfig":
        """Check that the teacher has the fields that its protocol needs, and no others.

        Raises:
            ValueError: A field is missing, or has no meaning for the protocol.
        """
        needed = _PLACES.get(self.protocol, "base_url")
        if needed and not getattr(self, needed):
            raise ValueError(f"a teacher of the protocol {self.protocol!r} needs {needed}")
        for other in {"base_url", "function"} - {needed}:
            if getattr(self, other):
                raise ValueError(f"a teacher of the protocol {self.protocol!r} has no {other}")
        if self.protocol == LOCAL_PROTOCOL:
            self._check_local()
        refused = [name for name in _FIELDS_OF_REQUESTS if needed != "base_url" and name in self.model_fields_set]
        refused += [name for name in _FIELDS_OF_OPENAI if self.protocol != "openai" and getattr(self, name)]
        if refused:
            raise ValueError(f"a teacher of the protocol {self.protocol!r} has no {refused[0]}")
        return self

    def _check_local(self) -> None:
        if self.api_key_env:
            raise ValueError("a teacher of the protocol 'local' has no api_key_env")
        if self.replies == "json_schema":
            message = "a teacher of the protocol 'local' can't be made to keep to a JSON schema"
            raise ValueError(f"{message}; set replies to json_object or tagged")

    @property
    def address(self) -> str:
        """The URL, the function or the protocol: it distinguishes teachers that have the same name and model."""
        return self.base_url or self.function or self.protocol

    @property
    def has_remote_batches(self) -> bool:
        """Whether the protocol has remote batches, which the mode `batch` of a run needs."""
        return self.protocol in PROTOCOLS_WITH_REMOTE_BATCHES

    def api_key(self) -> str:
        """Return the API key of the environment; a placeholder for a teacher without one.

        Raises:
            ConfigurationError: The environment variable is not set.
        """
        return _key(f"teacher {self.name!r}", self.api_key_env)

    def headers(self) -> dict[str, str]:
        """Return the extra headers with their values from the environment.

        Raises:
            ConfigurationError: A value names a variable that is not set.
        """
        return {name: self._header_value(value) for name, value in self.extra_headers.items()}

    def _header_value(self, value: str) -> str:
        return _key(f"teacher {self.name!r}", value.removeprefix(_FROM_ENV)) if value.startswith(_FROM_ENV) else value

    @property
    def sampling(self) -> dict[str, float]:
        """The sampling settings that replace those of each step, by name."""
        values = {name: getattr(self, name) for name in _SAMPLING}
        return {name: value for name, value in values.items() if value is not None}


class BaseModelConfig(BaseModel):
    """A causal LM that fine-tunes may start from: a folder, or a hub name with a pinned revision; or a GGUF file.

    A teacher of the protocol `local` may use each of them.

    Attributes:
        path: A folder of this machine.
        hub: A name on the hub.
        revision: The revision of the hub.
        gguf: A GGUF file. "package:PACKAGE/FILE" is a file in the folder of an installed Python package.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    path: str | None = None
    hub: str | None = None
    revision: str | None = None
    gguf: str | None = None

    @model_validator(mode="after")
    def one_source(self) -> "BaseModelConfig":
        """Raise a ValueError for a GGUF file that has another source, too."""
        if self.gguf and (self.path or self.hub or self.revision):
            raise ValueError("a base model with gguf has no path, hub or revision")
        return self

    @property
    def kind(self) -> str:
        """The type of the source: path, hub, gguf, or tiny where the operator has named none."""
        return "path" if self.path else "hub" if self.hub else "gguf" if self.gguf else "tiny"

    @property
    def is_trainable(self) -> bool:
        """Whether fine-tunes and likelihood scores may use it. The weights of a GGUF file are quantized."""
        return self.kind != "gguf"

    def source(self) -> dict:
        """Return the source as the description of a recipe's job has it. A GGUF file has none."""
        sources = {
            "path": {"kind": "path", "path": self.path},
            "hub": {"kind": "hub", "name": self.hub, "revision": self.revision},
            "tiny": {"kind": "tiny"},
        }
        return sources[self.kind]


class EncoderConfig(BaseModel):
    """An embedding model: a local path or a hub name (torch, openvino), or an OpenAI-compatible endpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    backend: Literal["torch", "openvino", "endpoint"] = "torch"
    path: str | None = None
    hub: str | None = None
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    base_url: str | None = None
    model: str | None = None
    api_key_env: str | None = None
    dimensions: int | None = Field(default=None, ge=1, le=16384)
    timeout_seconds: float = Field(default=60, gt=0)

    @model_validator(mode="after")
    def whole(self) -> "EncoderConfig":
        """Check that the encoder has the fields that its backend needs.

        Raises:
            ValueError: A field is missing, or two sources are given.
        """
        if self.backend == "endpoint":
            if not (self.base_url and self.model and self.dimensions):
                raise ValueError("an endpoint needs base_url, model and dimensions")
            if not self.base_url.startswith(("http://", "https://")):
                raise ValueError("base_url must start with http:// or https://")
        elif bool(self.path) == bool(self.hub):
            raise ValueError("give either path or hub")
        return self

    def api_key(self) -> str:
        """Return the API key of the environment; a placeholder for an endpoint without one.

        Raises:
            ConfigurationError: The environment variable is not set.
        """
        return _key(f"encoder {self.name!r}", self.api_key_env)


class Limits(BaseModel):
    """Hard limits of one installation. `request_body` and `import_body` are sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: int = Field(default=100_000, ge=1)
    seeds_per_dataset: int = Field(default=10_000, ge=1)
    request_body: int = Field(default=4 * 2**20, ge=1024)
    import_body: int = Field(default=256 * 2**20, ge=1024)
    import_rows: int = Field(default=1_000_000, ge=1)


class FileConfig(BaseModel):
    """The content of the TOML file that SEEDBED_CONFIG names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teachers: tuple[TeacherConfig, ...] = ()
    encoders: tuple[EncoderConfig, ...] = ()
    base_models: tuple[BaseModelConfig, ...] = ()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def local_teachers_have_models(self) -> "FileConfig":
        """Check that each teacher of the protocol `local` names a base model with weights.

        Raises:
            ValueError: A teacher names another model, or `tiny`.
        """
        models = {model.name: model for model in self.base_models}
        for teacher in self.teachers:
            if teacher.protocol != LOCAL_PROTOCOL:
                continue
            if teacher.model == "tiny":
                message = (
                    f"the teacher {teacher.name!r} can't be the base model 'tiny', which each fine-tune makes anew"
                )
                raise ValueError(f"{message}; name another one of [[base_models]]")
            if teacher.model not in models or models[teacher.model].kind == "tiny":
                message = f"the teacher {teacher.name!r} needs a [[base_models]] named {teacher.model!r}"
                raise ValueError(f"{message} with path, hub or gguf")
        return self


class Settings(BaseSettings):
    """The environment variables with the prefix SEEDBED_, and DATABASE_URL and REDIS_URL.

    Attributes:
        home: The folder of local files.
        storage_url: The fsspec URL of the storage; empty: a local directory.
        pool_size: The connections to the database that a process keeps open.
        lease_seconds: The lease of a claim. A job of a worker that died is claimed again after this time.
        slice_seconds: The time slice of a run.
        sweep_seconds: The interval of the sweeper.
        poll_seconds: The interval in which a worker polls Postgres for work whose notification was lost.
        teacher_gone_seconds: A run ends when its teacher was unreachable for longer than this.
        encoder_threads: The threads of the encoder; 0: torch chooses their number.
        pool_memory_mb: The memory of all pools of one worker together.
        semantic_exact_rows: The number of rows above which the search for the nearest neighbour uses a graph, and is
            no longer exact.
        api_pool_memory_mb: The memory of the pools that the API process caches to find the neighbours of a record.
    """

    model_config = SettingsConfigDict(env_prefix="SEEDBED_", frozen=True, extra="ignore")

    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    redis_url: str | None = Field(default=None, validation_alias="REDIS_URL")
    config: Path | None = None
    home: Path = Path(".seedbed")
    storage_url: str = ""
    api_key: SecretStr | None = None
    pool_size: int = 8
    # A quarter of it passes between two extensions: three of them may fail before another worker claims the work.
    lease_seconds: float = 60
    # Runs take turns by slices, so that a short run does not wait for the end of a long one.
    slice_seconds: float = 25
    sweep_seconds: float = 2
    poll_seconds: float = 15
    teacher_gone_seconds: float = 1800
    encoder: str = "all-MiniLM-L6-v2"
    encoder_threads: int = 0
    pool_memory_mb: int = 2048
    semantic_exact_rows: int = 200_000
    api_pool_memory_mb: int = 512

    @property
    def files(self) -> str:
        """The fsspec URL of the storage of snapshots and artifacts; a local directory unless it is configured."""
        return self.storage_url or str(self.home.resolve() / "files")


# Cached: one process must not work by two configurations, and the files are read at each request.
@cache
def settings() -> Settings:
    """Return the settings of this process."""
    return Settings()


@cache
def file_config() -> FileConfig:
    """Return the content of the configuration file; the defaults when none is named.

    Raises:
        ConfigurationError: The file can't be read, or is not valid.
    """
    path = settings().config
    if path is None:
        return FileConfig()
    try:
        return FileConfig.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise ConfigurationError(f"SEEDBED_CONFIG names {path}, which can't be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{path}: {where}: {first['msg']}") from error


def teachers() -> dict[str, TeacherConfig]:
    """Return the teachers of the configuration file, by name."""
    return {teacher.name: teacher for teacher in file_config().teachers}


def secrets() -> list[str]:
    """Return every key, address and password of the configuration, which logs mask. A missing variable is left out."""
    configured = (*file_config().teachers, *file_config().encoders)
    keys = [os.environ.get(endpoint.api_key_env or "", "") for endpoint in configured]
    values = [value for teacher in file_config().teachers for value in _values_to_mask(teacher)]
    addresses = [part for endpoint in configured if endpoint.base_url for part in secrets_of_url(endpoint.base_url)]
    urls = [settings().database_url or "", settings().redis_url or ""]
    passwords = [urlsplit(url).password or "" for url in urls]
    own_key = settings().api_key.get_secret_value() if settings().api_key else ""
    return [secret for secret in (*keys, *values, *addresses, *passwords, own_key) if secret]


def _values_to_mask(teacher: TeacherConfig) -> list[str]:
    headers = (
        os.environ.get(value.removeprefix(_FROM_ENV), "") if value.startswith(_FROM_ENV) else value
        for value in teacher.extra_headers.values()
    )
    return [*headers, *teacher.query.values()]


BUNDLED_ENCODER = EncoderConfig(name="all-MiniLM-L6-v2", path="all-MiniLM-L6-v2", dimensions=384)


def encoders() -> dict[str, EncoderConfig]:
    """Return the operator's encoders and the bundled one, by name.

    SEEDBED_ENCODER may also be the path or the hub name of a model, which is then an encoder, too.
    """
    by_name = {BUNDLED_ENCODER.name: BUNDLED_ENCODER} | {encoder.name: encoder for encoder in file_config().encoders}
    default = settings().encoder
    if default not in by_name:
        # Names stand in URLs and in file names; a path would not be one.
        name = re.sub(r"[^A-Za-z0-9_.-]", "-", default).strip("-.")[:64]
        by_name[default] = EncoderConfig(name=name, path=default)
    return by_name


TINY = BaseModelConfig(name="tiny")


def base_models() -> dict[str, BaseModelConfig]:
    """Return the operator's base models, and `tiny`, a small model that each fine-tune makes anew, by name."""
    return {TINY.name: TINY} | {model.name: model for model in file_config().base_models}


def limits() -> Limits:
    """Return the limits of this installation."""
    return file_config().limits


def database_url() -> str:
    """Return the address of Postgres for SQLAlchemy, with the driver psycopg 3 for each spelling of the scheme.

    Raises:
        ConfigurationError: DATABASE_URL is not set, or is no address of Postgres.
    """
    url = settings().database_url
    if not url:
        raise ConfigurationError("DATABASE_URL is not set. Run `seedbed up` for an embedded stack.")
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ConfigurationError("DATABASE_URL must be a postgresql:// address")
    return f"postgresql+psycopg://{rest}"


def redis_url() -> str:
    """Return the address of Redis.

    Raises:
        ConfigurationError: REDIS_URL is not set.
    """
    url = settings().redis_url
    if not url:
        raise ConfigurationError("REDIS_URL is not set. Run `seedbed up` for an embedded stack.")
    return url
