"""Targets of notifications. Only this module imports apprise, which knows how each service is posted to.

apprise comes with the extra `precall[notify]`. It takes a second to import and is imported only where a target is
configured. Its log lines may quote addresses, which are secrets, and are never written.
"""

import logging
import re
import warnings
from typing import Any

from precall.config.notifications import NotifyConfig
from precall.core.errors import ConfigError
from precall.core.status.finding import Severity
from precall.core.status.messages import Message
from precall.telemetry.redaction import keep

_STATUS = re.compile(r"\berror=([1-5]\d\d)\b")


class NotifyTarget:
    """One target. `name` is its place in the configuration and its kind, without anything secret."""

    def __init__(self, name: str, address: str, sender: Any) -> None:
        """`address` is secret. `sender` is apprise's."""
        self.name, self.address, self._sender = name, address, sender

    def same_as(self, other: "NotifyTarget") -> bool:
        """Whether the other one is at the same place in the configuration, and has the same address."""
        return (self.name, self.address) == (other.name, other.address)

    def send(self, message: Message) -> str:
        """Send a message, and return "" or why it was not taken. Blocks; for a thread. Never raises."""
        kinds = {Severity.CRITICAL: "failure", Severity.WARNING: "warning", None: "success"}
        try:
            result = self._sender.notify(
                body=message.text,
                title=message.title,
                notify_type=kinds[message.severity],
                body_format="text",
            )
            return "" if result else _why(result)
        except Exception as error:  # noqa: BLE001  whatever a plugin raises; its text may hold the address
            return type(error).__name__


def configured_targets(config: NotifyConfig) -> list[NotifyTarget]:
    """Return the targets in the order of the configuration. Raises ConfigError with every mistake."""
    addresses = config.addresses()
    if not addresses:
        return []
    logging.getLogger("apprise").propagate = False
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # apprise imports all services, some of which use what Python will drop
        try:
            import apprise  # noqa: PLC0415 - an extra, and a second of work
        except ImportError:
            raise ConfigError(
                ["notify.urls: needs the extra `notify`; install it with pip install 'precall[notify]'"]
            ) from None
        # Without a limit of its own, apprise sends in the calling thread. Its threads would outlive the daemon.
        asset = apprise.AppriseAsset(
            app_id="precall", app_desc="precall", async_mode=False, service_timeout=0
        )
        targets, mistakes = [], []
        for place, address in addresses:
            rest = address.partition("://")[2]
            keep(
                address, rest if re.search(r"[/@].", rest) else ""
            )  # a host alone is no secret, and stands elsewhere
            sender = apprise.Apprise(asset=asset)
            if sender.add(address):
                targets.append(NotifyTarget(f"{place} ({sender[0].service_name})", address, sender))
            else:
                shown = f"{address.partition('://')[0]}://..."
                mistakes.append(
                    f'{place}: apprise does not take "{shown}"; its documentation shows how each service is addressed'
                )
    if mistakes:
        raise ConfigError(mistakes)
    return targets


def _why(result: Any) -> str:
    """Return the HTTP status of a refusal where apprise tells it, and nothing else of what it says."""
    said = " ".join(str(entry) for entry in result.logs())
    status = _STATUS.search(said)
    return f"HTTP {status[1]}" if status else "not delivered"
