"""Tables for papers: LaTeX with booktabs, the best number in bold, the protocol in the caption."""

import re
from collections.abc import Sequence

from hmrb.evaluation.metric_table import HEADINGS, MEANINGS, TITLES
from hmrb.reports.tables import INTERVAL, Comparison, about, best_rows, columns

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": "{'}", "`": "{`}", "[": "{[}", "*": "{*}",
    "?": "{?}", "!": "{!}", "±": r"$\pm$", "²": "$^2$", "³": "$^3$", "↓": r"$\downarrow$", "↑": r"$\uparrow$",
}  # fmt: skip


def as_latex(comparisons: Sequence[Comparison]) -> str:
    """One `table` per comparison, for a document with `\\usepackage{booktabs}` and `\\usepackage[T1]{fontenc}`."""
    return "% \\usepackage{booktabs}, \\usepackage[T1]{fontenc}\n" + "\n".join(map(_table, comparisons))


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is: nothing in it is a command, a cell's end or an argument of `\\\\`."""
    plain = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return re.sub("-(?=-)", "-{}", "".join(SPECIAL.get(letter, letter) for letter in plain))


def _table(comparison: Comparison) -> str:
    (names, *numbers), metric = columns(comparison), comparison.metric
    lines = [" & ".join(escaped(column.title) for column in (names, *numbers))]
    for row, is_best in enumerate(best_rows(comparison)):
        texts = [_signed(column.texts[row]) for column in numbers]
        bold = [is_best and column.title == HEADINGS[metric] for column in numbers]
        marked = [rf"\textbf{{{text}}}" if is_bold else text for text, is_bold in zip(texts, bold, strict=True)]
        lines.append(" & ".join([escaped(names.texts[row]), *marked]))
    head, *body = (rf"{line} \\" for line in lines)
    notes = f"{TITLES[metric]}: {MEANINGS[metric]}. {INTERVAL}: bootstrap interval. {about(comparison)}."
    inner = "\n".join(["\\toprule", head, "\\midrule", *body, "\\bottomrule"])
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{escaped(notes)}}}\n"
        f"\\begin{{tabular}}{{l{'r' * len(numbers)}}}\n{inner}\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def _signed(text: str) -> str:
    """A number or an interval with true minus signs; a dash if there is no interval."""
    if text == "-":
        return "--"
    return re.sub(r"-(?=\d)", "$-$", text.replace("[", "{[}").replace(" ?", r"\,?"))
