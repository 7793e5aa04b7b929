"""Errors a person can act on."""


class VmError(Exception):
    """Say what failed and what to do about it; the command ends with `status`."""

    status = 1


class SpecError(VmError):
    """Refuse what was asked for, before anything is started."""

    status = 2
