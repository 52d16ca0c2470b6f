"""Time limit: one computation in C that lets no signal handler run."""
#: slow = true
#: endings = ["crash"]
#: seconds = 0.5
print(sum(range(10**12)))
