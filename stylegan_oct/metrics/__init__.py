"""How good a generator is: nearness to real scans, usefulness, memorisation, consistency; each beside its floor."""
