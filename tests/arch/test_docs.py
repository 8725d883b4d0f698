"""Docs tell what the code is: generated pages are current, links lead somewhere, named commands and make targets exist."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from gridtide.app import settings
from gridtide.model.events import CATALOGUE
from tools import render_docs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"\bgridtide ([a-z][a-z-]*)(?: ([a-z][a-z-]*)\b(?![./]))?")


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", _outside_fences(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def _outside_fences(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def _code(text: str) -> str:
    """Fenced blocks and inline code, a line each."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return "\n".join([*fenced, *re.findall(r"`([^`\n]+)`", _outside_fences(text))])


def test_generated_pages_are_current() -> None:
    check = subprocess.run(
        [sys.executable, "tools/render_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_check_notices_a_page_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_docs, "ROOT", tmp_path)
    monkeypatch.setattr(render_docs, "OUTPUT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["render_docs.py"])
    assert render_docs.main() == 0
    (tmp_path / "events.md").write_text("old", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["render_docs.py", "--check"])
    assert render_docs.main() == 1
    assert (tmp_path / "events.md").read_text(encoding="utf-8") == "old"


def test_reference_holds_every_event_and_every_kind_of_value() -> None:
    pages = render_docs.render()
    assert all(f"| `{kind.code}` |" in pages["events.md"] for kind in CATALOGUE)
    for row in (
        "| `import_margin_kw` | number, at least 0, at most 50000 | kW | `10` | Planned import never falls below it, unless",
        "| `departure` | a clock time in quotes, as \"17:30\" |  | `\"17:30\"` |",
        "| `start` | day, as 2019-05-01 |  | `2019-05-01` | First day, local time. |",
        "| `ramp_kw_per_s` | number, above 0, at most 1000 | kW/s | none |",
        "## `[[drivers.token]]`",
    ):  # fmt: skip
        assert row in pages["settings.md"]


def test_docstring_of_a_field_is_the_string_after_it() -> None:
    source = (
        'class A:\n    """Doc."""\n    x: int = 1\n    """Of x,\n    two lines."""\n'
        '    y: int = 2\n    z: int = 3\n    """Of z."""\n'
    )
    assert render_docs.field_docstrings(source) == {("A", "x"): "Of x, two lines.", ("A", "z"): "Of z."}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(_outside_fences(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in _anchors(found)):
            broken.append(target)
    assert not broken


def test_links_are_really_looked_for() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(LINK.findall(_outside_fences(readme))) > 10
    assert "register-map" in _anchors(ROOT / "docs/formats.md")


@pytest.mark.skipif(not render_docs.CLI.exists(), reason="src/gridtide/app/cli.py does not exist yet")
@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=_name)
def test_commands_named_in_docs_exist(page: Path) -> None:
    known = _commands()
    named = COMMAND.findall(_code(page.read_text(encoding="utf-8")))
    unknown = {f"{name} {inner}" for name, inner in named if inner and known.get(name) and inner not in known[name]}
    assert unknown | {name for name, _ in named if name not in known} == set()


def _commands() -> dict[str, set[str]]:
    """Every command, with those under it where it is a group."""
    top = typer.main.get_command(importlib.import_module("gridtide.app.cli").app)
    context = typer.Context(top, info_name="gridtide")
    return {name: _listed(top.get_command(context, name), context) for name in _listed(top, context)}  # type: ignore[attr-defined]


def _listed(command: object, context: typer.Context) -> set[str]:
    return set(command.list_commands(context)) if hasattr(command, "list_commands") else set()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_make_targets_named_in_docs_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z][a-z-]*)", _code(page.read_text(encoding="utf-8")), re.MULTILINE))
    assert named <= targets


def test_readme_tells_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "```sh\nmake demo\nmake test\n```" in readme


def test_documented_default_ports_are_the_settings() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"| {settings.Server().web} | page and API (HTTP) | `server.web` |" in readme
    assert f"| {settings.Server().ocpp} | stations" in readme
    assert f"| {settings.Meter(host='meter').port}, outgoing |" in readme
