"""Does the answer agree with what tools and retrieval returned?

These rules certify what nearly repeats its evidence and convict only what can be read off: a citation of something that was
never retrieved, a quotation that stands nowhere, a number, date or id that the evidence gives otherwise. All else is
`unverified`: that few words agree proves nothing. What is captured in part convicts nobody (`unknown`).

`text`, `values` and `claims` read; `sources` says what an answer may rest on; `alignment` finds where a claim is said;
`report` puts them together, once a trace; the graders stand in `support`, `citations`, `numbers`, `quotes`, `stale`,
`utilisation` and `contains`. Words and units are data, in `words.yaml`.
"""

from graders.checks.evidence.citations import Citations, Cited
from graders.checks.evidence.contains import Contains
from graders.checks.evidence.numbers import Numbers
from graders.checks.evidence.quotes import Quotes
from graders.checks.evidence.stale import Stale
from graders.checks.evidence.support import Contradiction, Support
from graders.checks.evidence.utilisation import Utilisation

__all__ = [
    "Citations",
    "Cited",
    "Contains",
    "Contradiction",
    "Numbers",
    "Quotes",
    "Stale",
    "Support",
    "Utilisation",
]
