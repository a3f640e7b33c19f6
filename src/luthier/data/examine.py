"""Show every row once to every check, and gather what each of them finds."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from luthier.core import parts
from luthier.core.errors import SettingsError, nearest
from luthier.core.types import Finding, Row
from luthier.data.checking import Check, Context

CHECKS = "luthier.data.checks"


def check_names(skip: Sequence[str] = ()) -> list[str]:
    """List the checks, the user's own among them, by the names of their files; raise SettingsError for a `skip` that is none."""
    known = parts.names(CHECKS)
    for name in skip:
        if name not in known:
            raise SettingsError(
                f"check.skip: there is no check {name!r}.{nearest(name, known)} There are: {', '.join(known)}."
            )
    return [name for name in known if name not in skip]


def make_checks(names: Iterable[str], context: Context) -> dict[str, Check]:
    """Make the checks that are named, each for one look at the data."""
    return {name: parts.load(CHECKS, name, "Check")(context) for name in names}


def examine(checks: Mapping[str, Check], rows: Iterable[Row]) -> dict[str, list[Finding]]:
    """Return what each check finds in the rows."""
    found = show(checks, rows)
    conclude(checks, found)
    return found


def show(checks: Mapping[str, Check], rows: Iterable[Row]) -> dict[str, list[Finding]]:
    """Show every row to every check; return what each finds at once."""
    found: dict[str, list[Finding]] = {name: [] for name in checks}
    eyes = [(check.see, found[name]) for name, check in checks.items()]
    for position, row in enumerate(rows):
        for see, findings in eyes:
            findings += see(position, row)
    return found


def conclude(
    checks: Mapping[str, Check], found: dict[str, list[Finding]], progress: Callable[[int, str], None] | None = None
) -> None:
    """Add what each check says once it has seen all rows; `progress` hears how many are through, and whose turn it is."""
    for done, (name, check) in enumerate(checks.items()):
        if progress is not None:
            progress(done, name)
        found[name] += check.end()
