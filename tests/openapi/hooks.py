"""How bodies that are no JSON are written."""

import schemathesis


@schemathesis.serializer("application/toml")
def toml(context, value):
    """Whatever was made up: most of it is no TOML, and has to be refused as such."""
    return str(value).encode(errors="replace")
