"""What can be wrong with one row: raised where it is found, turned into a `Rejected` by `read`."""

import re


class RowProblem(Exception):
    """One row cannot be used; the rows around it can.

    `rule` is a short kebab-case name that the ledger counts by, `detail` a sentence for the user, `place` the value in
    the row that is wrong, such as `messages[2].content`; it is empty where the row as a whole is.
    """

    def __init__(self, rule: str, detail: str, place: str = "") -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail
        self.place = place

    @property
    def pointer(self) -> str:
        """The place as a JSON pointer (RFC 6901): `/messages/2/content`."""
        return "".join(f"/{step}" for step in re.findall(r"[^.\[\]]+", self.place))
