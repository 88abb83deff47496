"""Text written so that it comes out as it is: in LaTeX, Markdown, CSV, pictures and SVG."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

# --- Markdown -------------------------------------------------------------------

#: what Markdown takes for more than text wherever it stands; an underscore only at a word's end
_ACTIVE = re.compile(r"[\\`*\[\]<>|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)|:(?=\w+:)")


def markdown(text: str) -> str:
    """Text as Markdown, on one line, in a table's cell or outside of one."""
    return _ACTIVE.sub(lambda found: "\\" + found[0], one_line(text))


def one_line(text: str) -> str:
    """Text whose line breaks are blanks."""
    return " ".join(text.split())


# --- CSV ------------------------------------------------------------------------

_FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠]")


def csv_cell(value: Any) -> Any:
    """A value for a CSV file that a spreadsheet may open; numbers stay what they are.

    Text that a spreadsheet would take for a formula gets an apostrophe before it, as they write
    it themselves; so does such text that begins with one, and :func:`from_csv` gives all back.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def from_csv(text: str) -> str:
    """The text that :func:`csv_cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


# --- LaTeX ----------------------------------------------------------------------

_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta",
    "η": "eta", "θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu",
    "ξ": "xi", "π": "pi", "ρ": "rho", "ς": "varsigma", "σ": "sigma", "τ": "tau", "υ": "upsilon",
    "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega", "ϑ": "vartheta", "ϕ": "phi", "ϖ": "varpi",
    "ϱ": "varrho", "ϵ": "epsilon", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda",
    "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
#: Greek capitals, and omicron, that look like Latin letters
_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))
_MATHS = {
    "±": "pm", "∓": "mp", "×": "times", "÷": "div", "→": "to", "←": "leftarrow",
    "↔": "leftrightarrow", "↑": "uparrow", "↓": "downarrow", "⇒": "Rightarrow", "⇐": "Leftarrow",
    "⇔": "Leftrightarrow",
    "≤": "leq", "≥": "geq", "≠": "neq", "≈": "approx", "≡": "equiv", "∼": "sim", "∝": "propto",
    "∞": "infty", "∂": "partial", "∇": "nabla", "∑": "sum", "∏": "prod", "∫": "int", "√": "surd",
    "∈": "in", "∉": "notin", "⊂": "subset", "⊆": "subseteq", "∪": "cup", "∩": "cap",
    "∅": "emptyset", "∀": "forall", "∃": "exists", "¬": "neg", "∧": "wedge", "∨": "vee",
    "⊕": "oplus", "⊗": "otimes",
    "·": "cdot", "∘": "circ", "⋆": "star", "★": "star", "∗": "ast", "∥": "parallel", "⊥": "perp",
    "†": "dagger", "‡": "ddagger", "•": "bullet", "ℓ": "ell", "ℝ": "Re", "∣": "mid", "◦": "circ",
    "⟨": "langle", "⟩": "rangle", "⌊": "lfloor", "⌋": "rfloor", "⌈": "lceil", "⌉": "rceil",
}  # fmt: skip
_TEXT = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "`": r"\`{}",
    "–": "--", "—": "---", "−": "$-$", "‐": "-", "‑": "-", "…": r"\ldots{}", "“": "``", "”": "''",
    "‘": "`", "’": "'", "„": ",,", "«": r"$\ll$", "»": r"$\gg$", "°": r"$^\circ$", "′": r"$'$",
    "µ": r"$\mu$", "§": r"\S{}", "¶": r"\P{}", "©": r"\copyright{}", "£": r"\pounds{}",
    "¡": "!`", "¿": "?`", "ı": r"\i{}", "ł": r"\l{}", "Ł": r"\L{}", "ø": r"\o{}", "Ø": r"\O{}",
    "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ß": r"\ss{}", "å": r"\aa{}",
    "Å": r"\AA{}",
    **{c: rf"$\{name}$" for c, name in (_GREEK | _MATHS).items()},
    **_LATIN,
    **{c: f"$^{{{d}}}$" for c, d in zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True)},
    **{c: f"$_{{{d}}}$" for c, d in zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True)},
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u",
    "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
    "\u0323": "d", "\u0331": "b",
}  # fmt: skip
#: two characters that a font would draw as one other: a dash, a quotation mark
_LIGATURES = re.compile(r"(?<=[-'`,!?])(?=[-'`,])")


def latex(text: str) -> str:
    """Text as LaTeX that pdflatex sets with no package: what it has no glyph for is its number."""
    return "".join(map(_latex_character, _parts(one_line(text))))


def latex_first(text: str) -> str:
    """LaTeX as a row begins with it: after a row's end, ``[`` and ``*`` are an option's."""
    return "{}" + text if text.lstrip().startswith(("[", "*")) else text


def _parts(text: str) -> list[str]:
    """The characters, with nothing between two that would become another."""
    return [part for word in _LIGATURES.split(text) for part in [*word, ""]][:-1]


def _latex_character(c: str) -> str:
    if c == "":
        return "{}"
    if c in _TEXT:
        return _TEXT[c]
    if c.isascii():
        return c if c.isprintable() else " "
    base, marks = unicodedata.normalize("NFD", c)[0], unicodedata.normalize("NFD", c)[1:]
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        base = rf"\{base}" if base in "ij" and marks[0] not in "\u0327\u0323\u0331" else base
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    plain = unicodedata.normalize("NFKC", c)
    if plain != c and len(plain) < 9:  # a wide letter, a ligature
        return "".join(map(_latex_character, plain))
    if unicodedata.category(c) == "Zs":
        return "~"
    return rf"\texttt{{U+{ord(c):04X}}}"


# --- pictures -------------------------------------------------------------------


def legend(label: str) -> str:
    """A line's label as matplotlib shows it: it leaves out those that begin with ``_``."""
    return f" {label}" if label.startswith("_") else label


__all__ = ["csv_cell", "from_csv", "latex", "latex_first", "legend", "markdown", "one_line"]
