"""Draw the console during an incident, in a real Chromium: `make screenshots`. The pictures go into docs/assets."""

import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.support.chromium import DESKTOP, PHONE, Chromium, chromium
from tests.support.incident_world import ADMIN, LONG_ID, incident

ASSETS = Path(__file__).parents[2] / "docs" / "assets"
PAGES = {
    "now": "/console/",
    "pools": "/console/pools",
    "binding": f"/console/bindings/{LONG_ID}",
}
COLORS = 96
"""A page has few colors, and a picture with a palette is a third as large."""


async def draw(browser: Chromium) -> None:
    """Take a picture of each page on a desktop and on a phone."""
    with tempfile.TemporaryDirectory() as folder:
        async with incident(Path(folder)) as world:
            for kind, size in (("desktop", DESKTOP), ("phone", PHONE)):
                async with browser.visiting(world.served.url, ADMIN, viewport=size) as visitor:
                    for name, path in PAGES.items():
                        await visitor.go(path)
                        if name == "now":
                            await visitor.page.locator(".uplot canvas").first.wait_for()
                        taken = await visitor.page.screenshot(full_page=name == "now" and kind == "desktop")
                        picture = Image.open(BytesIO(taken)).convert("RGB").quantize(COLORS)
                        picture.save(ASSETS / f"console-{name}-{kind}.png", optimize=True)


if __name__ == "__main__":
    with chromium() as started:
        started.run(draw(started))
