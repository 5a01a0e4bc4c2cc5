"""Where a plan is played: a home, real launchers, commands and supervisors, and their deaths."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs
from tests.acceptance.living import Process, processes_of, supervisors_of
from tests.acceptance.polling import until
from tests.chaos.commands import Commands, Tell
from tests.chaos.model import Plan, Step
from tests.chaos.oracle import Deeds, Oracle, Where, complaints

from xmanager.ledger.ledger import Reader
from xmanager.ledger.place import Place
from xmanager.store import FINAL_STATES, Home, Store

# Seconds without news from the jobs after which the next step is taken all the same, and until their first news.
_PATIENCE, _FIRST_PATIENCE = 0.4, 2.0
_LONGEST_FREEZE = 0.3
_REVIVAL_PERIOD = 1.0


@attrs.frozen
class Result:
    """What is wrong at the end of a plan, and how many units ended in which state and faults struck."""

    wrong: list[str]
    tally: Counter[str]


class Stage:
    """One plan in one folder. `tell` is told of everything that is done."""

    executor = 'Local'
    deadline = 60.0

    def __init__(self, plan: Plan, folder: Path, tell: Tell) -> None:
        self.plan = plan
        self.folder = folder
        self.home = folder / 'home'
        self.ledger = folder / 'ledger'
        self.oracle = Oracle(folder / 'oracle')
        self.oracle.folder.mkdir()
        self.deeds = Deeds()
        self._began = time.monotonic()
        self._revived_at = 0.0
        self._tell_line = tell
        self._rng = random.Random(plan.seed)
        self._to_launch = list(plan.launches)
        self._commands = Commands(folder, self._tell, self.executor)
        self._commands.environment |= {
            'XM_HOME': str(self.home),
            'XM_LOCAL_LEDGER': str(self.ledger),
            'XM_LOCAL_RESOURCES': f'cpu={plan.cpus},local_gpu={plan.gpus}',
            'XM_BOOT_ID': f'{0:08x}',
        }

    def play(self) -> Result:
        """Plays the plan to its end."""
        wrong: list[str] = []
        try:
            self._launch_next()
            for step in self.plan.steps:
                self._await_lines(step.lines)
                time.sleep(step.delay)  # The moment is drawn by lot: this waits for nothing.
                self._act(step)
            while self._to_launch:
                self._launch_next()
            self._come_to_rest()
        except AssertionError as error:  # Something did not happen in time.
            wrong.append(str(error))
        finally:
            wrong += self._complaints()
            self._end_all()
        return Result(wrong, self._tally())

    # What happens.

    def _launch_next(self) -> None:
        self._commands.launch(self._to_launch.pop(0), self.oracle.folder)

    def _tell(self, what: str) -> None:
        self._tell_line(f'{time.monotonic() - self._began:6.2f}  {what}')

    def _await_lines(self, lines: int) -> None:
        count = self.oracle.count()
        latest = time.monotonic() + _PATIENCE if count else self._began + _FIRST_PATIENCE
        while (now := self.oracle.count()) < lines and time.monotonic() < latest:
            if now != count:
                count, latest = now, time.monotonic() + _PATIENCE
            time.sleep(0.01)
            if not processes_of(self.home):
                return

    def _act(self, step: Step) -> None:
        match step.act:
            case 'launch':
                self._launch_next()
            case 'command':
                self._command(step)
            case 'kill-supervisors':
                self._kill('a supervisor', self._supervisors())
            case 'kill-launchers' | 'kill-commands':
                for command in self._commands:
                    if bool(command.launch) == (step.act == 'kill-launchers') and command.kill():
                        self._tell(f'killed: xmanager {command.words}')
            case 'kill-all':
                self._kill('a supervisor', self._supervisors())
                for command in self._commands:
                    if command.kill():
                        self._tell(f'killed: xmanager {command.words}')
            case 'kill-runner':
                self._kill_runner()
            case 'freeze':
                self._freeze()
            case 'interrupt':
                self._interrupt()
            case 'reboot':
                self._reboot()

    def _command(self, step: Step) -> None:
        verb, *rest = step.words
        for word in rest:
            experiment, _, label = word.partition('.')
            if experiment.isdecimal() and verb in ('stop', 'restart'):
                asked = self.deeds.stops if verb == 'stop' else self.deeds.restarts
                asked[int(experiment), label] += 1
        command = self._commands.start(step.words, step.faults, strikes_itself=step.strikes_command)
        if step.dies_after is not None:
            time.sleep(step.dies_after)
            if command.kill():
                self._tell(f'killed: xmanager {command.words}')

    def _supervisors(self) -> list[Process]:
        found = {
            one.pid: one for one in processes_of(self.home) if 'xmanager.supervise' in one.words
        }
        # A child of one is a runner in the moment before it becomes one.
        return [one for one in found.values() if _parent(one.pid) not in found]

    def _kill(self, what: str, processes: list[Process]) -> None:
        for process in processes:
            self._tell(f'killed: {what}, {process.pid}')
            process.end()

    def _kill_runner(self) -> None:
        runners = [one for one in processes_of(self.home) if _unit_of(one)]
        leaders = [one for one in runners if _leads_group(one.pid)]
        if leaders:
            runner = self._rng.choice(sorted(leaders, key=lambda one: one.words[4]))
            self._bereave([runner])
            self._kill('a runner', [runner])

    def _bereave(self, processes: list[Process]) -> None:
        """Notes that nobody will know how the jobs of these runners ended."""
        units = {unit for process in processes if (unit := _unit_of(process))}
        for unit in units - self.deeds.runners_killed:
            self._tell(f'nobody will know how {unit[0]}.{unit[1]} ends')
        self.deeds.runners_killed |= units

    def _freeze(self) -> None:
        frozen = self._supervisors()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in frozen:
                self._tell(f'{number.name}: a supervisor, {process.pid}')
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
            if number == signal.SIGSTOP:
                time.sleep(self._rng.uniform(0, _LONGEST_FREEZE))

    def _interrupt(self) -> None:
        """Ctrl-C at the terminal of each launcher that has told which experiment it is: it stops its units."""
        for command in self._commands:
            if command.launch and command.process.poll() is None and command.output.stat().st_size:
                self._tell(f'interrupted: xmanager {command.words}')
                command.process.send_signal(signal.SIGINT)
                for number in range(1, len(self.plan.launches) + 1):
                    self.deeds.stops[number, ''] += 1

    def _reboot(self) -> None:
        self._tell('the machine goes down')
        self._kill('a supervisor', self._supervisors())
        while alive := processes_of(self.home):
            self._bereave(alive)
            for process in alive:
                process.end()
        self._end_all()
        self.deeds.reboots += 1
        self._commands.environment['XM_BOOT_ID'] = f'{self.deeds.reboots:08x}'

    # The end.

    def _come_to_rest(self) -> None:
        """Lets those who are alive finish, and revives what nobody supervises, as the next command would."""
        until(self._is_at_rest, self.deadline)
        self._tell('all units have ended')
        until(lambda: not processes_of(self.home), self.deadline)
        self._tell('all processes have ended')

    def _unfinished(self) -> list[int]:
        """Experiments with units that have not ended, or requests that nobody has seen to."""
        with self._store() as store:
            return [
                experiment.id
                for experiment in store.experiments()
                if experiment.counts.keys() - FINAL_STATES or store.requests(experiment.id)
            ]

    def _is_at_rest(self) -> bool:
        unfinished = self._unfinished()
        if not unfinished and not self._commands.are_running():
            return True
        if time.monotonic() > self._revived_at + _REVIVAL_PERIOD:
            self._revived_at = time.monotonic()
            for experiment in () if self._commands.are_running('pause') else self._paused():
                self._commands.start(('resume', f'{experiment}'))
            for experiment in unfinished:
                if not supervisors_of(self.home, experiment):
                    verb = 'supervise' if self.plan.seed % 2 else 'wait'
                    self._commands.start((verb, f'{experiment}'))
        return False

    def _paused(self) -> list[int]:
        with self._store() as store:
            return [one.id for one in store.experiments() if one.paused_at is not None]

    def _complaints(self) -> Iterator[str]:
        with self._store() as store:
            yield from complaints(self.plan, self.deeds, self.oracle, store)
            recorded = {one.title: sum(one.counts.values()) for one in store.experiments()}
        for command in self._commands:
            if command.launch and command.process.poll() in (0, 1):  # Not killed, nor interrupted.
                planned, found = len(command.launch.units), recorded.get(command.launch.title, 0)
                if found < planned:
                    said = command.output.read_text().strip().splitlines()[-1:]
                    yield f'{found} of {planned} units of {command.launch.title} are recorded: {said}'
        for process in processes_of(self.home):
            yield f'this still runs: {process.pid} {" ".join(process.words)}'
        for path in (*self.folder.glob('*.out'), *self.home.glob('experiments/*/supervisor.log')):
            if 'Traceback' in (text := path.read_text(errors='replace')):
                yield f'{path.relative_to(self.folder)}: {text.strip().splitlines()[-1]}'
        yield from self._complaints_of_ledger()

    def _complaints_of_ledger(self) -> Iterator[str]:
        """The file of an owner that was killed may be there, but it counts for nothing."""
        if self.ledger.exists():
            with contextlib.closing(Reader(Place(self.ledger, shared=False))) as reader:
                for entry in reader.entries():
                    if entry.alive or entry.holds:
                        yield f'the ledger still has {entry}'

    def _store(self) -> Store:
        return Store.open(Home(self.home), readonly=True)

    def _end_all(self) -> None:
        while alive := processes_of(self.home):
            for process in alive:
                process.end()
        for command in self._commands:
            command.process.wait()

    def _tally(self) -> Counter[str]:
        tally: Counter[str] = Counter()
        with self._store() as store:
            for experiment in store.experiments():
                tally.update(experiment.counts)
                tally['attempts'] += sum(unit.attempt for unit in store.units(experiment.id))
        logs = self.folder.glob('*.faults')
        tally['faults'] = sum(log.read_bytes().count(b'\n') for log in logs)
        return tally


def _unit_of(process: Process) -> Where | None:
    """The unit of a runner (or of its copy that is about to become the program); None for other processes."""
    if process.words[3:4] != ('xm-runner',):
        return None
    *_, experiment, label, _job, _status = Path(process.words[4]).parts
    return int(experiment), label


def _parent(pid: int) -> int:
    try:
        return int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1])
    except OSError:  # It has ended.
        return 0


def _leads_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False
