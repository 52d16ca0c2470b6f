"""The two hubs that models and data sets come from, behind one interface.

Hugging Face through huggingface_hub, ModelScope through modelscope_hub (1.40's `modelscope` is a shell
around it; read at 0.5.1). Both are asked for commits, never for branches. ModelScope's API does not
document where it names a branch's commit, so git itself is asked: its repositories are git repositories.
"""

import os
import subprocess
from pathlib import Path
from typing import Literal, Protocol

from platformdirs import user_cache_path

from harness.errors import UsageError

HubName = Literal["huggingface", "modelscope"]
Kind = Literal["dataset", "model"]

MODELSCOPE = "https://www.modelscope.cn"
GIT_SECONDS = 120.0


class HubFailure(Exception):
    """A hub did not give what was asked for; `gated` where its terms must be accepted first."""

    def __init__(self, message: str, gated: bool = False) -> None:
        super().__init__(message)
        self.gated = gated


class Hub(Protocol):
    """What is needed of a hub. All raise HubFailure."""

    def newest_commit(self, repo: str, kind: Kind) -> str: ...

    def files(self, repo: str, commit: str, kind: Kind) -> list[str]:
        """The paths of all files at a commit, sorted."""
        ...

    def download(self, repo: str, commit: str, patterns: list[str], kind: Kind) -> Path:
        """The folder that holds the files whose paths match one of the patterns."""
        ...

    def cached(self, repo: str, commit: str, patterns: list[str], kind: Kind) -> Path:
        """The folder that these files were downloaded to before. Asks nobody, and may not know what is
        missing there. Of a model, files below its top are not meant."""
        ...


class HuggingFace:
    """The Hugging Face Hub; HF_ENDPOINT, HF_HOME and HF_TOKEN are its own settings."""

    def newest_commit(self, repo: str, kind: Kind) -> str:
        from huggingface_hub import HfApi

        with HuggingFaceFailures():
            commit = HfApi().repo_info(repo, repo_type=kind).sha
        if not commit:
            raise HubFailure(f"no commit is named for {repo}")
        return commit

    def files(self, repo: str, commit: str, kind: Kind) -> list[str]:
        from huggingface_hub import HfApi

        with HuggingFaceFailures():
            return sorted(HfApi().list_repo_files(repo, revision=commit, repo_type=kind))

    def download(self, repo: str, commit: str, patterns: list[str], kind: Kind) -> Path:
        from huggingface_hub import snapshot_download

        with HuggingFaceFailures():
            return Path(snapshot_download(repo, revision=commit, repo_type=kind, allow_patterns=patterns))

    def cached(self, repo: str, commit: str, patterns: list[str], kind: Kind) -> Path:
        from huggingface_hub import snapshot_download

        with HuggingFaceFailures():
            return Path(
                snapshot_download(
                    repo,
                    revision=commit,
                    repo_type=kind,
                    allow_patterns=patterns,
                    ignore_patterns=["*/*"] if kind == "model" else None,
                    local_files_only=True,
                )
            )

    def first_of(self, repo: str, commit: str, names: list[str], kind: Kind) -> Path:
        """The first of `names` that the repository has at this commit, downloaded."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        for name in names:
            try:
                with HuggingFaceFailures(let=EntryNotFoundError, but=LocalEntryNotFoundError):
                    return Path(hf_hub_download(repo, name, repo_type=kind, revision=commit))
            except EntryNotFoundError:
                continue
        raise HubFailure(f"commit {commit} has none of {', '.join(names)}")


class HuggingFaceFailures:
    """A context that turns the client's errors into HubFailure, except for `let` that is no `but`."""

    def __init__(self, let: type[Exception] | None = None, but: type[Exception] | None = None) -> None:
        self.let, self.but = let, but

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

        http_error = HfHubHTTPError.__bases__[0]  # of httpx or httpx2, as the Hub client's version has it
        if not isinstance(error, (http_error, OSError, ValueError)):
            return
        if self.let and isinstance(error, self.let) and not (self.but and isinstance(error, self.but)):
            return
        raise HubFailure(first_line(error), gated=isinstance(error, GatedRepoError)) from error


class ModelScope:
    """ModelScope; MODELSCOPE_ENDPOINT and MODELSCOPE_API_TOKEN are its own settings.

    The cache is a folder of our own: the library takes what an older version of it left in the usual
    one, of whatever revision, for what was asked.
    """

    def newest_commit(self, repo: str, kind: Kind) -> str:
        endpoint = os.environ.get("MODELSCOPE_ENDPOINT") or MODELSCOPE
        if "://" not in endpoint:
            endpoint = f"https://{endpoint}"
        url = f"{endpoint.rstrip('/')}/{'datasets/' if kind == 'dataset' else ''}{repo}.git"
        try:
            told = subprocess.run(
                ["git", "ls-remote", url, "HEAD"],
                env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
                capture_output=True,
                text=True,
                check=True,
                timeout=GIT_SECONDS,
            ).stdout
        except subprocess.CalledProcessError as error:
            raise HubFailure(f"git ls-remote {url}: {first_line(error.stderr)}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HubFailure(f"git ls-remote {url}: {first_line(error)}") from error
        if not told.split():
            raise HubFailure(f"{url} has no commit")
        return told.split()[0]

    def files(self, repo: str, commit: str, kind: Kind) -> list[str]:
        with ModelScopeFailures() as api:
            found = api.list_repo_files(repo, kind, revision=commit)
        return sorted(file.path for file in found if file.type != "tree")

    def download(self, repo: str, commit: str, patterns: list[str], kind: Kind) -> Path:
        with ModelScopeFailures() as api:
            return Path(
                api.download_repo(
                    repo, kind, revision=commit, cache_dir=modelscope_cache(), allow_patterns=patterns
                )
            )

    def cached(self, repo: str, commit: str, patterns: list[str], kind: Kind) -> Path:
        with ModelScopeFailures() as api:
            return Path(
                api.download_repo(
                    repo, kind, revision=commit, cache_dir=modelscope_cache(), local_files_only=True
                )
            )


def modelscope_cache() -> Path:
    return user_cache_path("dasd-harness") / "modelscope"


class ModelScopeFailures:
    """A context that gives the library's client and turns its errors into HubFailure."""

    def __enter__(self) -> "HubApi":  # type: ignore[name-defined]  # noqa: F821
        try:
            from modelscope_hub import HubApi
        except ImportError as error:
            raise UsageError(
                'machine.toml says hub = "modelscope", and the package modelscope-hub is missing',
                "Run `pip install 'dasd-harness[modelscope]'`, or take the setting out.",
            ) from error
        return HubApi()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from modelscope_hub.errors import HubError

        if isinstance(error, (HubError, OSError)):
            raise HubFailure(first_line(error)) from error


def first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def hub_named(name: HubName) -> Hub:
    match name:
        case "huggingface":
            return HuggingFace()
        case "modelscope":
            return ModelScope()
