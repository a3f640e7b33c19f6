"""What can be wrong with one row: raised where it is found, turned into a `Rejected` by `read`."""


class RowProblem(Exception):
    """One row cannot be used; the rows around it can.

    `rule` is a short kebab-case name that the ledger counts by, `detail` a sentence for the user.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail
