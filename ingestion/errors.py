"""The errors that the job raises on purpose, each with one line that a person can act on."""


class ConfigError(Exception):
    """A setting is wrong: nothing was landed, nothing was written. Exit code 2."""

    def __init__(self, where: str, feed: str | None, setting: str, fix: str) -> None:
        """Say the file, the feed (None: the whole file), the setting, and what to do about it."""
        self.where, self.feed, self.setting, self.fix = where, feed, setting, fix
        place = f"{where}: feed '{feed}'" if feed else where
        super().__init__(f"{place}: {setting}: {fix}")


class FeedError(Exception):
    """One feed cannot go on; the others can. Exit code 1."""


class DecodeError(ValueError):
    """A message cannot be decoded; the text says why, without its data."""


class ConflictError(FeedError):
    """Another process committed to the same table first: read the positions again and redo."""
