"""Load shedding over HTTP: what is taken, what is refused, and that nobody does it unsigned."""

from collections.abc import Iterator

import pytest

from tests.unit.test_web_api import V1, Site


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    with made.client:
        yield made


def test_load_is_shed_with_and_without_an_end(site: Site) -> None:
    assert site.client.post(V1 + "/load-shed", json={"limit_kw": 0.0}).status_code == 200
    assert site.client.post(V1 + "/load-shed", json={"limit_kw": 120.0, "minutes": 30.0}).status_code == 200
    assert site.client.post(V1 + "/load-shed/clear", json={}).json() == {"changed": True}
    assert site.port.acts == [
        ("shed_load", "api", 0.0, None),
        ("shed_load", "api", 120.0, 30.0),
        ("end_load_shed", "api"),
    ]


@pytest.mark.parametrize(
    "body", [{}, {"limit_kw": -1.0}, {"limit_kw": 1.0, "minutes": 0.0}, {"limit_kw": 1.0, "why": "x"}]
)
def test_a_wish_that_means_nothing_is_refused(site: Site, body: dict[str, object]) -> None:
    site.refused(400, "POST", "/load-shed", json=body)
    assert site.port.acts == []


def test_without_a_token_nothing_is_shed(site: Site) -> None:
    del site.client.headers["Authorization"]
    assert site.client.post(V1 + "/load-shed", json={"limit_kw": 0.0}).status_code in (401, 403)
    assert site.port.acts == []
