"""Those who grade: so many at a time, shared by all stages that grade at the same time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

from harness.sandboxes import Sandbox

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Graders(Protocol):
    """`workers` calls run at a time, here or on other nodes.

    What is submitted is a function of a module: it may run elsewhere. `sandbox` is one to be passed on as
    an argument; reading it raises SandboxError where none runs.
    """

    @property
    def workers(self) -> int: ...

    @property
    def sandbox(self) -> Sandbox: ...

    def submit(
        self, work: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]: ...

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None: ...


class LocalGraders(ThreadPoolExecutor):
    """Threads of this process. What takes long runs in processes of its own: programs in the sandbox,
    math-verify in its pool."""

    def __init__(self, workers: int, open_sandbox: Callable[[], Sandbox]) -> None:
        super().__init__(workers, thread_name_prefix="grading")
        self.workers = workers
        self.open_sandbox = open_sandbox

    @property
    def sandbox(self) -> Sandbox:
        return self.open_sandbox()
