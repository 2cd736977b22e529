"""Trading time for memory: a run's memory plan, its memory estimate, and the methods that act on modules."""
