"""Tables of a page that come from a bench: they stand between two marks and are written anew, never by hand."""


def with_block(page: str, name: str, block: str) -> str:
    """Return the page with this text between `<!-- NAME, from the bench -->` and `<!-- end of NAME -->`."""
    begin, end = f"<!-- {name}, from the bench -->\n", f"<!-- end of {name} -->"
    assert page.count(begin) == page.count(end) == 1, f"the page has no marks for {name!r}"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n{block}\n\n{end}{rest.partition(end)[2]}"


def table(rows: list[list[str]]) -> str:
    """Return rows of cells as a table, the first row as its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])
