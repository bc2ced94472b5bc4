"""The errors that people read: each says what happened, to which thing, and what to do."""


class AirlockError(Exception):
    """Something went wrong that a later attempt may heal."""


class PermanentError(AirlockError):
    """Something that no retry can heal: at the edge it becomes Airflow's AirflowFailException."""


class NothingToDo(Exception):
    """There is rightly nothing to do: at the edge it becomes Airflow's AirflowSkipException, with its reason."""
