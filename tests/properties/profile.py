"""The same examples each time, as many as a test names, and no limit on the time of one."""

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


def examples(most: int) -> settings:
    return settings(
        max_examples=most, derandomize=True, deadline=None, database=None, suppress_health_check=SLOW
    )
