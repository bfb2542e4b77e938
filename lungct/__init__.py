"""The nouns that more than one step needs; steps import them, they never import a step."""


class LungError(Exception):
    """One sentence for the user: what is wrong, with which file, and what to run next."""
