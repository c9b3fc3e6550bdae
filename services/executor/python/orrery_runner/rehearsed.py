"""The block of a rehearsal: it does nothing, and nobody imports it."""


@data_loader  # type: ignore[name-defined]  # noqa: F821
def nothing(*_args, **_kwargs):
    """Returns nothing, so nothing is written."""
