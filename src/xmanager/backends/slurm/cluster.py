"""One cluster as it is used from one place: what it accepts, what was submitted there, and how that fares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xmanager.backends.slurm import commands
from xmanager.backends.slurm.site import NoProgramError, Site
from xmanager.backends.slurm.submitting import Submissions
from xmanager.backends.slurm.watching import Watch
from xmanager.errors import ExecutorError, UnreachableError

_PATIENCE = 10.0


class Cluster:
    """`environ` has the secrets; `login` is '' for the cluster of this machine."""

    def __init__(self, site: Site, environ: Mapping[str, str], login: str) -> None:
        self.site = site
        self.submissions = Submissions(site, environ)
        self.watch = Watch(site, self.submissions.origins.get)
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
        return f'Slurm would not run this job: {said}. It was asked for: {_shown(options)}.'

    def _without_slurm(self, error: NoProgramError) -> str:
        where = f'on {self._login}' if self._login else 'on this machine'
        text = str(error).rstrip('.')
        if self._login:
            return f'Slurm is not to be had {where}: {text}. Name a login node of the cluster.'
        return (
            f'Slurm is not to be had {where}: {text}. Launch on a login node of the cluster, '
            "or name one: Slurm(login='user@host')."
        )


def _warn(said: str) -> None:
    import logging  # Seldom needed, and no supervisor has loaded it.

    logger = logging.getLogger(__name__)
    logger.warning('Slurm could not be asked whether it would run this job: %s', said)


def _shown(options: Sequence[tuple[str, ...]]) -> str:
    told = ' : '.join(' '.join(stated) for stated in options)
    return told.strip() or 'no options'
