"""Wyoming's package imports a module that Python 3.13 drops (it has its own copy for then)."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import wyoming.audio  # noqa: F401
