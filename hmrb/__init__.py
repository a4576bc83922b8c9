"""hmrb: train, evaluate and compare human mesh recovery models. Every number states its protocol."""
