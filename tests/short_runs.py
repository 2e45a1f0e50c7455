"""Settings that make a run of each algorithm short, for tests of what surrounds the answer."""

SHORT = {
    "lookahead-smc": "num_levels=5",
    "twisted-smc": "num_levels=5",
    "moment-matched": "num_levels=5",
    "split-gibbs": "num_levels=5 num_sweeps=1 data_step=langevin:4",
    "joint-gibbs": "num_chains=4 num_particles=8 num_warmup=2 num_sweeps=1",
    "langevin": "num_levels=4 num_steps=4",
    "nuts": "num_warmup=8 max_tree_depth=4 flow_steps=4",
    "diff-onebit": "num_levels=5",
    "pnp-onebit": "num_sweeps=4 data_step=langevin:4",
    "dps": "num_levels=8",
    "daps": "num_levels=5 data_step=langevin:4",
    "diffpir": "num_levels=5",
    "sim-dmis": "num_steps=5",
    "qcs-sgm": "num_levels=8 num_steps=1",
}
