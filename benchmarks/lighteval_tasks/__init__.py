"""Our benchmarks as custom tasks of lighteval. `python -m benchmarks.lighteval_tasks` names the file."""
