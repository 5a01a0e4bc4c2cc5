"""One cluster as it is used from one place: what it accepts, what was submitted there, and how that fares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xmanager.backends.slurm import commands
from xmanager.backends.slurm.site import NoProgramError, Site
from xmanager.backends.slurm.submitting import Submissions
from xmanager.backends.slurm.watching import Watch
from xmanager.errors import ExecutorError, UnreachableError

_PATIENCE = 10.0
_NO_SUCH_NODES = 'node configuration is not available'
_MOST_NODES = 8  # Kinds of nodes in one sentence.


class Cluster:
    """`environ` has the secrets; `login` is '' for the cluster of this machine."""

    def __init__(self, site: Site, environ: Mapping[str, str], login: str) -> None:
        self.site = site
        self.submissions = Submissions(site, environ)
        self.watch = Watch(site, self.submissions)
        self._login = login
        self._flaws: dict[tuple[tuple[str, ...], ...], str] = {}

    def check(self, options: Sequence[tuple[str, ...]]) -> None:
        """Has Slurm say whether it would ever run a job with these options, one tuple for each component.

        Raises ExecutorError in Slurm's words. Each combination is asked for once; that Slurm is down is no flaw.
        """
        key = tuple(options)
        if key not in self._flaws:
            self._flaws[key] = self._ask(key)
        if self._flaws[key]:
            raise ExecutorError(self._flaws[key])

    def close(self) -> None:
        """Gives back what it holds of this process."""
        self.watch.close()
        self.site.close()

    def _ask(self, options: Sequence[tuple[str, ...]]) -> str:
        words = ['sbatch', '--test-only', '--wrap=:']
        for component, stated in enumerate(options):
            words += [':', *stated] if component else stated
        try:
            answer = self.site.run(words, timeout=_PATIENCE)
        except NoProgramError as error:
            return self._without_slurm(error)
        except UnreachableError as error:
            _warn(str(error))
            return ''
        said = commands.words(answer)
        if not answer.code or commands.is_full(said):
            return ''
        if commands.is_out_of_reach(said):
            _warn(said)
            return ''
        flaw = f'Slurm would not run this job: {said}. It was asked for: {_shown(options)}.'
        if _NO_SUCH_NODES in said:
            flaw += self._nodes()
            if any('gpu:' in word for stated in options for word in stated):
                flaw += ' If a GPU has another name there, say it by Slurm(gpu_types=…).'
        return flaw

    def _nodes(self) -> str:
        """What there is to ask for, as one more sentence."""
        try:
            found = commands.read_nodes(self.site.run(commands.NODES, timeout=_PATIENCE))
        except UnreachableError:  # Then what was refused must do.
            return ''
        if not found:
            return ''
        return f' Its nodes have: {"; ".join(found[:_MOST_NODES])}{"; …" if found[_MOST_NODES:] else ""}.'

    def _without_slurm(self, error: NoProgramError) -> str:
        if self._login:
            return str(error)
        text = str(error).rstrip('.')
        return (
            f'Slurm is not to be had on this machine: {text}. Launch on a login node of the cluster, '
            "or name one: Slurm(login='user@host')."
        )


def _warn(said: str) -> None:
    import logging  # Seldom needed, and no supervisor has loaded it.

    logger = logging.getLogger(__name__)
    logger.warning('Slurm could not be asked whether it would run this job: %s', said)


def _shown(options: Sequence[tuple[str, ...]]) -> str:
    told = ' : '.join(' '.join(stated) for stated in options)
    return told.strip() or 'no options'
