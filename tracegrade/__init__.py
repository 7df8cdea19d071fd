"""The command line: wires collector, graders, gate and store together and holds nothing else."""
