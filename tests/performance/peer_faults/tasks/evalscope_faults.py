"""The work for evalscope: python evalscope_faults.py BASE_URL CONCURRENCY OUT.

A second run of the same command goes on with what the first one left in OUT.
"""

import os
import sys
from pathlib import Path

import evalscope_speed  # noqa: F401  registers the benchmark
from evalscope import TaskConfig, run_task


def main():
    base_url, concurrency, out = sys.argv[1:]
    run_task(
        TaskConfig(
            model="speed",
            api_url=base_url,
            api_key="none",
            eval_type="openai_api",
            datasets=["speed"],
            repeats=1,
            eval_batch_size=int(concurrency),
            generation_config={
                "temperature": 0.0,
                "max_tokens": int(os.environ["SPEED_MAX_TOKENS"]),
                "timeout": 30,
                "retries": 8,
                "retry_interval": 2,
            },
            collect_perf=False,
            work_dir=out,
            use_cache=out if Path(out).exists() else None,
            no_timestamp=True,
        )
    )


if __name__ == "__main__":
    main()
