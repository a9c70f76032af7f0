"""The area that regions of text cover, and the settings of the text filter."""

from __future__ import annotations

import numpy as np
import pytest

from dataminer.config.models import FilterConfig, TextConfig
from dataminer.stages.embed.text import covered_share
from dataminer.stages.filter.thresholds import TEXT_THRESHOLDS, passes_by_reason


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


DIAMOND = [[0.5, 0.0], [1.0, 0.5], [0.5, 1.0], [0.0, 0.5]]


@pytest.mark.parametrize(
    ("regions", "share"),
    [
        ([], 0),
        ([box(0, 0, 1, 1)], 1),
        ([box(0.1, 0.2, 0.4, 0.7)], 0.15),
        ([box(0.1, 0.2, 0.4, 0.7)[::-1]], 0.15),  # the other way round
        ([box(0, 0, 0.5, 0.5), box(0.5, 0.5, 1, 1)], 0.5),
        # what several cover counts once
        ([box(0, 0, 0.5, 0.5)] * 3, 0.25),
        ([box(0, 0, 0.5, 0.5), box(0.25, 0.25, 0.75, 0.75)], 0.4375),
        ([box(0, 0, 1, 0.5), box(0.2, 0.1, 0.3, 0.2), box(0.4, 0, 0.6, 1)], 0.6),
        ([DIAMOND], 0.5),
        ([DIAMOND, box(0, 0, 0.5, 0.5)], 0.625),
        # what lies outside of the picture counts for nothing
        ([box(-0.5, -0.5, 0.5, 0.5)], 0.25),
        ([box(1.1, 0, 1.4, 1), box(0, -0.4, 1, -0.1)], 0),
        ([[[0.5, -0.5], [1.5, 0.5], [0.5, 1.5], [-0.5, 0.5]]], 1),
    ],
    ids=str,
)
def test_the_union_of_regions(regions: list[list[list[float]]], share: float) -> None:
    corners = np.array(regions, np.float32).reshape(-1, 4, 2)
    assert covered_share(corners) == pytest.approx(share, abs=0.001)


def test_the_share_is_that_of_points_in_any_of_many_regions() -> None:
    rng = np.random.default_rng(7)
    centres, sides = rng.random((20, 2)), 0.02 + 0.2 * rng.random((20, 2))
    angles = rng.random(20) * np.pi
    axes = np.stack([np.cos(angles), np.sin(angles), -np.sin(angles), np.cos(angles)], axis=1)
    axes = axes.reshape(20, 2, 2)
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    corners = centres[:, None] + np.einsum("kc,nk,nkx->ncx", signs.T, sides, axes)
    points = rng.random((200_000, 2))
    inside = np.zeros(len(points), bool)
    for centre, side, axis in zip(centres, sides, axes, strict=True):
        inside |= (np.abs((points - centre) @ axis.T) <= side / 2).all(axis=1)
    assert covered_share(corners.astype(np.float32)) == pytest.approx(inside.mean(), abs=0.004)


def test_a_frame_fails_above_the_maximum_alone() -> None:
    areas = {"text_area": np.array([0, 0.1, np.nextafter(np.float32(0.1), np.float32(1)), 1], "f4")}
    found = passes_by_reason(TEXT_THRESHOLDS, TextConfig(max_area=0.1), areas)
    assert {name: passes.tolist() for name, passes in found.items()} == {
        "text.max_area": [True, True, False, False]
    }
    assert passes_by_reason(TEXT_THRESHOLDS, TextConfig(), areas) == {}


def test_a_project_without_a_maximum_has_the_settings_that_it_had() -> None:
    plain = FilterConfig()
    other = FilterConfig.model_validate({"text": {"confidence": 0.7, "image_size": 960}})
    assert not plain.text.on and not other.text.on
    assert "text" not in plain.result_settings()
    assert other.result_settings() == plain.result_settings()
    limited = FilterConfig.model_validate({"text": {"max_area": 0}})
    assert limited.text.on
    assert limited.result_settings() == plain.result_settings() | {
        "text": {"max_area": 0, "confidence": 0.5, "image_size": 640}
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"max_area": -0.1},
        {"max_area": 1.1},
        {"max_area": True},
        {"confidence": 0.2},
        {"image_size": 100},
        {"image_size": 0},
        {"model": "x"},
    ],
    ids=str,
)
def test_other_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        TextConfig.model_validate(settings)
