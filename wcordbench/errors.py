"""The one exception a user is meant to see."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: the message is one sentence that names what is wrong and its remedy.

    The command line prints the message and exits with code 2, without a traceback.
    """
