"""Secrets in what stations are told and tell: known by their names, and hidden from every record and answer."""

import re
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "(hidden)"
QUOTED_CHARS: Final = 4
"""Shorter secrets are not looked for within texts: they would stand in many by chance."""
_PARTS: Final = ("password", "passphrase", "secret", "privatekey")
_NAMES: Final = frozenset({"vpnkey", "simpin"})
"""NetworkConfiguration and APNType."""
_VALUES: Final = frozenset({"attributevalue", "actualvalue", "value", "variableattribute"})
"""Fields that hold the value of the variable named beside them."""
_IN_ADDRESS: Final = re.compile(r"(?<=://)([^/?#\s@:]*):[^/?#\s]*@")


def is_secret(name: str) -> bool:
    """Whether a field or a variable of this name holds a secret; case, underscores and spaces do not matter."""
    plain = "".join(letter for letter in name.casefold() if letter.isalnum())
    return plain in _NAMES or any(part in plain for part in _PARTS)


def without_secrets(value: Any, inside: str = "") -> Any:
    """JSON values (of the field `inside`) with every secret replaced: fields so named, values of variables so named, passwords
    in addresses."""
    if isinstance(value, Mapping):
        owns = _names_secret(value)
        return {key: _field(key, item, inside, owns) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(item, inside) for item in value]
    return _IN_ADDRESS.sub(rf"\1:{HIDDEN}@", value) if isinstance(value, str) else value


def secrets_of(value: Any) -> frozenset[str]:
    """The texts that `without_secrets` takes out of these JSON values."""
    found: set[str] = set()

    def look(shown: Any, real: Any) -> None:
        if shown == HIDDEN:
            found.update([str(real)] if isinstance(real, (str, int, float)) else [])
        elif isinstance(shown, Mapping):
            for key, item in shown.items():
                look(item, real[key])
        elif isinstance(shown, list):
            for one, other in zip(shown, real, strict=True):
                look(one, other)

    look(without_secrets(value), value)
    return frozenset(found)


def without_texts(value: Any, secrets: frozenset[str]) -> Any:
    """JSON values in which the texts of secrets are replaced wherever they stand: a peer may quote what it was sent."""
    if isinstance(value, Mapping):
        return {key: without_texts(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_texts(item, secrets) for item in value]
    if not isinstance(value, str) or value == HIDDEN:
        return value
    if value in secrets:
        return HIDDEN
    for secret in sorted((one for one in secrets if len(one) >= QUOTED_CHARS), key=len, reverse=True):
        value = value.replace(secret, HIDDEN)
    return value


def _field(key: Any, item: Any, inside: str, owns: bool) -> Any:
    name = str(key).casefold()
    if item is None:
        return None
    if is_secret(name) or (owns and name in _VALUES) or (inside == "vpn" and name == "key"):
        return HIDDEN
    return without_secrets(item, name)


def _names_secret(value: Mapping[Any, Any]) -> bool:
    """Whether these fields tell of a variable that holds a secret."""
    variable = value.get("variable")
    name = variable.get("name") if isinstance(variable, Mapping) else None
    return isinstance(name, str) and is_secret(name)
