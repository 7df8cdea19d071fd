"""Was the right tool called, the right way, and no more than needed?"""

from graders.checks.tools import budget, calls, conduct, expected

__all__ = ["budget", "calls", "conduct", "expected"]
