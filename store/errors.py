"""The two ways an operation on the store can fail.

    StoreError
    ├── Retryable   the same call may succeed later: engine down, timeout, disk full
    │   └── OutOfMemory   or in smaller pieces
    └── Permanent   the same input will always fail: malformed data, unknown column

Callers decide by class alone; everything not known to be permanent is retryable.
"""


class StoreError(Exception):
    """The store could not do what it was asked."""


class Retryable(StoreError):
    """The same call may succeed later."""


class OutOfMemory(Retryable):
    """The engine had too little memory for it; less at a time, or the same later, may do. Nothing of it was stored."""


class Permanent(StoreError):
    """The same input will always fail."""
