"""The report: well formed, says what was found and no more, survives every degenerate study, escapes every text."""

import io
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from gridtide.app.report import figures_load, findings, layout, svg, words
from gridtide.app.report.facts import facts
from gridtide.app.report.html import render_html
from gridtide.app.report.terminal import print_report
from gridtide.model.study import BillLine, CycleBin, IntervalSeries, SocFan, StudyResult
from tests.unit.study_fixture import BEGIN, ZONE, sample_series, sample_study

STUDY = sample_study()
HOSTILE = '<script>alert("x")</script>&\''
NO_SERIES = IntervalSeries([], [], [], [])
NO_FAN = SocFan([], [], [], [], [], [])
NAN = float("nan")
NOT_A_NUMBER = r"\b([Nn]a[Nn]|inf(inity)?|None)\b"


def flat_series(kw: float, days: int = 30) -> IntervalSeries:
    n = 96 * days
    return IntervalSeries([BEGIN.timestamp() + 900.0 * i for i in range(n)], [kw] * n, [kw] * n, [kw] * n)


EQUAL: dict[str, Any] = {
    "bill": [BillLine("energy_building", "", 30_000.0, 30_000.0), BillLine("demand", "", 6_000.0, 6_000.0)],
    "bill_without": 36_000.0,
    "bill_with": 36_000.0,
    "peak_kw_without": 300.0,
    "peak_kw_with": 300.0,
    "peak_kw_clairvoyant": 300.0,
    "series": flat_series(300.0),
    "discharged_kwh": 0.0,
    "wear_cost": 0.0,
}
NOBODY: dict[str, Any] = {"vehicles": 0, "sessions": 0, "departures": [], "soc_fan": NO_FAN}
ONE_DAY: dict[str, Any] = {
    "series": sample_series(1),
    "end_s": (BEGIN + timedelta(days=1)).timestamp(),
    "sessions": 12,
    "departures": STUDY.departures[:12],
}
YEAR: dict[str, Any] = {
    "series": sample_series(365),
    "start_s": BEGIN.timestamp(),
    "end_s": (BEGIN + timedelta(days=365)).timestamp(),
    "departures": STUDY.departures * 5,
}
DEGENERATE: dict[str, dict[str, Any]] = {
    "as it is": {},
    "nothing saved": EQUAL,
    "nobody came": EQUAL | NOBODY,
    "all zero": EQUAL
    | NOBODY
    | {"series": flat_series(0.0), "peak_kw_with": 0.0, "bill_with": 0.0, "bill_without": 0.0},
    "no intervals, no bill": NOBODY | {"series": NO_SERIES, "bill": [], "bill_with": 0.0, "bill_without": 0.0},
    "one day": ONE_DAY,
    "a year": YEAR,
    "one interval": {"series": IntervalSeries([BEGIN.timestamp()], [1.0], [3.0], [2.0])},
    "one hour of fan": {"soc_fan": SocFan([8.0], [0.1], [0.2], [0.3], [0.4], [0.5]), "departures": []},
    "an empty period": {"end_s": STUDY.start_s},
    "not finite": {"reduction_of_clairvoyant": NAN, "peak_kw_with": NAN, "wear_cost": float("inf"), "limit_kw": NAN},
    "power not finite": {"series": IntervalSeries([BEGIN.timestamp()] * 2, [1.0, NAN], [NAN, 3.0], [2.0, 1.0])},
    "exporting": {"series": flat_series(-40.0), "bill_with": -90.0, "bill_without": -40.0, "bill": []},
    "unknown zone": {"timezone": "Mars/Olympus"},
    "many lines": {"bill": [BillLine(f"levy {k} of the grid operator", "n" * 60, 10.0 * k, 9.0 * k) for k in range(9)]},
    "long notes": {"assumptions": STUDY.assumptions * 6},
    "no wear": {"wear_range": [], "cycles": []},
    "no cycles": {"wear_range": [("a cell", 0.0)], "cycles": [CycleBin(0.0, 1.0, 0.0, 0.0)]},
    "wear not finite": {"wear_range": [("a cell", NAN), ("b", 1.0)], "cycles": [CycleBin(0.0, 1.0, NAN, 1.0)]},
    "wear of one cell": {"wear_range": [("a cell", 90.0)], "cycles": [CycleBin(0.0, 1.0, 0.0, 3.0)]},
}


def page_of(**changes: Any) -> str:
    return render_html(sample_study(**changes))


def texts_of(page: str) -> list[str]:
    root = ElementTree.fromstring(page.removeprefix("<!doctype html>\n"))
    body = root.find("body")
    assert body is not None
    return [re.sub(r"[\u00a0\u202f]", " ", t) for t in body.itertext() if t.strip()]


def said(page: str) -> str:
    return " ".join(texts_of(page))


def title_of(**changes: Any) -> str:
    return re.sub(r"[\u00a0\u202f]", " ", findings.title(facts(sample_study(**changes))))


def terminal(study: StudyResult, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_report(study, console)
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def test_the_finding_its_figures_and_the_bill_are_on_the_page() -> None:
    page = page_of()
    all_said = said(page)
    for words_said in (
        "The fleet would have saved € 984 in June, all of it through a lower peak.",
        "twelve vehicles charge when the building is quiet and give power back when it is busy",
        "264 of 264 departures leave with the charge they could have had",
        "2.3 % of the bill",
        "by time of use, € 0.142 to 0.268 per kWh",
        "The lower peak saves € 1 094. Energy, battery wear and taxes take € 110 back.",
        "A step up costs € 11.90 per kW and stays",
        "With perfect foresight it could have been 443 kW.",
        "none left with less",
        "Demand is 15 % of the bill before and 13 % after.",
        "What the fleet takes off the highest (amber) it charges in quieter ones (teal).",
        "The average is 35 % of the peak before and 42 % after",
        "The 567 kWh given, by cell model, for packs at € 150 per kWh. Wear is no certain number:",
        "the cell alone changes it 27-fold.",
        "in the bill € 35.15",
        "Drivers need 63.0 full cycles; with the fleet it is 77.4, 23 % more.",
        "Limit held: 450 kW",
    ):
        assert words_said in all_said
    texts = texts_of(page)
    rows = [texts[i : i + 4] for i, t in enumerate(texts) if t == "Total"]
    assert rows == [["Total", "43 130", "42 146", "− 984"]]
    assert "Standing charge" not in texts, "a line that is nothing before and after is left out"


def test_the_page_needs_nothing_else() -> None:
    page = page_of()
    assert "<script" not in page
    assert not re.search(r"(src|href)=|url\(|@import|https?:", page)
    assert "color-scheme:light" in page
    assert page.count('<article class="sheet">') == 3
    assert "@page{size:A4" in page


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"bill_with": 42_146.31, "drivers_short": 3}, "saved € 984 in June, but three drivers would have left short."),
        ({"bill_with": 43_250.19}, "The fleet would have cost € 120 in June instead of saving."),
        ({"bill_with": 43_250.19, "drivers_short": 1}, "instead of saving, and one driver would have left short."),
        (EQUAL, "The fleet would have saved nothing in June: the peak stays as it was."),
        (EQUAL | {"peak_kw_with": 250.0}, "saved nothing in June, though the peak falls."),
        (EQUAL | {"peak_kw_with": 350.0}, "saved nothing in June, and the peak rises."),
        (EQUAL | {"drivers_short": 14}, "saved nothing in June, but 14 drivers would have left short."),
        (NOBODY, "No vehicle came in June, so there was nothing to save."),
        (ONE_DAY, "saved € 984 on 1 June"),
        ({"bill_with": 43_126.19}, "The fleet would have saved € 4.00 in June"),
        ({"currency": "CHF"}, "The fleet would have saved CHF 984 in June"),
        ({"bill": [BillLine("energy_vehicles", "", 2_000.0, 1_016.12)]}, "most of it through cheaper hours."),
        ({"bill": [BillLine("demand", "", 2_000.0, 1_400.0)]}, "most of it through a lower peak."),
        ({"bill": []}, "The fleet would have saved € 984 in June."),
    ],
)
def test_the_title_is_honest(changes: dict[str, Any], title: str) -> None:
    assert title_of(**changes).endswith(title) or title in title_of(**changes)


def test_trouble_is_said() -> None:
    departures = [
        msgspec.structs.replace(d, soc=d.target_soc - 0.1) if i < 5 else d for i, d in enumerate(STUDY.departures)
    ]
    page = said(page_of(drivers_short=2, departures=departures, intervals_over=3, peak_kw_with=470.0))
    assert "Three quarter hours ended above the limit of 450 kW." in page
    assert "five left with less (red). Two of them had the time to charge it." in page
    assert "2 missed" in page


def test_what_the_lines_do_not_explain_is_shown_as_other() -> None:
    texts = texts_of(page_of(bill=[BillLine("Demand", "", 6_413.2, 5_319.3)]))
    assert texts[texts.index("Other") : texts.index("Other") + 5] == [
        "Other",
        "not broken down",
        "36 717",
        "36 827",
        "+ 110",
    ]


def test_hostile_texts_stay_text() -> None:
    page = page_of(
        site=HOSTILE,
        currency=HOSTILE,
        assumptions=[HOSTILE],
        bill=[BillLine(HOSTILE, HOSTILE, 10.0, 5.0)],
        mode=HOSTILE,
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 6
    ElementTree.fromstring(page.removeprefix("<!doctype html>\n"))


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_studies_have_a_page_and_no_number_that_is_none(case: str) -> None:
    page = page_of(**DEGENERATE[case])
    shown = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert not re.search(NOT_A_NUMBER, shown)
    assert len(texts_of(page)) > 20
    printed = terminal(sample_study(**DEGENERATE[case]))
    assert not re.search(NOT_A_NUMBER, printed)


@pytest.mark.parametrize("width", [80, 60, 120])
@pytest.mark.parametrize("case", DEGENERATE)
def test_terminal_lines_fit(case: str, width: int) -> None:
    assert max(len(row) for row in terminal(sample_study(**DEGENERATE[case]), width).splitlines()) <= width


def test_the_terminal_says_the_same() -> None:
    printed = terminal(STUDY)
    assert "The fleet would have saved € 984 in June, all of it through a lower peak." in printed
    assert re.search(r"Total +43 130 +42 146 +− 984", printed)
    assert re.search(r"450 ╌.*█|450 ╌.*▂", printed), "the limit's row"
    assert "1 June to 30 June" in printed


def test_terminal_markup_in_names_is_not_obeyed() -> None:
    printed = terminal(sample_study(bill=[BillLine("[red]levy[/red]", "", 10.0, 5.0)]))
    assert "[red]levy[/red]" in printed


def test_a_cut_axis_says_so() -> None:
    assert "kW, axis cut at 400" in said(page_of())
    assert "The two outer columns are cut at the foot." in said(page_of())
    whole = said(page_of(**EQUAL))
    assert "cut at the foot" not in whole
    assert "axis cut" not in said(page_of(**(EQUAL | {"series": flat_series(0.0)})))


def test_long_texts_shrink_the_drawings_and_then_the_notes() -> None:
    captions = ("c" * 100, "c" * 100, "c" * 100)
    short, long = layout.third_sheet(captions, "n" * 300), layout.third_sheet(captions, "n" * 9_000)
    assert short[0] > long[0] >= 130.0
    assert (short[2].size, long[2].size) == (12, 9)
    few, many = layout.second_sheet(("c" * 100,) * 4), layout.second_sheet(("c" * 900,) * 4)
    assert few[0] > many[0] >= 130.0
    assert layout.first_sheet("t" * 60, "l" * 200, 4, 0, "c" * 100)[1] is False
    assert layout.first_sheet("t" * 60, "l" * 200, 8, 2, "c" * 100)[1] is True


def test_amber_is_what_is_taken_off_and_teal_what_is_added() -> None:
    amber, teal = figures_load._areas([(0.0, 10.0), (10.0, 30.0)], [(0.0, 20.0), (10.0, 25.0)])
    assert amber == '<path d="M0 10L10 25L10 25L0 20Z" class="aout"/>'
    assert teal == '<path d="M0 20L10 30L10 25L0 20Z" class="f2"/>'


def local_s(*when: int) -> float:
    return datetime(*when, tzinfo=ZONE).timestamp()  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("start", "end", "label", "when"),
    [
        ((2026, 6, 1), (2026, 7, 1), "June 2026", "in June"),
        ((2026, 1, 1), (2027, 1, 1), "2026", "in 2026"),
        ((2026, 6, 4), (2026, 6, 5), "4 June 2026", "on 4 June"),
        ((2026, 6, 4), (2026, 7, 5), "4 June to 4 July 2026", "from 4 June to 4 July"),
        ((2025, 12, 1), (2026, 2, 1), "1 December 2025 to 31 January 2026", "from 1 December 2025 to 31 January"),
    ],
)
def test_periods_in_words(start: tuple[int, ...], end: tuple[int, ...], label: str, when: str) -> None:
    found = words.period(local_s(*start), local_s(*end), ZONE)
    assert (found.label.replace(words.NBSP, " "), found.when.replace(words.NBSP, " ")) == (label, when)


def test_numbers_in_words() -> None:
    plain = [
        words.number(-1094.4),
        words.signed(65.2),
        words.signed(-0.3),
        words.quantity(9.94),
        words.quantity(446.8),
        words.unit_price(0.0382, "EUR"),
        words.unit_price(11.9, "GBP"),
        words.percent(0.0228),
        words.percent(0.0),
        words.money(NAN, "EUR"),
    ]
    shown = [re.sub(r"[\u00a0\u202f]", " ", p) for p in plain]
    assert shown == ["−1 094", "+ 65", "0", "9.9", "447", "€ 0.0382", "£ 11.90", "2.3 %", "0 %", "€ –"]
    assert words.local_day(0.0, UTC).year == 1970


@given(
    wanted=st.lists(st.floats(0, 600), min_size=1, max_size=6).map(sorted),
    size=st.floats(5, 60),
)
def test_labels_never_overlap_and_stay_inside(wanted: list[float], size: float) -> None:
    centres = svg.spread(wanted, [size] * len(wanted), 0.0, 600.0, 4.0)
    assert centres[0] >= size / 2 - 1e-6
    assert centres[-1] <= 600 - size / 2 + 1e-6
    assert all(b - a >= size + 4 - 1e-6 for a, b in pairwise(centres))


@given(low=st.floats(-1e6, 1e6), span=st.floats(0, 1e6), parts=st.integers(2, 8))
def test_axes_cover_their_values_with_few_ticks(low: float, span: float, parts: int) -> None:
    start, end, step = svg.nice_range(low, low + span, parts)
    slack = 1e-6 * (abs(low) + span) + 1e-9  # less than a pixel
    assert start <= low + slack
    assert end >= low + span - slack
    assert end > start
    assert 2 <= len(svg.ticks(start, end, step)) <= parts + 3


numbers = st.floats(-1e6, 1e6) | st.sampled_from([0.0, NAN, float("inf")])
lines = st.builds(BillLine, st.text(max_size=20), st.text(max_size=30), numbers, numbers)


@settings(max_examples=40, deadline=None)
@given(
    bill=st.lists(lines, max_size=8),
    bills=st.tuples(numbers, numbers),
    kw=st.lists(st.tuples(numbers, numbers, numbers), max_size=300),
    counts=st.tuples(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400)),
    site=st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="￾￿")),
)
def test_any_study_has_a_page(
    bill: list[BillLine],
    bills: tuple[float, float],
    kw: list[tuple[float, float, float]],
    counts: tuple[int, int, int],
    site: str,
) -> None:
    start_s = [STUDY.start_s + 900.0 * i for i in range(len(kw))]
    study = sample_study(
        site=site,
        bill=bill,
        bill_without=bills[0],
        bill_with=bills[1],
        vehicles=counts[0],
        sessions=counts[1],
        drivers_short=counts[2],
        series=IntervalSeries(start_s, *([row[k] for row in kw] for k in range(3))),
    )
    page = render_html(study)
    assert page.count("</article>") == 3
    coordinates = re.findall(r' (?:x|y|x1|x2|y1|y2|cx|cy|d|width|height)="([^"]*)"', page)
    assert not any("nan" in c or "inf" in c for c in coordinates)
    assert max(len(row) for row in terminal(study).splitlines()) <= 80
