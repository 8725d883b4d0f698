"""What a person touches: command line, configuration, web; wires the rest together and holds no logic."""
