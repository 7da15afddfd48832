"""Twins of what people type: folded in Python, never by the database's locale. Search and sorting use them.

Pure functions; each is idempotent.
"""

import re
import unicodedata

import phonenumbers

_SPACES = re.compile(r"\s+")
_LOOKALIKES = str.maketrans("АВЕКМНОРСТУХ", "ABEKMHOPCTYX")


def fold(text: str) -> str:
    """Compatibility-normalised, lower case, ё as е, runs of spaces as one space, trimmed."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # A bare combining diaeresis after е is another spelling of ё; й must keep its breve, so only this pair is folded.
    return _SPACES.sub(" ", folded.replace("ё", "е").replace("е\u0308", "е")).strip()


def digits(text: str) -> str:
    """ASCII digits of the text, in order."""
    return "".join(str(unicodedata.digit(char)) for char in text if unicodedata.digit(char, None) is not None)


def number_key(text: str) -> str:
    """A document number as it is compared: upper case, letters and digits only, Cyrillic look-alikes as Latin."""
    # Signs go before compatibility makes letters of them: № would become No.
    typed = "".join(char for char in unicodedata.normalize("NFC", text) if char.isalnum())
    upper = unicodedata.normalize("NFKC", typed).upper().translate(_LOOKALIKES)
    return "".join(char for char in upper if char.isalnum())


def phone_e164(text: str) -> str | None:
    """`+79120000001` for a Russian or international number, None when it is not a number."""
    try:
        parsed = phonenumbers.parse(text, "RU")
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def like(text: str) -> str:
    """The pattern of a literal substring for LIKE."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
