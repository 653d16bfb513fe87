"""Text as bytes of UTF-8. No I/O."""


def whole_characters(data: bytes) -> int:
    """Return how many of the first bytes make whole characters: all, unless the last one's end is still to come.

    Bytes that are not UTF-8 count as whole.
    """
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if back < size and byte < 0xF8 else len(data)
        if byte < 0x80:
            break
    return len(data)
