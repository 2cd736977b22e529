"""How memory is traded for time: the plan of a run, what it will need, and the levers that work on modules."""
