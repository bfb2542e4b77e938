"""The nouns that more than one step needs; steps import them, they never import a step."""

__version__ = "0.2.0"  # part of every fingerprint: results of another version are made again


class LungError(Exception):
    """One sentence for the user: what is wrong, with which file, and what to run next."""
