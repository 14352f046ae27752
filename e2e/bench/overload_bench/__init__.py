"""More requests than the engines' memory can serve: who waits, for how long, and what is lost."""
