"""The errors that people read. Each says what happened, to which thing, and what to do."""


class AirlockError(Exception):
    """A failure after which a retry may succeed."""


class PermanentError(AirlockError):
    """A failure that no retry can fix. Its task fails at once, as with Airflow's AirflowFailException."""


class NothingToDo(Exception):
    """A run has no work, for a good reason. Its task is skipped, as with Airflow's AirflowSkipException."""


def printable(text: str, keep: str = "") -> str:
    """Return the text without characters that control a terminal, or that a log or a database cannot hold.

    Each is replaced, other than those in `keep`. Half a surrogate pair, "\\ud800", is one of them.
    """
    return "".join(each if each.isprintable() or each in keep else "\N{REPLACEMENT CHARACTER}" for each in text)


def short_repr(value: object) -> str:
    """Return the repr of a refused value, cut to about 80 characters so that a message stays readable."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print an integer of more than 4300 digits
        text = f"<an unprintable {type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:79]}…"
