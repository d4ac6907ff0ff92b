"""What componentize-py looks into. It finds the exported interface `target` as the
module of that name, which therefore has to be imported here."""

import target  # noqa: F401
