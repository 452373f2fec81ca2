"""Rows as text: a grid for terminals, a table for notebooks."""

from __future__ import annotations

import html
import shutil

#: Longer values are cut.
CELL = 40
_NUMBERS = ("Int", "UInt", "Float", "Decimal")


def grid(columns: list[tuple[str, str]], rows: list[list[str]]) -> str:
    """Columns as wide as their widest value, numbers to the right; those in the middle give way to the terminal's width."""
    cells = [[_line(cell) for cell in row] for row in rows]
    names = [_line(name) for name, _ in columns]
    widths = [max([len(name), *(len(row[at]) for row in cells)]) for at, name in enumerate(names)]
    shown = _fitting(widths, shutil.get_terminal_size((120, 24)).columns)
    right = [kind.startswith(_NUMBERS) for _, kind in columns]

    def line(row: list[str]) -> str:
        parts = [
            "…" if at is None else row[at].rjust(widths[at]) if right[at] else row[at].ljust(widths[at]) for at in shown
        ]
        return "│ " + " │ ".join(parts) + " │"

    def rule(left: str, between: str, end: str) -> str:
        return left + between.join("─" * ((1 if at is None else widths[at]) + 2) for at in shown) + end

    head = [rule("┌", "┬", "┐"), line(names), rule("├", "┼", "┤")]
    return "\n".join([*head, *(line(row) for row in cells), rule("└", "┴", "┘")])


def table(columns: list[tuple[str, str]], rows: list[list[str]]) -> str:
    """The same as HTML."""
    head = "".join(f"<th>{html.escape(name)}<br><small>{html.escape(kind)}</small></th>" for name, kind in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(_line(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _line(cell: str) -> str:
    text = "".join(c if c.isprintable() else " " for c in cell)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _fitting(widths: list[int], room: int) -> list[int | None]:
    """The columns that are shown; none stands for those that are left out."""
    if sum(widths) + 3 * len(widths) + 1 <= room:
        return list(range(len(widths)))
    left, right = [0], list[int]()
    used = widths[0] + 8
    for at in range(1, len(widths)):
        # In turns: the last columns say as much as the first.
        side, index = (right, len(widths) - 1 - len(right)) if at % 2 else (left, len(left))
        used += widths[index] + 3
        if used > room:
            break
        side.append(index)
    return [*left, None, *reversed(right)]
