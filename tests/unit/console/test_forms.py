"""Where a form may lead its visitor, and which token belongs to whom."""

import pytest

from precall.console.forms import FormSeal, local_path


@pytest.mark.parametrize("path", ["/console/", "/console/pools?sort=share", "/console/bindings/1#x"])
def test_paths_of_the_console_are_followed(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "https://evil.example/",
        "//evil.example/console/",
        "/\\evil.example",
        "/console/\\evil",
        "\t//evil.example",
        "/console/\n//evil.example",
        "/console/../../evil",
        "/v1/status",
        "javascript:alert(1)",
        "/console",
        "/console/é",
    ],
)
def test_any_other_leads_to_the_first_page(path: str) -> None:
    assert local_path(path) == "/console/"


def test_a_token_belongs_to_one_cookie_of_one_process() -> None:
    seal = FormSeal("key")
    assert seal.token("a") == seal.token("a")
    assert seal.token("a") != seal.token("b")
    assert seal.token("a") != FormSeal("other").token("a")
