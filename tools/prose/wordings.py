"""Wordings that are not plain English, with better ones: a check in the format of proselint's own.

Keys are RE2 expressions of whole words, for any case. A blank matches any white space; code in
backticks is an X.
"""

from __future__ import annotations

from proselint.registry.checks import Check, Padding, types

_THING = (
    r"(?:archive|bar|box|chart|file|folder|frame|function|hash|image|job|line|page|picture|query|"
    r"request|row|sentence|shard|statement|task|vector|video)"
)
_UNIT = (
    r"(?:batch|class|dataset|file|frame|image|job|model|node|picture|project|row|shard|stage|video)"
)

BETTER = {
    r"every so manieth": "every N-th",
    r"manieth": "N-th",
    r"the begin of": "the start of",
    r"from the begin": "from the start",
    r"anew": "again",
    r"(?:held|hold|holds|holding) (?:\w+ )?against": "compare with",
    r"(?:is|are|was|were|be|being) told(?: of| apart)?": "is reported, is shown, is told apart",
    r"(?:tell|tells|told) of": "report, name, describe",
    r"(?:tell|tells|told) apart": "distinguish",
    r"stands? for": "represent, mean",
    r"(?:see|sees|saw|seen) to (?:it|that)": "ensure",
    r"nothing half": "no partial result",
    r"(?:is|was|are) no harm": "is safe",
    r"asked for proof": "challenged",
    r"(?:fail|fails|failed|failing|failures?) in passing": "temporary failure",
    r"which is said": "with a message",
    r"say `+X": "run `...`",
    r"condemns?": "make FAILED",
    rf"(?:a|one) {_THING} an? {_UNIT}[^'a-z]": "one ... per ...",
    r"(?:absent|all|false|itself|none|null|true|or) where": "... if",
    r"where there (?:is|are|was|were)": "if there is",
    r"(?:about|after|at least|at most|by|in|of|over) so (?:few|long|many|much)": "this many",
    r"(?:is|are) to be seen": "can be seen",
    r"in vain": "without success",
    r"borne": "tolerated",
    r"the strictest counts": "the strictest one applies",
    r"finely too": "finely as well",
    r"have the next \w+ run": "mark to be redone by the next run",
    r"rows? takes? up": "record",
    r"at the end stands": "the result is",
    r"say it again": "rerun the command",
    r"asks for what": "needs what",
    r"resp\.": "respectively, or",
    r"allows? to": "let, allow ... to",
    r"enables? to": "let, enable ... to",
    r"possibility to": "way to",
    r"informations": "information",
    r"depend(?:s|ed|ing)? from": "depend on",
    r"an other": "another",
    r"so called": "so-called",
    r"(?:a a|an an|and and|for for|in in|is is|of of|or or|the the|to to)": "the word once",
}


def _expression(wording: str) -> str:
    end = r"\b" if wording[-1] not in "X]" else ""
    return rf"\b(?:{wording}){end}".replace(" ", r"\s+")


check = Check(
    check_type=types.PreferredForms(
        items={_expression(wording): better for wording, better in BETTER.items()},
        padding=Padding.RAW,
    ),
    path="dataminer.wordings",
    message="Write like '{}' instead of '{}'.",
)

__register__ = (check,)
