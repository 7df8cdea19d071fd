"""The converters, for scripts that import them from here."""

from bench.carding.convert import *  # noqa: F403
