"""Settings of a tiny generator by the kind of its latent; the rest is as in the fixture `tiny`."""

LATENT_KINDS = {
    "bernoulli": {"latent": {"channels": 8, "k": 4}},
    "poisson": {"latent": {"kind": "poisson", "channels": 8}},
    "gaussian": {"latent": {"kind": "gaussian", "channels": 8}, "neuron": "relu", "time_steps": 1},
}
