"""What holds the class in place: every form of the prior against the others, on five subjects."""
