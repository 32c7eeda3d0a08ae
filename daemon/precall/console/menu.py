"""All pages of the console, the listed ones in the order of the menu."""

from precall.console.page import ConsolePage
from precall.console.pages import guide, history, now, orders

PAGES: tuple[ConsolePage, ...] = (
    ConsolePage("now", "/console/", "routes:read", now.show, listed=True),
    ConsolePage("history", "/console/history.json", "routes:read", history.show),
    ConsolePage("runbook", "/console/runbook", None, guide.show, listed=True, resting=True),
    ConsolePage("order", "/console/orders", "admin", orders.give, method="POST"),
)
