"""Errors a user can mend: they say what was wrong, where, and what to do."""


class UserError(Exception):
    """The work failed for a reason outside the program; the command exits with ``exit_code``."""

    exit_code = 1


class ConfigError(UserError):
    """The configuration, or a model that it names, cannot be used (EX_CONFIG of sysexits.h)."""

    exit_code = 78
