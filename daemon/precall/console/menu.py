"""All pages of the console, the listed ones in the order of the menu."""

from precall.console.page import ConsolePage
from precall.console.pages import binding, bindings, exposures, guide, history, now, orders, pools

_BINDING = "/console/bindings/{subs_id:[0-9]+}"
_FILE = "/console/exposures.csv"

PAGES: tuple[ConsolePage, ...] = (
    ConsolePage("now", "/console/", "routes:read", now.show, listed=True),
    ConsolePage("history", "/console/history.json", "routes:read", history.show),
    ConsolePage("pools", "/console/pools", "routes:read", pools.show, listed=True),
    ConsolePage("pool", "/console/pools/{pool_key:.+}", "routes:read", pools.show_one),
    ConsolePage("bindings", "/console/bindings", "routes:read", bindings.show, listed=True),
    ConsolePage("search", "/console/bindings", "routes:read", bindings.search, method="POST", asks=True),
    ConsolePage("binding", _BINDING, "routes:read", binding.show),
    ConsolePage("ordered", f"{_BINDING}/{{order:check|override|lift}}", "routes:read", binding.return_to),
    ConsolePage("check", f"{_BINDING}/check", "bindings:write", binding.check, method="POST"),
    ConsolePage("override", f"{_BINDING}/override", "admin", binding.override, method="POST"),
    ConsolePage("lift", f"{_BINDING}/lift", "admin", binding.lift, method="POST"),
    ConsolePage("exposures", "/console/exposures", "admin", exposures.show, listed=True),
    ConsolePage("exposed", "/console/exposures", "admin", exposures.search, method="POST", asks=True),
    ConsolePage("exposures_file", _FILE, "admin", exposures.download),
    ConsolePage("exposed_file", _FILE, "admin", exposures.download_number, method="POST", asks=True),
    ConsolePage("runbook", "/console/runbook", None, guide.show, listed=True, resting=True),
    ConsolePage("order", "/console/orders", "admin", orders.give, method="POST"),
)
