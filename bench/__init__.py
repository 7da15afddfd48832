"""`make bench`: the figures that a user can measure again. Prints, and decides nothing."""
