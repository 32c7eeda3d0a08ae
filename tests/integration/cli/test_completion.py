"""`precall completion`: what the script of each shell is told, and the script in a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from precall.cli import app
from precall.cli.completion import VARIABLE

PROGRAM = Path(sys.executable).with_name("precall")
ENVIRONMENT = os.environ | {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
ASKED = """
source <(precall completion bash) || exit 1
COMP_WORDS=(precall config sh) COMP_CWORD=2
_precall_completion precall
echo "${COMPREPLY[@]}"
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_real_bash_completes_commands() -> None:
    ran = subprocess.run(
        ["bash", "--norc", "-c", ASKED], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "show\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_scripts_of_other_shells_are_answered(shell: str) -> None:
    asked = {
        VARIABLE: f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "precall config sh",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    ran = subprocess.run([PROGRAM], env=ENVIRONMENT | asked, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "show" in ran.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_script_asks_by_the_same_variable(shell: str) -> None:
    printed = CliRunner().invoke(app, ["completion", shell])
    assert printed.exit_code == 0
    assert f"{VARIABLE}=complete_{shell}" in printed.stdout


def test_another_shell_is_a_usage_error() -> None:
    assert CliRunner().invoke(app, ["completion", "csh"]).exit_code == 2
