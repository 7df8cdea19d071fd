"""The suites, for scripts that import them from here."""

from bench.carding.suites import *  # noqa: F403
