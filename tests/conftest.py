"""What holds for every test."""

from hypothesis import settings

# The same examples on every run and no clock: a red run means a change, not luck or a busy machine.
# To look further: `pytest --hypothesis-profile=explore`.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("steady")
