"""The benchmark: kheopsfs beside its peers, measured in turns on one machine, every copy checked."""
