"""`harness completion`."""

import click

VARIABLE = "_HARNESS_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options and names.

    \b
    bash  harness completion bash > ~/.local/share/bash-completion/completions/harness
    zsh   harness completion zsh > ~/.zfunc/_harness   (a folder of fpath, before compinit)
    fish  harness completion fish > ~/.config/fish/completions/harness.fish

    For this shell alone: eval "$(harness completion bash)"
    """
    from click.shell_completion import get_completion_class

    from harness.cli.completing import names

    known = get_completion_class(shell)
    assert known is not None
    names()
    root = click.get_current_context().find_root()
    click.echo(known(root.command, {}, "harness", VARIABLE).source())
