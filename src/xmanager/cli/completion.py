"""`xmanager completion`: the script that makes a shell complete commands, options and ids."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command('completion')
@click.argument('shell', type=click.Choice(['bash', 'zsh', 'fish']))
def command(shell: str) -> None:
    """Print the script that makes a shell complete commands, options, experiments, units and jobs.

    \b
    To have it in every new shell, put one line into its rc file:
      bash  ~/.bashrc                   eval "$(xmanager completion bash)"
      zsh   ~/.zshrc, after compinit    eval "$(xmanager completion zsh)"
      fish  ~/.config/fish/config.fish  xmanager completion fish | source

    \b
    Examples:
      xmanager completion bash
    """
    from xmanager.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, 'xmanager', '_XMANAGER_COMPLETE').source())
