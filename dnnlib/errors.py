"""What goes wrong through the user's input: one line that says what is wrong, what was got, and how to mend it."""


class UserError(Exception):
    """A mistake in options, files or data. Commands print it without a traceback and exit with 2."""


class ConfigError(UserError):
    """An option or a configuration that cannot work."""


class DataError(UserError):
    """An archive, folder or image that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that is missing, incomplete or of another kind."""


class TrainingError(UserError):
    """A run that cannot go on; its last good checkpoint stays."""
