"""The assets are those that were vendored, name no other site, and are small."""

import hashlib
import re

import pytest

from precall.console.assets import STATIC, assets

LISTED = re.findall(
    r"^\| `([\w.]+)` \| [\w.]+ \| [\d.]+ \| `([\w.]+)` \| `([0-9a-f]{64})` \|$",
    (STATIC / "vendor" / "README.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


@pytest.mark.parametrize(("name", "licence", "digest"), LISTED)
def test_vendored_files_are_as_published(name: str, licence: str, digest: str) -> None:
    assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest
    assert (STATIC / "vendor" / licence).stat().st_size > 100


def test_every_vendored_file_is_listed() -> None:
    found = {name.removeprefix("vendor/") for name in assets() if name.startswith("vendor/")}
    assert found == {name for name, _, _ in LISTED}


def test_a_changed_content_has_another_url() -> None:
    for asset in assets().values():
        assert asset.url == f"/console/static/{asset.name}?v={hashlib.sha256(asset.content).hexdigest()[:16]}"


def test_our_own_assets_name_no_other_site() -> None:
    for name, asset in assets().items():
        if not name.startswith("vendor/"):
            urls = set(re.findall(rb"https?://[^\s\"'<)]+", asset.content))
            assert urls <= {b"http://www.w3.org/2000/svg"}, name
