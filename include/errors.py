"""The errors that people read: each says what happened, to which thing, and what to do."""


class AirlockError(Exception):
    """Something went wrong that a later attempt may heal."""


class PermanentError(AirlockError):
    """Something that no retry can heal: at the edge it becomes Airflow's AirflowFailException."""


class NothingToDo(Exception):
    """There is rightly nothing to do: at the edge it becomes Airflow's AirflowSkipException, with its reason."""


def shown(value: object) -> str:
    """The repr of a value that was refused, cut to about 80 characters so that a message stays readable."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print an integer of more than 4300 digits
        text = f"<an unprintable {type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:79]}…"
