"""The report as a browser prints it: three sheets of A4, whatever it has to say."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gridtide.app.report.html import render_html
from tests.unit.study_fixture import sample_study

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-pdf-header-footer",
]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: nothing to print with")
def test_the_report_prints_on_three_sheets_of_a4(tmp_path: Path) -> None:
    study = sample_study(assumptions=sample_study().assumptions * 4)
    (tmp_path / "report.html").write_text(render_html(study), encoding="utf-8")
    target = tmp_path / "report.pdf"
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM or "", *FLAGS, profile, f"--print-to-pdf={target}", (tmp_path / "report.html").as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    printed = target.read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 3
    sizes = {tuple(float(v) for v in box.split()) for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", printed)}
    assert all(abs(width - 595) < 1.5 and abs(height - 842) < 1.5 for _, _, width, height in sizes), sizes
