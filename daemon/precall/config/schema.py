"""The configuration: one TOML file, overridden by variables `PRECALL_SECTION__KEY`. Strict, complete and immutable.

`load` collects all mistakes before it refuses, each with its dotted key. An unknown key is a mistake, and the nearest
known one is suggested. Durations are in seconds once loaded. There is no runtime state here.
"""

import difflib
import os
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from precall.config import addresses, database_url, text_file, time_zones, variables
from precall.config.durations import seconds
from precall.config.notifications import NotifyConfig
from precall.config.pool_keys import Pools
from precall.config.receipt_queue import ReceiptsConfig
from precall.config.section import Duration, Section, a_list
from precall.core.errors import ConfigError
from precall.core.model import Action, Policy

DATABASE = "sqlite:///precall.db"

_TABLES = {
    "api.tokens": '[{"name": "dispatcher", "scopes": ["routes:read"], "sha256": "..."}]',
}
"""Examples of lists of tables, as a variable holds them."""


def _an_address(value: str) -> str:
    addresses.split_address(value)
    return value


def _a_timezone(value: str) -> str:
    if value and (why := time_zones.mistake(value)):
        raise ValueError(why)
    return value


def _a_database(url: str) -> None:
    try:
        database_url.check(url)
    except database_url.DatabaseUrlError as mistake:
        raise ValueError(f"url: {mistake}") from None


def _a_hash(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("a token's SHA-256 is 64 hex digits; `precall token new` prints it")
    return value


def _a_hash_or_none(value: str) -> str:
    return _a_hash(value) if value else ""


Endpoint = Annotated[str, AfterValidator(addresses.endpoint)]
Address = Annotated[str, AfterValidator(_an_address)]
Share = Annotated[float, Field(ge=0, le=1)]
CallRate = Annotated[float, Field(ge=0, le=1_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Scope = Literal["routes:read", "routes:real", "bindings:write", "calls:write", "metrics", "admin"]
SCOPES: tuple[str, ...] = get_args(Scope)


class ProviderConfig(Section):
    """How to reach the provider, and how often."""

    endpoint: Endpoint = "https://dyplsapi.aliyuncs.com"
    call_detail_endpoint: Endpoint = "https://dyvmsapi.aliyuncs.com"
    status_source: Literal["call_status", "subscription_detail"] = "call_status"
    proxy: Annotated[str, AfterValidator(addresses.proxy)] = Field("env", repr=False)
    signature: Literal["acs3", "rpc"] = "acs3"
    format: Literal["json", "xml"] = "json"
    access_key_id: str = ""
    access_key_secret: SecretStr = SecretStr("")
    access_key_secret_file: str = ""
    security_token: SecretStr = SecretStr("")
    security_token_file: str = ""
    timeout: Duration = 2.0
    send_call_no: Literal["never", "number_a", "caller"] = "never"
    rate: Annotated[float, Field(gt=0, le=100_000)] = 20
    burst: Annotated[float, Field(ge=1, le=100_000)] | None = None
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 64
    call_detail_rate_per_minute: Annotated[float, Field(gt=0)] = 100

    @property
    def calls_at_once(self) -> float:
        """The burst as given or, without one, by the rate."""
        return self.burst or max(1.0, self.rate)

    @model_validator(mode="after")
    def _with_a_secret(self) -> "ProviderConfig":
        if self.access_key_id and not (
            self.access_key_secret.get_secret_value() or self.access_key_secret_file
        ):
            raise ValueError(
                "access_key_secret: is missing, though access_key_id is set; set it, or access_key_secret_file"
            )
        if self.access_key_secret.get_secret_value() and self.access_key_secret_file:
            raise ValueError("access_key_secret and access_key_secret_file exclude each other")
        return self


class StoreConfig(Section):
    """The database."""

    url: str = Field(DATABASE, repr=False)
    url_file: str = ""
    auto_migrate: bool | None = None
    timeout: Duration = 1.0
    history: Literal["runs", "every"] = "runs"
    retention: Duration = 90 * 86_400.0
    audit_retention: Duration = 730 * 86_400.0
    dial_log: Share = 0.01
    number_key_file: str = ""

    @model_validator(mode="after")
    def _known(self) -> "StoreConfig":
        if self.url_file and self.url != DATABASE:
            raise ValueError("url and url_file exclude each other")
        if not re.match(r"sqlite:///|postgres(ql)?(\+asyncpg)?://", self.url):
            raise ValueError(
                'url must be "sqlite:///relative.db", "sqlite:////absolute/path.db"'
                ' or "postgresql://user:password@host/database"'
            )
        _a_database(self.url)
        return self

    @property
    def database(self) -> str:
        """The URL, from `url` or `url_file`. Raises ConfigError if the file cannot be read."""
        if not self.url_file:
            return self.url
        return secret(SecretStr(""), self.url_file, "store.url_file")

    @property
    def key_file(self) -> Path | None:
        """The file of the keys that seal numbers, None to store numbers in plain.

        A bare file name may be that of a systemd credential.
        """
        if not self.number_key_file:
            return None
        given = Path(self.number_key_file)
        credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "."), given)
        return credential if len(given.parts) == 1 and credential.exists() else given

    @property
    def migrates(self) -> bool:
        """Whether `run` upgrades the schema by itself."""
        return self.database.startswith("sqlite") if self.auto_migrate is None else self.auto_migrate


class Token(Section):
    """A bearer token and its scopes. Only its SHA-256 (64 hex digits) is stored."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    scopes: Annotated[list[Scope], Field(min_length=1)]
    sha256: Annotated[str, AfterValidator(_a_hash)]
    rate: CallRate | None = None


class ApiConfig(Section):
    """The HTTP interface."""

    listen: Annotated[list[Address], BeforeValidator(a_list), Field(min_length=1)] = Field(
        default_factory=lambda: ["127.0.0.1:8080"]
    )
    console: bool = True
    console_listen: Annotated[list[Address], BeforeValidator(a_list)] = Field(default_factory=list)
    tls_cert_file: str = ""
    tls_key_file: str = ""
    client_ca_file: str = ""
    tokens: list[Token] = Field(default_factory=list)
    rate: CallRate = 0
    max_in_flight: Count = 1000
    max_streams: Count = 4000
    max_connections: Count = 10_000
    receipts_secret_sha256: Annotated[str, AfterValidator(_a_hash_or_none)] = ""
    insecure: bool = False

    @model_validator(mode="after")
    def _safe(self) -> "ApiConfig":
        for key, address in self.listeners:
            host, _ = addresses.split_address(address)
            if self.insecure or addresses.is_loopback(host):
                continue
            if not (self.tokens and self.tls_cert_file):
                raise ValueError(
                    f"{key}: {address} can be reached from other machines; that needs api.tokens and"
                    " api.tls_cert_file/tls_key_file (or api.insecure = true if something else guards it)"
                )
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("tls_cert_file and tls_key_file go together")
        if self.client_ca_file and not self.tls_cert_file:
            raise ValueError("client_ca_file needs tls_cert_file and tls_key_file")
        names = [token.name for token in self.tokens]
        if len(set(names)) != len(names):
            raise ValueError("tokens: each token needs a name of its own")
        return self

    @property
    def listeners(self) -> list[tuple[str, str]]:
        """What is listened on: (key of this section, address)."""
        console = self.console_listen if self.console else []
        return [("listen", one) for one in self.listen] + [("console_listen", one) for one in console]


class PolicyConfig(Section):
    """What may be dialled, and how long an observation stays valid."""

    unverified: Literal["dial_x", "hold"] = "dial_x"
    fallback: Literal["dial_real", "hold"] = "dial_real"
    confirm_real: Annotated[int, Field(ge=1, le=100)] = 1
    temporary_ttl: Duration = 600.0
    real_ttl: Duration = 600.0
    x_ttl: Duration = 86_400.0
    skew: Annotated[float, BeforeValidator(seconds), Field(ge=0)] = 5.0
    observe: Pools = Field(default_factory=list)


class BrakeConfig(Section):
    """How many bindings of a pool may turn to their real numbers within a window."""

    share: Share = 0.05
    floor: Annotated[int, Field(ge=0)] = 20
    window: Duration = 600.0


class FreshnessConfig(Section):
    """How old an observation may get, and how soon a binding may be checked again."""

    promise: Literal["auto", "all", "dial"] = "auto"
    max_age: Duration = 300.0
    abnormal_max_age: Duration = 60.0
    min_interval: Duration = 5.0
    abnormal_min_interval: Duration = 30.0


class SourceConfig(Section):
    """The customer's own database, which bindings are synced from."""

    url: SecretStr = SecretStr("")
    url_file: str = ""
    query: str = ""
    every: Duration = 30.0
    look_back: Duration = 300.0
    reconcile: Duration = 3600.0
    timezone: Annotated[str, AfterValidator(_a_timezone)] = ""
    max_removals: Share = 0.05

    @model_validator(mode="after")
    def _whole(self) -> "SourceConfig":
        url = self.url.get_secret_value()
        if url and self.url_file:
            raise ValueError("url and url_file exclude each other")
        if url and not re.match(r"[a-z0-9_+]+://", url):
            raise ValueError('url must be like "postgresql://user@host/name" or "sqlite:////path/of.db"')
        if url:
            _a_database(url)
        if self.configured and not self.query.strip():
            raise ValueError("query is missing: url needs a SELECT whose columns are named as in a binding")
        if self.query.strip() and not self.configured:
            raise ValueError("query needs url or url_file")
        return self

    @property
    def configured(self) -> bool:
        """Whether a source is configured."""
        return bool(self.url.get_secret_value() or self.url_file)


class LogConfig(Section):
    """What is logged, and in which format."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Config(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix=variables.PREFIX,
        env_nested_delimiter=variables.DELIMITER,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )
    client_variables: ClassVar[tuple[str, ...]] = (
        "PRECALL_CONFIG",
        "PRECALL_URL",
        "PRECALL_TOKEN",
        "PRECALL_TOKEN_FILE",
        "PRECALL_CACERT",
        "PRECALL_CERT",
        "PRECALL_KEY",
    )

    provider: ProviderConfig = Field(default_factory=ProviderConfig)
    store: StoreConfig = Field(default_factory=StoreConfig)
    api: ApiConfig = Field(default_factory=ApiConfig)
    policy: PolicyConfig = Field(default_factory=PolicyConfig)
    brake: BrakeConfig = Field(default_factory=BrakeConfig)
    freshness: FreshnessConfig = Field(default_factory=FreshnessConfig)
    source: SourceConfig = Field(default_factory=SourceConfig)
    receipts: ReceiptsConfig = Field(default_factory=ReceiptsConfig)
    notify: NotifyConfig = Field(default_factory=NotifyConfig)
    log: LogConfig = Field(default_factory=LogConfig)

    @classmethod
    def settings_customise_sources(  # the signature of pydantic-settings
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in their order: the environment overrides the file."""
        return variables.Variables(settings_cls), init_settings

    def policies(self) -> Policy:
        """Return the settings that the core decides by."""
        return Policy(
            unverified=Action(self.policy.unverified),
            fallback=Action(self.policy.fallback),
            confirm_real=self.policy.confirm_real,
            temporary_ttl=self.policy.temporary_ttl,
            real_ttl=self.policy.real_ttl,
            x_ttl=self.policy.x_ttl,
            skew=self.policy.skew,
            max_age=self.freshness.max_age,
            abnormal_max_age=self.freshness.abnormal_max_age,
            observe=frozenset(self.policy.observe),
        )


def load(path: str | Path | None) -> Config:
    """Load a file, or only defaults and the environment for None. Raises ConfigError with all mistakes."""
    data: dict[str, Any] = {}
    if path is not None:
        try:
            data = tomllib.loads(text_file.read(path))
        except OSError as error:
            raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
        except (tomllib.TOMLDecodeError, text_file.NotTextError) as error:
            raise ConfigError([f"{path}: is not valid TOML: {error}"]) from error
    mistakes = variables.unknown(os.environ, keys(), Config.model_fields)
    try:
        config = Config(**data)
    except ValidationError as error:
        unknown = {line.partition(":")[0].upper() for line in mistakes}
        found = [item for item in error.errors() if variables.name_of(item["loc"]) not in unknown]
        raise ConfigError([*mistakes, *map(_explain, found)]) from None
    if mistakes:
        raise ConfigError(mistakes)
    return config


def log_format(path: str | Path | None) -> Literal["text", "json"]:
    """Return the `log.format` of a configuration that cannot be loaded, "text" if it cannot be determined.

    A file that is not valid TOML is searched for that line of its section `[log]`.
    """
    said: object = os.environ.get("PRECALL_LOG__FORMAT", "")
    if not said and path is not None:
        with suppress(OSError, text_file.NotTextError):
            content = text_file.read(path)
            try:
                section = tomllib.loads(content).get("log")
                said = section.get("format") if isinstance(section, dict) else ""
            except tomllib.TOMLDecodeError:
                found = re.search(
                    r"""^\s*\[log\][^\[]*?^\s*format\s*=\s*["'](\w+)["']""", content, re.MULTILINE
                )
                said = found[1] if found else ""
    return "json" if said == "json" else "text"


def remarks(config: Config) -> list[str]:
    """Return remarks about values that are valid but may not be intended, to be shown once."""
    found = variables.nearly(os.environ, keys(), Config.client_variables)
    if said := time_zones.remark(config.source.timezone):
        found.append(f"source.timezone: {said}")
    return found


def secret(value: SecretStr, file: str, key: str) -> str:
    """Return a secret from the configuration or, stripped, from a file. ConfigError if it cannot be read."""
    if not file:
        return value.get_secret_value()
    try:
        return text_file.read(file).strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError([f"{key}: {file} cannot be read: {why}"]) from error


def keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return all dotted keys."""
    found: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            found += keys(kind, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def _explain(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"] if not str(part).startswith("function-"))
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key{_near(where)}"
    if where in _TABLES and item["type"] == "list_type":
        return f"{where}: should be a list of tables; in a variable: {_TABLES[where]}"
    text = str(item["msg"]).removeprefix("Value error, ")
    text = re.sub(r"^Input should", "should", text)
    name, colon, rest = text.partition(": ")
    if colon and re.fullmatch(r"[a-z_]+", name):
        return f"{where}.{name}: {rest}"
    first = text.split(" ", 1)[0]
    if f"{where}.{first}" in keys():
        return f"{where}.{first}: {text}"
    return f"{where}: {text}"


def _near(where: str) -> str:
    known, last = [*keys(), *Config.model_fields], where.rpartition(".")[2]
    close = [key for key in known if key.rpartition(".")[2] == last] or difflib.get_close_matches(
        where, known, 1
    )
    return f"; did you mean {close[0]}?" if close else ""
