"""The configuration in force, and how a reload changes it.

A configuration is never modified, but replaced as a whole. Parts of the daemon hold a `Settings` and read from it
whenever they need a value, so that none of them uses an old one. `KEYS` says for every key whether a change takes
effect by a reload or by a restart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from pydantic import SecretStr, ValidationError

from precall.config.schema import ApiConfig, Config, Token, keys
from precall.core.errors import ConfigError
from precall.core.model import Promise


class Effect(StrEnum):
    """When a changed key takes effect."""

    RELOAD = "reload"
    RESTART = "restart"


RELOAD, RESTART = Effect.RELOAD, Effect.RESTART

KEYS: Mapping[str, Effect] = {
    "provider.endpoint": RELOAD,
    "provider.call_detail_endpoint": RELOAD,
    "provider.status_source": RESTART,
    "provider.signature": RELOAD,
    "provider.format": RELOAD,
    "provider.access_key_id": RELOAD,
    "provider.proxy": RELOAD,
    "provider.access_key_secret": RELOAD,
    "provider.access_key_secret_file": RELOAD,
    "provider.security_token": RELOAD,
    "provider.security_token_file": RELOAD,
    "provider.timeout": RELOAD,
    "provider.send_call_no": RELOAD,
    "provider.rate": RELOAD,
    "provider.burst": RELOAD,
    "provider.max_in_flight": RELOAD,
    "provider.call_detail_rate_per_minute": RELOAD,
    "store.url": RESTART,
    "store.url_file": RESTART,
    "store.auto_migrate": RESTART,
    "store.timeout": RESTART,
    "store.history": RESTART,
    "store.dial_log": RESTART,
    "store.number_key_file": RESTART,
    "store.retention": RELOAD,
    "store.audit_retention": RELOAD,
    "api.listen": RESTART,
    "api.console": RESTART,
    "api.console_listen": RESTART,
    "api.tls_cert_file": RESTART,
    "api.tls_key_file": RESTART,
    "api.client_ca_file": RESTART,
    "api.tokens": RELOAD,
    "api.rate": RELOAD,
    "api.max_in_flight": RELOAD,
    "api.max_streams": RELOAD,
    "api.max_connections": RELOAD,
    "api.receipts_secret_sha256": RELOAD,
    "api.insecure": RESTART,
    "policy.unverified": RELOAD,
    "policy.fallback": RELOAD,
    "policy.confirm_real": RELOAD,
    "policy.temporary_ttl": RELOAD,
    "policy.real_ttl": RELOAD,
    "policy.x_ttl": RELOAD,
    "policy.skew": RELOAD,
    "policy.observe": RELOAD,
    "brake.share": RELOAD,
    "brake.floor": RELOAD,
    "brake.window": RELOAD,
    "freshness.promise": RELOAD,
    "freshness.max_age": RELOAD,
    "freshness.abnormal_max_age": RELOAD,
    "freshness.min_interval": RELOAD,
    "freshness.abnormal_min_interval": RELOAD,
    "source.url": RESTART,
    "source.url_file": RESTART,
    "source.query": RESTART,
    "source.every": RELOAD,
    "source.look_back": RELOAD,
    "source.reconcile": RELOAD,
    "source.timezone": RESTART,
    "source.max_removals": RELOAD,
    "receipts.queue": RESTART,
    "receipts.queue_endpoint": RESTART,
    "receipts.token_endpoint": RESTART,
    "notify.urls": RELOAD,
    "notify.urls_file": RELOAD,
    "notify.min_severity": RELOAD,
    "notify.repeat": RELOAD,
    "notify.lang": RELOAD,
    "log.level": RELOAD,
    "log.format": RELOAD,
}

HIDDEN_VALUES = {"store.url", "source.query", "provider.proxy"}
"""Keys that may hold a password, beside those with a secret type."""


class Settings:
    """The configuration in force, and the policy that follows from it.

    `promise` is the freshness promise in force. With `freshness.promise = "auto"` it also depends on the number of
    bindings. None until it has been chosen for the first time.
    """

    def __init__(self, config: Config) -> None:
        self.promise: Promise | None = None
        self.take(config)

    def take(self, config: Config) -> None:
        """Replace the configuration in force."""
        self.config, self.policy = config, config.policies()
        if self.promise is not None:
            self.keep(self.promise)

    def keep(self, promise: Promise) -> None:
        """Put this freshness promise in force."""
        self.promise, self.policy = promise, replace(self.policy, promise=promise)


@dataclass(frozen=True, slots=True)
class Difference:
    """A changed key. Its values are texts, without those of secrets."""

    key: str
    before: str
    after: str
    effect: Effect

    def __str__(self) -> str:
        note = "; needs a restart" if self.effect is RESTART else ""
        return f"{self.key}: {self.before} -> {self.after}{note}"


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """Which changes a reload has applied, and which ones need a restart."""

    changed: tuple[Difference, ...] = ()
    needs_restart: tuple[Difference, ...] = ()


def compare(before: Config, after: Config) -> ReloadReport:
    """Return what `after` would change while `before` is in force."""
    found = [
        Difference(key, _text(key, _value(before, key)), _text(key, _value(after, key)), KEYS[key])
        for key in keys()
        if _value(before, key) != _value(after, key)
    ]
    return ReloadReport(
        tuple(one for one in found if one.effect is RELOAD),
        tuple(one for one in found if one.effect is RESTART),
    )


def reconcile(running: Config, wanted: Config) -> Config:
    """Return the configuration after a reload: `wanted`, except for keys that need a restart.

    Raises ConfigError if the result is inconsistent, for instance without tokens while the API listens to other hosts.
    """
    sections = {}
    for name in Config.model_fields:
        current, new = getattr(running, name), getattr(wanted, name)
        kept = {
            field: getattr(current, field)
            for field in type(current).model_fields
            if KEYS[f"{name}.{field}"] is RESTART
        }
        sections[name] = new.model_copy(update=kept)
    merged = wanted.model_copy(update=sections)
    try:
        ApiConfig.model_validate(merged.api.model_dump())
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError([f"api.tokens: cannot be applied without a restart: {why}"]) from None
    return merged


def _value(config: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def _text(key: str, value: Any) -> str:
    if isinstance(value, SecretStr) or key in HIDDEN_VALUES:
        return "(hidden)" if str(value) else '""'
    if value is None:
        return "(default)"
    if isinstance(value, list):
        return ", ".join(map(_entry, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _entry(entry: Any) -> str:
    """Return name, scopes and the start of the hash of a token, which do not reveal it; nothing of a secret."""
    if isinstance(entry, SecretStr):
        return "(hidden)"
    if isinstance(entry, Token):
        return f"{entry.name} ({' '.join(entry.scopes)}; {entry.sha256[:8]})"
    return str(entry)
