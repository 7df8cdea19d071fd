"""Personal data and secrets leave a request before it reaches the disk.

rules.yaml  rules    what to look for, as data
            checks   what a pattern cannot say
            text     one text, and JSON inside it
            wire     the places in a serialised request
            redactor the whole, and what happens when it fails
"""

from collector.redaction.redactor import RedactionCounts, Redactor, make_redactor
from collector.redaction.text import Detector, Finding

__all__ = ["Detector", "Finding", "RedactionCounts", "Redactor", "make_redactor"]
