"""Reference values: their error is never taken for nothing."""

import math

import pytest

from harness.statistics import score
from pipeline.micro.reference import scatter
from tests.reports.test_report import graded


def test_seeds_that_happen_to_agree_still_leave_the_means_sampling_error() -> None:
    alike = [score(graded(2, 20, 4), 20, 4)] * 3
    assert alike[0].se_rerun
    assert scatter(alike) == pytest.approx(alike[0].se_rerun / math.sqrt(3))


def test_seeds_that_differ_by_more_than_sampling_leave_the_difference() -> None:
    apart = [score(graded(right, 20, 4), 20, 4) for right in (1, 2, 3)]
    assert scatter(apart) > max(each.se_rerun or 0.0 for each in apart)
